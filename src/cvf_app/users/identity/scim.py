"""Accounts at a provider by SCIM 2 (RFC 7644), as the embedded provider of local mode speaks it.

That provider passes over `filter`, fails on `count` and on a user name that is taken, so we page
through the list by `startIndex` and look for the name ourselves before we make an account. We
are its one `client_credentials` client; the secret stands in the key store.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
import structlog

from cvf_app.backends.http import Answer, Http
from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.errors import Conflict, Invalid, Unavailable
from cvf_app.users.identity import Account, NewAccount
from cvf_app.users.identity.oidc import SERVICE, basic
from cvf_app.wire import Heard, decode

T = TypeVar("T")
log = structlog.get_logger("cv3.identity")

SCIM_CLIENT = "identity/scim"
_USER = "urn:ietf:params:scim:schemas:core:2.0:User"
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_REFUSED = 400
_TAKEN = 409
_GONE = 404
_MOST_PAGES = 1000


class _Address(Heard, frozen=True, kw_only=True):
    value: str = ""


class _User(Heard, frozen=True, kw_only=True):
    id: str
    user_name: str
    active: bool = True
    emails: tuple[_Address, ...] = ()


class _Page(Heard, frozen=True, kw_only=True):
    total_results: int
    # SCIM writes this one name with a capital letter.
    resources: tuple[_User, ...] = msgspec.field(name="Resources", default=())


class _Token(Heard, frozen=True, kw_only=True, rename=None):
    access_token: str
    expires_in: int = 60


class Scim:
    """Accounts by SCIM; see `Accounts` for what each method promises.

    The provider's tokens name a person by the user name, so that is an account's subject.
    """

    def __init__(self, http: Http, keys: KeyStore, clock: Clock, *, issuer: str) -> None:
        self._http = http
        self._secrets = keys
        self._clock = clock
        self._users = f"{issuer.rstrip('/')}/scim/v2/Users"
        self._token_endpoint = f"{issuer.rstrip('/')}/oauth/token"
        self._token = ""
        self._good_until: datetime | None = None
        self._one_at_a_time = asyncio.Lock()

    async def find(self, username: str) -> Account | None:
        """Return the account of this name, or none; letter case does not count."""
        wanted = username.casefold()
        accounts = await self.list_accounts()
        return next((each for each in accounts if each.username.casefold() == wanted), None)

    @property
    def invites(self) -> bool:
        """This provider sends no mail: its accounts get a first password."""
        return False

    async def invite(self, account: Account) -> None:
        """Refuse: this provider sends no mail."""
        raise Unavailable(f"{SERVICE} does not invite {account.username}: it sends no mail.")

    async def delete(self, account: Account) -> None:
        """Remove an account; one that is gone is fine."""
        answer = await self._send("DELETE", f"{self._users}/{account.account_id}")
        if not answer.succeeded and answer.status != _GONE:
            raise Unavailable(f"{SERVICE} did not remove the account.")

    async def create(self, account: NewAccount, password: str | None) -> Account:
        """Make an account with a first password."""
        if password is None:
            raise Invalid("The identity provider sends no invitations; give a first password.")
        if await self.find(account.username) is not None:
            raise Conflict("There is an account of this name at the identity provider already.")
        answer = await self._send(
            "POST",
            self._users,
            {
                "schemas": [_USER],
                "userName": account.username,
                **_person(account),
                "password": password,
                "active": True,
            },
        )
        if answer.status == _TAKEN:
            raise Conflict("There is an account of this name at the identity provider already.")
        if answer.status == _REFUSED:
            raise Invalid("The identity provider does not take this name or this e-mail address.")
        return _account(_read(answer, _User))

    async def change(self, account: Account, person: NewAccount) -> None:
        """Give an account other names and another e-mail address; it keeps no affiliation."""
        await self._patch(account, _person(person))

    async def set_password(self, account: Account, password: str) -> None:
        """Give an account another password."""
        await self._patch(account, {"password": password})

    async def set_active(self, account: Account, *, active: bool) -> None:
        """Let an account log in, or not."""
        await self._patch(account, {"active": active})

    async def list_accounts(self) -> tuple[Account, ...]:
        """Return all accounts, a page at a time."""
        found: list[Account] = []
        for _ in range(_MOST_PAGES):
            page = _read(
                await self._send("GET", f"{self._users}?startIndex={len(found) + 1}"), _Page
            )
            found.extend(map(_account, page.resources))
            if not page.resources or len(found) >= page.total_results:
                return tuple(found)
        raise Unavailable(f"{SERVICE} lists accounts without end.")

    async def _patch(self, account: Account, values: Mapping[str, object]) -> None:
        changes = [
            {"op": "replace", "path": path, "value": value} for path, value in values.items()
        ]
        answer = await self._send(
            "PATCH",
            f"{self._users}/{account.account_id}",
            {"schemas": [_PATCH], "Operations": changes},
        )
        if not answer.succeeded:
            raise Unavailable(f"{SERVICE} did not change the account.")

    async def _send(self, method: str, url: str, body: object = None) -> Answer:
        headers = {
            "Authorization": f"Bearer {await self._access_token()}",
            "Accept": "application/scim+json",
        }
        if body is not None:
            headers["Content-Type"] = "application/scim+json"
        return await self._http.send(method, url, json=body, headers=headers, service=SERVICE)

    async def _access_token(self) -> str:
        async with self._one_at_a_time:
            now = self._clock()
            if self._good_until is None or now >= self._good_until:
                client = (await self._secrets.read_secret(SCIM_CLIENT)).data
                answer = await self._http.post_form(
                    self._token_endpoint,
                    {"grant_type": "client_credentials", "scope": "scim"},
                    service=SERVICE,
                    headers={"Authorization": basic(client["client_id"], client["client_secret"])},
                )
                token = _read(answer, _Token)
                self._token = token.access_token
                # Renewed early: a token must not end between two calls.
                self._good_until = now + timedelta(seconds=token.expires_in / 2)
            return self._token


def _person(account: NewAccount) -> dict[str, object]:
    full_name = f"{account.first_name} {account.last_name}".strip() or account.username
    # The provider insists on these two.
    name = {"formatted": full_name, "familyName": account.last_name or account.username}
    if account.first_name:
        name["givenName"] = account.first_name
    return {"name": name, "displayName": full_name, "emails": [{"value": account.email}]}


def _account(user: _User) -> Account:
    return Account(
        account_id=user.id,
        subject=user.user_name,
        username=user.user_name,
        active=user.active,
        email=user.emails[0].value if user.emails else "",
    )


def _read(answer: Answer, kind: type[T]) -> T:
    if not answer.succeeded:
        # Without the body, which may name a person.
        log.error("accounts_refused", status=answer.status)
        raise Unavailable(f"{SERVICE} refused to look after an account.")
    try:
        return decode(answer.body, kind)
    except Invalid as fault:
        raise Unavailable(f"{SERVICE} answered something that is no account.") from fault
