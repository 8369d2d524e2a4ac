"""A Keycloak realm: an OpenID provider with two more powers, token exchange and accounts.

Promises: tokens are verified and codes exchanged exactly as with any other provider (`Oidc`). A
person's token leaves for another service only exchanged, with that service as its one audience.
A password is set only where somebody must tell it; else the person sets it by a mailed link.
"""

import contextlib
from collections.abc import Collection

import structlog

from cvf_app.backends.http import Http
from cvf_app.backends.keycloak import ExchangeRefused, KeycloakServer, Representation
from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.errors import Invalid, NotFound, Unauthenticated, Unavailable
from cvf_app.users.identity import Account, NewAccount
from cvf_app.users.identity.oidc import Oidc
from cvf_app.users.model import Tokens
from cvf_app.wire import Heard, convert

log = structlog.get_logger("cv3.identity")

# The link stays good over a weekend.
INVITED_SECONDS = 3 * 24 * 3600
# With a target's name behind it: the optional client scope that `scripts/setup_keycloak.py` makes.
TARGET_SCOPE = "to-"
# Keycloak's words for a token whose login has ended; its `error` says only `invalid_request`.
_BAD_TOKEN = "Invalid token"  # noqa: S105 - a sentence


class Keycloak(Oidc):
    """A realm as an OpenID provider; see `Identity` for what each method promises."""

    def __init__(  # noqa: PLR0913 - what any provider needs, and the server for the rest
        self,
        http: Http,
        keys: KeyStore,
        clock: Clock,
        server: KeycloakServer,
        *,
        issuer: str,
        client_id: str,
        backend_url: str = "",
        redirects: Collection[str] = (),
    ) -> None:
        """Be a provider by discovery, and exchange tokens by `server`."""
        super().__init__(
            http,
            keys,
            clock,
            issuer=issuer,
            client_id=client_id,
            backend_url=backend_url,
            redirects=redirects,
        )
        self._server = server

    async def exchange_for(self, token: str, audience: str) -> Tokens:
        """Exchange a person's access token for one that only `audience` takes.

        It lives as long as a token of a login, so its receiver looks at its age.
        """
        try:
            given = await self._server.exchange(
                token, audience=audience, scope=f"{TARGET_SCOPE}{audience}"
            )
            return convert(given, Tokens)
        except ExchangeRefused as refused:
            if refused.error == "invalid_token" or refused.description == _BAD_TOKEN:
                raise Unauthenticated("Your login has expired; log in again.") from refused
            log.warning("exchange_refused", audience=audience, reason=refused.error)
            raise Unavailable(
                f"Keycloak gives us no tokens for {audience}: an administrator must let it, by "
                f"scripts/setup_keycloak.py --target {audience}."
            ) from refused
        except Invalid as fault:
            raise Unavailable("Keycloak answered something that is no token.") from fault


class _User(Heard, frozen=True, kw_only=True):
    id: str
    username: str
    enabled: bool = False
    email: str = ""


class KeycloakAccounts:
    """The accounts of a realm; see `Accounts` for what each method promises.

    A token names a person by the account's id, so that is its subject.
    """

    def __init__(self, server: KeycloakServer, redirect: str = "") -> None:
        """Look after the accounts of this realm; `redirect` is where an invited person goes on."""
        self._server = server
        self._redirect = redirect

    @property
    def invites(self) -> bool:
        """Say yes: the realm mails a link by which people set their own password."""
        return True

    async def find(self, username: str) -> Account | None:
        """Return the account of this name, or none; letter case does not count."""
        wanted = username.casefold()
        found = await self._server.users(username=wanted, exact="true")
        accounts = map(_account, found)
        return next((each for each in accounts if each.username.casefold() == wanted), None)

    async def create(self, account: NewAccount, password: str | None) -> Account:
        """Make an account with a first password, or with one still to be set."""
        user: Representation = {
            "username": account.username,
            "enabled": True,
            **_person(account),
        }
        if password is None:
            user["requiredActions"] = ["UPDATE_PASSWORD"]
        else:
            user["credentials"] = [{"type": "password", "value": password, "temporary": False}]
        return _account(await self._server.user(await self._server.create_user(user)))

    async def invite(self, account: Account) -> None:
        """Have the realm mail a link by which a person sets their own password."""
        try:
            await self._server.mail_actions(
                account.account_id,
                ["UPDATE_PASSWORD"],
                seconds=INVITED_SECONDS,
                redirect_uri=self._redirect or None,
            )
        except Invalid as fault:
            raise Unavailable(
                "Keycloak mails no invitation: the account has no e-mail address, or the first of "
                "Keycloak.RedirectURLs is not registered (run scripts/setup_keycloak.py)."
            ) from fault

    async def delete(self, account: Account) -> None:
        """Remove an account; one that is gone is fine."""
        with contextlib.suppress(NotFound):
            await self._server.delete_user(account.account_id)

    async def change(self, account: Account, person: NewAccount) -> None:
        """Give an account other names, another e-mail address and affiliation; its name stays."""
        await self._update(account, _person(person))

    async def set_password(self, account: Account, password: str) -> None:
        """Give an account another password."""
        await self._server.set_password(account.account_id, password)

    async def set_active(self, account: Account, *, active: bool) -> None:
        """Let an account log in, or not; logins that it has cannot be refreshed then."""
        await self._update(account, {"enabled": active})

    async def list_accounts(self) -> tuple[Account, ...]:
        """Return all accounts."""
        return tuple(map(_account, await self._server.users()))

    async def _update(self, account: Account, changes: Representation) -> None:
        # Keycloak judges an account as a whole, so what is not changed is sent as it was.
        present = await self._server.user(account.account_id)
        attributes = {**present.get("attributes", {}), **changes.get("attributes", {})}
        await self._server.update_user(
            account.account_id, {**present, **changes, "attributes": attributes}
        )


def _person(account: NewAccount) -> Representation:
    return {
        "email": account.email,
        # Without both names the first login stops at a form that asks for them.
        "firstName": account.first_name or account.username,
        "lastName": account.last_name or account.username,
        "attributes": {"affiliation": [account.affiliation] if account.affiliation else []},
    }


def _account(user: Representation) -> Account:
    try:
        read = convert(user, _User)
    except Invalid as fault:
        raise Unavailable("Keycloak answered something that is no account.") from fault
    return Account(
        account_id=read.id,
        subject=read.id,
        username=read.username,
        active=read.enabled,
        email=read.email,
    )
