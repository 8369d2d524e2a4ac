"""The real servers of full mode for tests, as frozen values that say where each is.

How one is found: `CV3_TEST_KEYCLOAK` (and so on) names an address and
`CV3_TEST_KEYCLOAK_CREDENTIALS` a file of its secrets, as `scripts/services.sh up` writes it;
else `CV3_TEST_SERVICES` names a file with all that `up` printed; else the server is started from
the cache of `scripts/services.sh`, in a temporary folder, and stopped again; else the test is
skipped with the reason.
"""

import json
import os
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.services import running as programs
from scripts.services import vault as vault_program
from scripts.services.cache import Cache, default_cache
from scripts.services.errors import NotAvailable
from scripts.services.known import KNOWN
from tests.support import table
from tests.support.services import missing


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that answers; `facts` is what `scripts/services.sh up` says of it."""

    name: str
    facts: Mapping[str, Any]
    secrets: Mapping[str, Any] = field(repr=False)
    data: Path | None = None

    @property
    def address(self) -> str:
        return str(self.facts["address"])

    @property
    def port(self) -> int:
        """The port of its address."""
        return int(urlsplit(self.address).port or 0)

    def start(self) -> None:
        """Start it again on its data and its ports."""
        programs.up(KNOWN[self.name], Cache(default_cache()), self._own())

    def stop(self) -> None:
        """Ask it to end and wait for it."""
        programs.down(KNOWN[self.name], self._own())

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        programs.kill(KNOWN[self.name], self._own())

    def _own(self) -> Path:
        if self.data is None:
            raise RuntimeError(f"{self.name} was given by its address; it is not ours to stop")
        return self.data


class Login(Running):
    """A server that one user name and password open."""

    @property
    def username(self) -> str:
        return str(self.secrets["username"])

    @property
    def password(self) -> str:
        return str(self.secrets["password"])


class Keycloak(Login):
    """Its administrator is one of the realm `master`."""


class Neo4j(Login):
    """Its address is one of Bolt."""


class Vault(Running):
    """A Vault with its root token and its key."""

    @property
    def root_token(self) -> str:
        return str(self.secrets["root_token"])

    def seal(self) -> None:
        """Seal it, as an operator would."""
        vault_program.seal(self.address, self.root_token)

    def unseal(self) -> None:
        """Unseal it."""
        vault_program.unseal(self.address, list(self.secrets["unseal_keys"]))


@dataclass(frozen=True, kw_only=True)
class Mail:
    """One mail that was taken: what the client said, and the message."""

    sender: str
    recipients: tuple[str, ...]
    login: str | None
    tls: bool
    message: EmailMessage


class Smtp(Login):
    """Three ports: STARTTLS with a login, TLS from the start with a login, plain without one."""

    @property
    def host(self) -> str:
        return str(self.facts["host"])

    @property
    def port(self) -> int:
        return int(self.facts["port"])

    @property
    def tls_port(self) -> int:
        return int(self.facts["tls_port"])

    @property
    def plain_port(self) -> int:
        return int(self.facts["plain_port"])

    @property
    def ca(self) -> Path:
        """The authority that signed its certificate."""
        return Path(self.facts["ca"])

    def mails(self) -> list[Mail]:
        """Return all mails, the oldest first."""
        return [_mail(file) for file in sorted(Path(self.facts["mails"]).glob("*.json"))]

    @contextmanager
    def answering(self, line: str) -> Iterator[None]:
        """Let it answer this to every message, until the end of the block; `hang`: nothing."""
        file = Path(self.facts["answer"])
        file.write_text(line)
        try:
            yield
        finally:
            file.unlink()


class Prometheus(Running):
    """Its configuration may be written anew."""

    @property
    def configuration(self) -> Path:
        return Path(self.facts["configuration"])

    @property
    def promtool(self) -> Path:
        return Path(self.facts["promtool"])

    def reload(self) -> None:
        """Let it read its configuration again; an error of it is raised."""
        request = urllib.request.Request(f"{self.address}/-/reload", method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass


class OidcProvider(Running):
    """Its address is its issuer."""

    @property
    def client_id(self) -> str:
        return str(self.secrets["client_id"])

    @property
    def client_secret(self) -> str:
        return str(self.secrets["client_secret"])


_VALUES: dict[str, type[Running]] = {
    "keycloak": Keycloak,
    "neo4j": Neo4j,
    "oidc-provider": OidcProvider,
    "prometheus": Prometheus,
    "smtp": Smtp,
    "vault": Vault,
    "vault-sealed": Vault,
}


@contextmanager
def running(name: str, *, own: bool = False) -> Iterator[Any]:
    """Give a server until the end of the block; `own`: one that may be stopped and broken.

    Raises:
        Missing: it cannot be had; the text is the reason to skip.
    """
    found = None if own else _given(name)
    if found is not None:
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="cv3-test-", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        try:
            facts = programs.up(KNOWN[name], Cache(default_cache()), data)
        except NotAvailable as reason:
            raise missing(name, str(reason)) from reason
        note = table.stand_in if KNOWN[name].stands_in else table.real
        note(name, f"{KNOWN[name].what}, started here")
        try:
            yield _value(name, facts, facts.get("credentials"), data)
        finally:
            programs.down(KNOWN[name], data)


def _given(name: str) -> Running | None:
    variable = f"CV3_TEST_{name.upper().replace('-', '_')}"
    address = os.environ.get(variable)
    if address:
        table.real(name, "by address")
        return _value(name, {"address": address}, os.environ.get(f"{variable}_CREDENTIALS"))
    told = os.environ.get("CV3_TEST_SERVICES")
    facts = json.loads(Path(told).read_bytes()).get(name) if told else None
    if not facts or facts["state"] != "running":
        return None
    table.real(name, f"{KNOWN[name].what}, by CV3_TEST_SERVICES")
    return _value(name, facts, facts.get("credentials"))


def _value(
    name: str, facts: Mapping[str, Any], credentials: str | None, data: Path | None = None
) -> Running:
    secrets = json.loads(Path(credentials).read_bytes()) if credentials else {}
    return _VALUES.get(name, Running)(name=name, facts=facts, secrets=secrets, data=data)


def _mail(file: Path) -> Mail:
    told = json.loads(file.read_bytes())
    raw = (file.parent / told["message"]).read_bytes()
    return Mail(
        sender=told["sender"],
        recipients=tuple(told["recipients"]),
        login=told["login"],
        tls=told["tls"],
        message=message_from_bytes(raw, policy=policy.default),
    )
