"""Prepare a Vault for one instance: engines, policies, roles; issue and unwrap secret ids.

What `scripts/setup_vault.sh` runs; the standard library alone, so that it also runs on the machine
of Vault's administrators. Promises: it may be repeated and then changes nothing that is right
already; it never changes or removes an engine or a role of others; no token and no secret id is
taken from an argument, printed or written anywhere but into the file of `--unwrap`.
"""

import argparse
import json
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from string import Template
from typing import Any

HERE = Path(__file__).resolve().parent
PERIOD = "1h"
WRAPPED_FOR = "15m"
_SECONDS = 30.0
_WORD = re.compile(r"\w+(?:[.-]\w+)*", re.ASCII)


class Failed(Exception):
    """It cannot be done; the text says what to do about it."""


class Vault:
    """One Vault with the token of its administrator."""

    def __init__(self, host: str, token: str, ca: str = "") -> None:
        """Remember where it is."""
        if not host.startswith(("https://", "http://")):
            raise Failed("Vault.Host in the configuration must be an address: https://…")
        self._host = host.rstrip("/")
        self._token = token
        context = ssl.create_default_context(cafile=ca or None)
        # Neither proxies nor redirects: the token goes to this address alone.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            _NoRedirect(),
        )

    def call(
        self,
        method: str,
        path: str,
        data: dict[str, Any] | None = None,
        wrap: str = "",
        missing: bool = False,  # noqa: FBT001, FBT002 - named at every call
    ) -> dict[str, Any] | None:
        """Ask Vault; nothing when it is `missing` and may be.

        Raises:
            Failed: Vault does not answer or refuses.
        """
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self._host}/v1/{path}", data=body, method=method
        )
        request.add_header("X-Vault-Token", self._token)
        request.add_header("X-Vault-Request", "true")
        if wrap:
            request.add_header("X-Vault-Wrap-TTL", wrap)
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                content = answer.read()
        except urllib.error.HTTPError as fault:
            if fault.code == 404 and missing:  # noqa: PLR2004 - there is none
                return None
            said = " ".join(_errors(fault.read()))
            raise Failed(f"Vault answers {fault.code} to {method} {path}: {said}") from None
        except OSError as fault:
            raise Failed(f"Vault does not answer at {self._host}: {fault}") from None
        found: dict[str, Any] = json.loads(content) if content else {}
        return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A standby node redirects; the token must not follow."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""
        return


def _errors(content: bytes) -> list[str]:
    try:
        return [str(each) for each in json.loads(content).get("errors", [])]
    except (ValueError, AttributeError):
        return []


def leads(prefix: str) -> tuple[str, str]:
    """Return how our secrets' paths and our transit keys' names begin; as `backends/vault.py`."""
    kept = prefix.strip("/")
    if not kept:
        return "", ""
    if not all(_WORD.fullmatch(word) for word in kept.split("/")):
        raise Failed(
            "Vault.KV2Prefix has words of letters, digits and _, with single . or - inside."
        )
    return f"{kept}/", f"{kept.replace('/', '.-')}--"


def engine(vault: Vault, path: str, kind: str, options: dict[str, str]) -> None:
    """Mount an engine where there is none."""
    mounts = vault.call("GET", "sys/mounts") or {}
    there = mounts.get("data", mounts).get(f"{path}/")
    if there is None:
        vault.call("POST", f"sys/mounts/{path}", {"type": kind, "options": options})
        told(f"mounted {kind} at {path}/")
        return
    version = (there.get("options") or {}).get("version", "1")
    if there["type"] != kind or options.get("version", version) != version:
        raise Failed(
            f"At {path}/ there is an engine '{there['type']}' of version {version} already, not "
            f"{kind} {options.get('version', '')}: choose another path in the configuration."
        )


def approle(vault: Vault) -> None:
    """Enable logging in by role where it is not."""
    methods = vault.call("GET", "sys/auth") or {}
    if "approle/" not in methods.get("data", methods):
        vault.call("POST", "sys/auth/approle", {"type": "approle"})
        told("enabled approle")


def role(vault: Vault, name: str, policy: str, cidrs: list[str], seconds: str) -> str:
    """Write a policy and the role that has it alone; return the role's id."""
    vault.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
    vault.call(
        "POST",
        f"auth/approle/role/{name}",
        {
            "token_policies": [name],
            # Not what every login has: our policy names all that we do.
            "token_no_default_policy": True,
            # A number of uses would end a service after so many calls.
            "token_num_uses": 0,
            "token_period": PERIOD,
            "token_type": "service",
            "bind_secret_id": True,
            # Every worker, and every restart of one, logs in with the same secret id.
            "secret_id_num_uses": 0,
            # What is not asked for stays as it is; a new role has neither bounds nor an end.
            **({"secret_id_ttl": seconds} if seconds else {}),
            **({"secret_id_bound_cidrs": cidrs, "token_bound_cidrs": cidrs} if cidrs else {}),
        },
    )
    told(f"wrote policy and role {name}")
    found = vault.call("GET", f"auth/approle/role/{name}/role-id") or {}
    return str(found["data"]["role_id"])


def unwrap(vault: Vault, place: Path) -> None:
    """Write the secret id behind a wrapping token into a file that only its owner reads."""
    try:
        found = vault.call("POST", "sys/wrapping/unwrap") or {}
    except Failed as fault:
        raise Failed(
            f"{fault}\nA wrapping token is good once and for {WRAPPED_FOR}. If you have not used "
            "it, somebody else has: revoke the secret id, and issue another one."
        ) from None
    given = found["data"]
    lines = [f"VAULT_SECRET_ID={given['secret_id']}"]
    draft = place.with_name(f".{place.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        kept = place.read_text().splitlines() if place.exists() else []
        kept = [line for line in kept if not line.startswith("VAULT_SECRET_ID=")]
        out.write("\n".join([*kept, *lines]) + "\n")
    draft.replace(place)
    told(f"wrote VAULT_SECRET_ID into {place}")


def told(sentence: str) -> None:
    """Say what was done, beside the result on standard output."""
    print(sentence, file=sys.stderr)


def prepare(vault: Vault, given: dict[str, Any], asked: argparse.Namespace) -> dict[str, str]:
    """Make engines, policies and roles, and a wrapped secret id if asked for."""
    secrets, keys = leads(given.get("KV2Prefix", ""))
    transit = given.get("TransitPath", "transit").strip("/")
    kv2 = given.get("KV2Path", "secret").strip("/")
    engine(vault, transit, "transit", {})
    engine(vault, kv2, "kv", {"version": "2"})
    approle(vault)
    base = secrets.rstrip("/").replace("/", "-") or "cafe-variome"
    fields = {"TRANSIT": transit, "KV2": kv2, "PREFIX": secrets, "KEYS": keys}
    ids = {}
    for name, file in ((base, "whole.hcl"), (f"{base}-query", "query.hcl")):
        policy = Template((HERE / file).read_text()).substitute(fields)
        ids[name] = role(vault, name, policy, asked.bound_cidr, asked.secret_id_ttl)
    wanted = f"{base}-query" if asked.issue == "query" else base
    result = {"role": wanted, "VAULT_ROLE_ID": ids[wanted]}
    if asked.issue:
        path = f"auth/approle/role/{wanted}/secret-id"
        wrapped = vault.call("POST", path, {}, wrap=WRAPPED_FOR) or {}
        result["wrappingToken"] = wrapped["wrap_info"]["token"]
        result["wrappedFor"] = WRAPPED_FOR
    return result


def _token(asked: argparse.Namespace) -> str:
    token = "" if asked.unwrap else os.environ.get("VAULT_TOKEN", "")
    token = (token or sys.stdin.readline()).strip()
    if not token:
        raise Failed("Give a token in VAULT_TOKEN, or on standard input.")
    return token


def main() -> int:
    """Do what was asked; the result is one JSON object on standard output."""
    parser = argparse.ArgumentParser(prog="setup_vault.sh", description=__doc__.split("\n")[0])
    config = os.environ.get("CV3_CONFIG", "instance_config.json")
    parser.add_argument("--config", type=Path, default=Path(config), help="the configuration file")
    parser.add_argument(
        "--issue",
        nargs="?",
        const="whole",
        choices=("whole", "query"),
        help="also make a new secret id and print a token that unwraps it once",
    )
    parser.add_argument("--unwrap", type=Path, metavar="FILE", help="put the secret id into a file")
    parser.add_argument("--bound-cidr", action="append", default=[], help="addresses of ours")
    parser.add_argument("--secret-id-ttl", default="", help="life of secret ids; 0: for ever")
    asked = parser.parse_args()
    try:
        try:
            given = json.loads(asked.config.read_text()).get("Vault", {})
        except (OSError, ValueError) as fault:
            raise Failed(f"There is no readable configuration at {asked.config}.") from fault
        vault = Vault(given.get("Host", ""), _token(asked), os.environ.get("VAULT_CACERT", ""))
        if asked.unwrap:
            unwrap(vault, asked.unwrap)
        else:
            print(json.dumps(prepare(vault, given, asked), indent=2))
    except Failed as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
