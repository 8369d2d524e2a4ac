"""Keycloak's administration and token exchange, through python-keycloak's asynchronous methods.

What the answers mean stands in `users/identity/keycloak.py`; here they become our errors.
Promises: nothing but the configured server is spoken to, not through a proxy of the environment;
our client logs in as its service account with the secret that the key store has then, and again
when Keycloak takes that login no longer; no name, address or secret is logged. An instance lives
in one event loop: the library's connections do not survive a change of loop.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import httpx
import structlog
from keycloak import KeycloakAdmin, KeycloakOpenID, KeycloakOpenIDConnection
from keycloak.exceptions import (
    KeycloakAuthenticationError,
    KeycloakConnectionError,
    KeycloakError,
)

from cvf_app import metrics
from cvf_app.errors import (
    CafeVariomeError,
    Conflict,
    CredentialsRefused,
    Invalid,
    NotFound,
    Unavailable,
)

T = TypeVar("T")
Representation: TypeAlias = dict[str, Any]
log = structlog.get_logger("cv3.keycloak")

SERVICE = "Keycloak"
# Keycloak's administration looks at the rights in the token, and they stand there if asked for.
RIGHTS_SCOPE = "roles"
_SECONDS = 10
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name of a kind
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_BROKEN = (Unavailable, f"{SERVICE} could not do what it was asked; its log says why.")
_MEANINGS: Mapping[int, tuple[type[CafeVariomeError], str]] = {
    400: (Invalid, f"{SERVICE} does not take this name, e-mail address or redirect address."),
    401: (
        CredentialsRefused,
        f"{SERVICE} refuses our client's login: run scripts/setup_keycloak.py.",
    ),
    403: (Unavailable, f"{SERVICE} lets us change no accounts: run scripts/setup_keycloak.py."),
    404: (NotFound, f"{SERVICE} has no such account."),
    409: (Conflict, f"{SERVICE} has an account of this name or e-mail address already."),
}
# At INFO it writes every address that is asked, and the names of people stand in the queries.
logging.getLogger("httpx").setLevel(logging.WARNING)


class ExchangeRefused(Exception):
    """Keycloak does not exchange this token; `error` and `description` as in RFC 6749, 5.2."""

    def __init__(self, fault: KeycloakError) -> None:
        super().__init__(fault.response_code)
        self.error = _told(fault, "error")
        self.description = _told(fault, "error_description")


# Keycloak did what it is there for, also when the answer is no.
_ANSWERS = (Conflict, ExchangeRefused, Invalid, NotFound)


class _ServiceAccount(KeycloakOpenIDConnection):
    """Our client's own login, whose token shows the rights that a person's login does not."""

    async def a_get_token(self) -> None:
        self.token = await self.keycloak_openid.a_token(
            grant_type="client_credentials", scope=RIGHTS_SCOPE
        )


class KeycloakServer:
    """One realm of a Keycloak, spoken to as our confidential client."""

    def __init__(
        self, *, url: str, realm: str, client_id: str, secret: Callable[[], Awaitable[str]]
    ) -> None:
        """Remember where it is; nothing is opened before the first call."""
        self._url = f"{url.rstrip('/')}/"
        self._realm = realm
        self._client_id = client_id
        self._secret = secret
        self._connection: KeycloakOpenIDConnection | None = None
        self._given_up: list[KeycloakOpenIDConnection] = []

    async def users(self, **query: str) -> list[Representation]:
        """Return the accounts that a query finds; without one all of them."""
        return list(await self._administer(lambda admin: admin.a_get_users(dict(query))))

    async def user(self, account_id: str) -> Representation:
        """Return one account.

        Raises:
            NotFound: there is none.
        """
        return dict(await self._administer(lambda admin: admin.a_get_user(account_id)))

    async def create_user(self, user: Representation) -> str:
        """Make an account and return its id.

        Raises:
            Conflict: there is one of this name or e-mail address.
            Invalid: Keycloak does not take a value.
        """
        return str(await self._administer(lambda admin: admin.a_create_user(user)))

    async def update_user(self, account_id: str, user: Representation) -> None:
        """Replace an account."""
        await self._administer(lambda admin: admin.a_update_user(account_id, user))

    async def delete_user(self, account_id: str) -> None:
        """Remove an account.

        Raises:
            NotFound: there is none.
        """
        await self._administer(lambda admin: admin.a_delete_user(account_id))

    async def set_password(self, account_id: str, password: str) -> None:
        """Give an account another password, which stays until it is changed."""
        await self._administer(
            # Its default is a password that must be changed at the next login.
            lambda admin: admin.a_set_user_password(account_id, password, temporary=False)
        )

    async def mail_actions(
        self, account_id: str, actions: list[str], *, seconds: int, redirect_uri: str | None
    ) -> None:
        """Mail a link under which a person does what is asked.

        Raises:
            Invalid: the account has no e-mail address, or the redirect address is not registered.
            Unavailable: Keycloak could not send the mail.
        """
        await self._administer(
            lambda admin: admin.a_send_update_account(
                account_id,
                actions,
                client_id=None if redirect_uri is None else self._client_id,
                lifespan=seconds,
                redirect_uri=redirect_uri,
            )
        )

    async def exchange(self, token: str, *, audience: str, scope: str) -> Representation:
        """Exchange an access token for one of another audience (standard token exchange).

        Raises:
            ExchangeRefused: Keycloak does not.
            Unavailable: it does not answer, or does not take our own login.
        """

        async def ask(connection: KeycloakOpenIDConnection) -> Representation:
            provider: KeycloakOpenID = connection.keycloak_openid
            try:
                # `a_exchange_token` sends empty fields, which Keycloak refuses.
                return await provider.a_token(
                    grant_type=_EXCHANGE,
                    scope=scope,
                    subject_token=token,
                    subject_token_type=_ACCESS_TOKEN,
                    requested_token_type=_ACCESS_TOKEN,
                    audience=audience,
                )
            except KeycloakAuthenticationError as fault:
                if _told(fault, "error") in {"invalid_client", "unauthorized_client"}:
                    raise
                raise ExchangeRefused(fault) from fault
            except KeycloakError as fault:
                if fault.response_code not in {httpx.codes.BAD_REQUEST, httpx.codes.FORBIDDEN}:
                    raise
                raise ExchangeRefused(fault) from fault

        return await self._call(ask)

    async def close(self) -> None:
        """Close the connections."""
        connection, self._connection = self._connection, None
        given_up, self._given_up = self._given_up, []
        for each in (*given_up, *([connection] if connection else [])):
            await each.keycloak_openid.connection.aclose()
            await each.aclose()

    async def _administer(self, call: Callable[[KeycloakAdmin], Awaitable[T]]) -> T:
        return await self._call(lambda connection: call(KeycloakAdmin(connection=connection)))

    async def _call(self, call: Callable[[KeycloakOpenIDConnection], Awaitable[T]]) -> T:
        with metrics.service_call("keycloak", answers=_ANSWERS):
            try:
                connection = await self._open()
                try:
                    return await call(connection)
                except KeycloakAuthenticationError:
                    # The secret may be a new one, or our login was ended: once more, from nothing.
                    self._give_up(connection)
                    return await call(await self._open())
            except KeycloakError as fault:
                log.warning(
                    "keycloak_refused", status=fault.response_code, reason=_told(fault, "error")
                )
                raise _ours(fault) from fault

    def _give_up(self, connection: KeycloakOpenIDConnection) -> None:
        """Use a connection no more; others may be using it, so it is closed with the server."""
        if self._connection is connection:
            self._connection = None
            self._given_up.append(connection)

    async def _open(self) -> KeycloakOpenIDConnection:
        if self._connection is None:
            secret = await self._secret()
            # Read again: another request may have opened it meanwhile.
            if self._connection is None:
                self._connection = self._connect(secret)
        return self._connection

    def _connect(self, secret: str) -> KeycloakOpenIDConnection:
        connection = _ServiceAccount(
            server_url=self._url,
            realm_name=self._realm,
            client_id=self._client_id,
            client_secret_key=secret,
            grant_type="client_credentials",
            timeout=_SECONDS,
        )
        for each in (connection, connection.keycloak_openid.connection):
            each.async_s = httpx.AsyncClient(trust_env=False, timeout=_SECONDS)
        return connection


def _told(fault: KeycloakError, name: str) -> str:
    """Return a field of an answer; only `error` is to be logged, others may name a person."""
    try:
        told = httpx.Response(httpx.codes.OK, content=fault.response_body or b"").json()
    except ValueError:
        return ""
    return str(told.get(name, "")) if isinstance(told, dict) else ""


def _ours(fault: KeycloakError) -> CafeVariomeError:
    if isinstance(fault, KeycloakConnectionError):
        return Unavailable(f"{SERVICE} does not answer; try again later.")
    kind, sentence = _MEANINGS.get(fault.response_code or 0, _BROKEN)
    return kind(sentence)
