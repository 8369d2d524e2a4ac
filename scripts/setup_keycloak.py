"""Make what Cafe Variome needs in a Keycloak, from `instance_config.json`; may be repeated.

It makes, or puts right where it differs: the realm (an existing one keeps its own settings), the
confidential client with PKCE, device grant and token exchange, its redirect addresses, its
audience mapper, its roles, the one right of its service account (`manage-users`), an optional
client scope for each `--target`, the realm's mail server from `Email`. The client's secret goes
straight into the key store that the configuration names and is never shown.

The administrator of Keycloak is taken from KEYCLOAK_ADMIN_USERNAME and KEYCLOAK_ADMIN_PASSWORD, or
from --admin and the first line of standard input with --password-stdin. Exit codes: 0 done (or, in
a dry run, nothing to do), 1 failed, 2 used wrongly, 3 a dry run found something to do.
"""

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from keycloak import KeycloakAdmin, KeycloakOpenIDConnection
from keycloak.exceptions import (
    KeycloakAuthenticationError,
    KeycloakError,
    KeycloakGetError,
    KeycloakPostError,
)

from cvf_app.assembly import open_backends
from cvf_app.backends.keystore import FileKeyStore, KeyStore
from cvf_app.config import Config, load, surroundings
from cvf_app.errors import CafeVariomeError, Invalid, NotFound, Unauthenticated
from cvf_app.users.identity.configured import check_keycloak, client_id
from cvf_app.users.identity.oidc import CLIENT_SECRET
from cvf_app.users.identity.realm import (
    LEFT_ALONE,
    OFFERED,
    ROLES,
    SCOPES,
    SERVICE_RIGHTS,
    audience_mapper,
    mail_server,
    new_realm,
    our_client,
    target_scope,
)

FAILED, MISUSED, TO_DO = 1, 2, 3


class Setup:
    """One run: what is there is compared with what should be, and each difference is told."""

    def __init__(self, admin: KeycloakAdmin, config: Config, *, dry: bool) -> None:
        self._admin = admin
        self._config = config
        self._realm = config.keycloak.realm
        self._dry = dry
        self.differences = 0

    def run(self, targets: list[str], *, rotate: bool) -> str | None:
        """Put everything right and return the client's secret; none if there is no client yet."""
        if not self._realm_is_there():
            return None
        self._mail()
        self._profile()
        client = self._client()
        if client is None:
            return None
        self._scopes(client)
        self._mapper(client)
        self._roles(client)
        self._rights(client)
        for target in targets:
            self._target(client, target)
        if rotate and self._differs("the client's secret: made anew"):
            self._admin.generate_client_secrets(client)
        return str(self._admin.get_client_secrets(client)["value"])

    def _differs(self, what: str) -> bool:
        """Tell a difference; say whether it is to be put right."""
        self.differences += 1
        print(f"{'to do' if self._dry else 'done '}  {what}")
        return not self._dry

    def _realm_is_there(self) -> bool:
        try:
            self._admin.get_realm(self._realm)
        except KeycloakGetError as fault:
            if fault.response_code != 404:  # noqa: PLR2004 - HTTP's number for "there is none"
                raise
            if not self._differs(f"realm {self._realm}: made, and everything in it"):
                return False
            self._admin.create_realm(new_realm(self._config))
        return True

    def _mail(self) -> None:
        if not self._config.email.smtp.host:
            print("note   no Email.SMTP.Host: the realm mails no invitations until it has one")
            return
        wanted = mail_server(self._config.email)
        present = self._admin.get_realm(self._realm).get("smtpServer") or {}
        shown = {name: value for name, value in wanted.items() if name != "password"}
        same = _holds(present, shown)
        # Keycloak never tells the password, so one is written each time, without a word.
        unseen = same and "password" in wanted and not self._dry
        if unseen or (not same and self._differs(f"mail server of the realm: {wanted['host']}")):
            self._admin.update_realm(self._realm, {"smtpServer": wanted})

    def _profile(self) -> None:
        profile = self._admin.get_realm_users_profile()
        if any(each["name"] == "affiliation" for each in profile["attributes"]):
            return
        if self._differs("attribute of accounts: affiliation"):
            everybody = ["admin", "user"]
            profile["attributes"].append(
                {
                    "name": "affiliation",
                    "displayName": "Affiliation",
                    "permissions": {"view": everybody, "edit": everybody},
                    "validations": {"length": {"max": 255}},
                }
            )
            self._admin.update_realm_users_profile(profile)

    def _client(self) -> str | None:
        wanted = our_client(self._config)
        name = wanted["clientId"]
        found = self._admin.get_client_id(name)
        if found is None:
            if not self._differs(f"client {name}: made, and everything in it"):
                return None
            self._admin.create_client({**wanted, "defaultClientScopes": list(SCOPES)})
            return self._admin.get_client_id(name)
        present = self._admin.get_client(found)
        wrong = [key for key, value in wanted.items() if not _holds(present.get(key), value)]
        if wrong and self._differs(f"client {name}: {', '.join(wrong)}"):
            attributes = {**present.get("attributes", {}), **wanted["attributes"]}
            self._admin.update_client(found, {**present, **wanted, "attributes": attributes})
        return found

    def _scopes(self, client: str) -> None:
        known = {each["name"]: each["id"] for each in self._admin.get_client_scopes()}
        present = {
            each["name"]: each["id"]
            for each in self._admin.get_client_default_client_scopes(client)
        }
        for name in sorted(set(present) - set(SCOPES) - LEFT_ALONE):
            if self._differs(f"scope {name}: taken from every login"):
                self._admin.delete_client_default_client_scope(client, present[name])
        for name in SCOPES:
            if name not in present and self._differs(f"scope {name}: given to every login"):
                self._admin.add_client_default_client_scope(client, known[name], {})
        offered = {each["name"] for each in self._admin.get_client_optional_client_scopes(client)}
        for name in OFFERED:
            if name not in offered and self._differs(f"scope {name}: offered to our client"):
                self._admin.add_client_optional_client_scope(client, known[name], {})

    def _mapper(self, client: str) -> None:
        wanted = audience_mapper("ourselves", client_id(self._config))
        found = {each["name"]: each for each in self._admin.get_mappers_from_client(client)}
        present = found.get(wanted["name"])
        if present is None:
            if self._differs("audience of its tokens: ourselves"):
                self._admin.add_mapper_to_client(client, wanted)
        elif not _holds(present["config"], wanted["config"]) and self._differs(
            "audience of its tokens: mended"
        ):
            self._admin.update_client_mapper(client, present["id"], {**present, **wanted})

    def _roles(self, client: str) -> None:
        present = {each["name"] for each in self._admin.get_client_roles(client)}
        for role, meaning in ROLES.items():
            if role.value not in present and self._differs(f"role {role.value}"):
                self._admin.create_client_role(client, {"name": role.value, "description": meaning})

    def _rights(self, client: str) -> None:
        """Give the service account what it needs, and let the client's tokens show just that."""
        admin = self._admin
        user = admin.get_client_service_account_user(client)["id"]
        owner = str(admin.get_client_id("realm-management"))
        wanted = {name: admin.get_client_role(owner, name) for name in SERVICE_RIGHTS}
        held = {each["name"]: each for each in admin.get_client_roles_of_user(user, owner)}
        shown = {
            each["name"]: each for each in admin.get_client_roles_of_client_scope(client, owner)
        }
        for name, role in wanted.items():
            if name not in held and self._differs(f"right of the service account: {name}"):
                admin.assign_client_role(user, owner, [role])
            if name not in shown and self._differs(f"right that its token may show: {name}"):
                admin.assign_client_roles_to_client_scope(client, owner, [role])
        for name in sorted(set(held) - set(wanted)):
            if self._differs(f"right of the service account taken away: {name}"):
                admin.delete_client_roles_of_user(user, owner, [held[name]])
        for name in sorted(set(shown) - set(wanted)):
            if self._differs(f"right that its token may show taken away: {name}"):
                admin.delete_client_roles_of_client_scope(client, owner, [shown[name]])

    def _target(self, client: str, target: str) -> None:
        if self._admin.get_client_id(target) is None:
            raise NotFound(f"The realm has no client {target}, so nothing can be exchanged for it.")
        name = target_scope(target)["name"]
        found = self._admin.get_client_scope_by_name(name)
        if found is None:
            if not self._differs(f"scope {name}: made"):
                return
            scope = self._admin.create_client_scope(target_scope(target))
        else:
            scope = found["id"]
        offered = {each["name"] for each in self._admin.get_client_optional_client_scopes(client)}
        # Optional: as a default it would put the target into the tokens of every login.
        if name not in offered and self._differs(f"scope {name}: offered to our client"):
            self._admin.add_client_optional_client_scope(client, scope, {})


def _holds(present: object, wanted: object) -> bool:
    """Say whether something is as it should be; what Keycloak adds to it does not matter."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(
            present.get(name) == value for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        # Keycloak's lists are of text, which no type says.
        return sorted(present or ()) == sorted(wanted)  # type: ignore[call-overload] - see above
    return present == wanted


async def keep(keys: KeyStore, secret: str) -> bool:
    """Write the client's secret into the key store; say whether it was another one."""
    try:
        present = (await keys.read_secret(CLIENT_SECRET)).data
    except NotFound:
        present = {}
    wanted = {**present, "client_secret": secret}
    if wanted == present:
        return False
    await keys.write_secret(CLIENT_SECRET, wanted)
    return True


async def store(config: Config, secret: str) -> bool:
    """Open the instance's key store, a new one if it keeps files, and keep the secret there."""
    if config.secrets.provider == "file":
        await FileKeyStore.open(Path(config.secrets.path), create=True).close()
    async with open_backends(config) as backends:
        return await keep(backends.keys, secret)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        prog="setup_keycloak.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    described.add_argument("--config", type=Path, help="instance_config.json (default: CV3_CONFIG)")
    described.add_argument("--admin", default=os.environ.get("KEYCLOAK_ADMIN_USERNAME", ""))
    described.add_argument("--admin-realm", default="master", help="where that account is")
    described.add_argument("--password-stdin", action="store_true", help="read it from stdin")
    described.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="CLIENT",
        help="a service (a client of the realm) for which logins may be exchanged; repeatable",
    )
    described.add_argument("--rotate-secret", action="store_true", help="make a new client secret")
    described.add_argument("--dry-run", action="store_true", help="say what would be done")
    return described


def connect(given: argparse.Namespace, config: Config) -> KeycloakAdmin:
    """Log in as Keycloak's administrator.

    Raises:
        Invalid: there is no name or password to log in with.
        Unauthenticated: Keycloak does not take them.
    """
    password = os.environ.get("KEYCLOAK_ADMIN_PASSWORD", "")
    if given.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not password and sys.stdin.isatty():
        password = getpass.getpass(f"Password of {given.admin or 'the administrator'}: ")
    if not given.admin or not password:
        raise Invalid(
            "Who is the administrator of Keycloak? Set KEYCLOAK_ADMIN_USERNAME and "
            "KEYCLOAK_ADMIN_PASSWORD, or use --admin and --password-stdin."
        )
    keycloak = config.keycloak
    connection = KeycloakOpenIDConnection(
        server_url=f"{(keycloak.backend_url or keycloak.url).rstrip('/')}/",
        username=given.admin,
        password=password,
        user_realm_name=given.admin_realm,
        realm_name=keycloak.realm,
        # Making a realm takes a busy Keycloak long, and asking again would make it twice.
        timeout=120,
        max_retries=0,
    )
    try:
        connection.get_token()
    except (KeycloakAuthenticationError, KeycloakPostError) as fault:
        raise Unauthenticated(
            "Keycloak does not take this administrator's name and password."
        ) from fault
    return KeycloakAdmin(connection=connection)


def work(given: argparse.Namespace) -> int:
    """Do one run and return the exit code."""
    config = load(given.config or surroundings().config_path)
    check_keycloak(config)
    setup = Setup(connect(given, config), config, dry=given.dry_run)
    secret = setup.run(given.target, rotate=given.rotate_secret)
    if given.dry_run:
        print(
            "Nothing was changed; without --dry-run it would be."
            if setup.differences
            else "As it should be."
        )
        return TO_DO if setup.differences else 0
    if secret is None:
        raise NotFound("Keycloak did not make the client.")
    if asyncio.run(store(config, secret)):
        print("done   secret of the client: written to the key store")
    print(f"Realm {config.keycloak.realm} is as it should be.")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; refusals are told in a sentence."""
    given = parser().parse_args(arguments)
    try:
        return work(given)
    except Invalid as fault:
        where = f" ({fault.path})" if fault.path else ""
        sys.stderr.write(f"{fault.sentence}{where}\n")
        return MISUSED
    except CafeVariomeError as fault:
        sys.stderr.write(f"{fault.sentence}\n")
    except KeycloakError as fault:
        sys.stderr.write(f"Keycloak refused ({fault}).\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
