"""Local users: who a token belongs to, and how a person comes to be one.

A person may log in only with all three: an account at the identity provider, an active local
user, and a key in the key store. A bad token is `Unauthenticated`; a good one of somebody who
lacks one of the three is `Forbidden`. While Vault is away, who was let in before goes on for a
while (`backends/bridge.py`, which assembly puts around the key store), but nobody logs in anew.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.errors import Conflict, Forbidden, NotFound, Unavailable
from cvf_app.ids import new_id
from cvf_app.principal import Principal, Role, UserId
from cvf_app.users.identity import Account, Accounts, Identity, NewAccount, Provider
from cvf_app.users.model import NewUser, Tokens, User
from cvf_app.users.store import KeptUser, UserStore
from cvf_app.wire import Wire, decode, encode

PERSON_KEY = "users"
_FULL_BUDGET = 100
_REMEMBERED_FOR = timedelta(seconds=10)
_MOST_REMEMBERED = 10_000
_NOT_HERE = "You have an account, but this instance does not let you in; ask its administrator."


class _Person(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """What is sealed in a user's document."""

    username: str
    subject: str
    email: str
    first_name: str
    last_name: str
    affiliation: str


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A new user, and the first password if we made the account."""

    user: User
    password: str | None


class Users:
    """The people of this instance."""

    def __init__(
        self,
        store: UserStore,
        identity: Identity,
        accounts: Accounts | None,
        keys: KeyStore,
        clock: Clock,
    ) -> None:
        self._store = store
        self._identity = identity
        self._accounts = accounts
        self._keys = keys
        self._clock = clock
        self._remembered: dict[str, tuple[Principal, datetime]] = {}

    async def authenticate(self, token: str) -> Principal:
        """Return whose access token this is.

        A person who was let in is looked up again after ten seconds; one who was not, at once.

        Raises:
            Unauthenticated: the token is not a valid access token for us.
            Forbidden: its owner may not log in here.
        """
        claims = await self._identity.verify(token)
        known = self._remembered.get(claims.subject)
        if known is not None and self._clock() < known[1]:
            return known[0]
        return await self._look_up(claims.subject)

    async def admit(self, token: str) -> tuple[Principal, datetime]:
        """Return whose access token this is as they are now, and until when it is good.

        Raises:
            Unauthenticated: the token is not a valid access token for us.
            Forbidden: its owner may not log in here.
        """
        claims = await self._identity.verify(token)
        return await self._look_up(claims.subject), claims.expires_at

    async def standing(self, user_ids: Collection[UserId]) -> dict[UserId, Role]:
        """Return the roles of those of these users who may log in now."""
        roles = await self._store.active_roles(user_ids)
        with_key = await self._keys.has_user_keys(roles)
        return {user_id: role for user_id, role in roles.items() if user_id in with_key}

    async def _look_up(self, subject: str) -> Principal:
        kept = await self._store.find_by_subject(await self._subject_index(subject))
        if kept is None or not kept.active or not await self._keys.has_user_key(kept.user_id):
            self._remembered.pop(subject, None)
            raise Forbidden(_NOT_HERE)
        person = await self._open(kept)
        asker = Principal(user_id=kept.user_id, username=person.username, role=kept.role)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[subject] = (asker, self._clock() + _REMEMBERED_FOR)
        return asker

    async def exchange_code(self, code: str, verifier: str, redirect_uri: str) -> Tokens:
        """Exchange a code for tokens, for people who may log in here.

        Raises:
            Unauthenticated: the provider refuses the code.
            Forbidden: this person may not log in here.
            Unavailable: the provider or the key store is away.
        """
        # What is remembered is for people who are in; a new login needs the key store itself.
        await self._keys.state()
        return await self._admit(await self._identity.exchange_code(code, verifier, redirect_uri))

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token for new tokens, for people who may log in here.

        Raises:
            Unauthenticated: the provider refuses it.
            Forbidden: this person may not log in here.
        """
        return await self._admit(await self._identity.refresh(refresh_token))

    async def provider(self) -> Provider:
        """Return where a client sends people to log in."""
        return await self._identity.provider()

    async def get(self, user_id: UserId) -> User:
        """Return a user.

        Raises:
            NotFound: there is none.
        """
        kept = await self._store.find(user_id)
        if kept is None:
            raise NotFound("There is no such user.")
        return await self._show(kept)

    async def list_users(self) -> tuple[User, ...]:
        """Return all users."""
        return tuple([await self._show(kept) for kept in await self._store.list_users()])

    async def register(self, new: NewUser, by: Role) -> Registered:
        """Give a person an account at the provider, a local user and a key.

        Done again after it failed half-way, it goes on where it stopped. An account that the
        provider had before is taken as it is, and its password stays.

        Raises:
            Forbidden: this role may not grant that one.
            Conflict: there is a user of this name.
            Unavailable: the provider lets us make no accounts and has none of this name.
        """
        check_grant(by, new.role)
        if self._accounts is None:
            raise Unavailable("The identity provider does not let us make accounts.")
        found = await self._accounts.find(new.username)
        kept = await self._claim(new, found)
        password = None
        if found is None:
            password = secrets.token_urlsafe(18)
            found = await self._accounts.create(_account(new), password)
        elif kept.own_account:
            # Made by an attempt that failed before anybody saw the password.
            password = secrets.token_urlsafe(18)
            await self._accounts.set_password(found, password)
        return Registered(user=await self._finish(kept, new, found.subject), password=password)

    async def ensure_administrator(self, username: str, subject: str, email: str) -> User:
        """Make sure that the first administrator, whose account there is already, may log in.

        The role is `developer`, which alone reaches both data and people. Repeatable.
        """
        new = NewUser(username=username, email=email, role=Role.DEVELOPER)
        kept = await self._store.find_by_username(await self._username_index(username))
        if kept is not None and kept.registered:
            await self._keys.create_user_key(kept.user_id)
            return await self._show(kept)
        account = Account(account_id="", subject=subject, username=username, active=True)
        return await self._finish(await self._claim(new, account), new, subject)

    async def _admit(self, tokens: Tokens) -> Tokens:
        await self.authenticate(tokens.access_token)
        return tokens

    async def _claim(self, new: NewUser, account: Account | None) -> KeptUser:
        """Reserve the name before anything is made elsewhere, or take over a failed attempt."""
        index = await self._username_index(new.username)
        old = await self._store.find_by_username(index)
        if old is not None and old.registered:
            raise Conflict("There is a user of this name already.", path="$.username")
        if old is None:
            user_id = UserId(new_id())
            kept = KeptUser(
                user_id=user_id,
                sealed=await self._seal(user_id, new, subject=""),
                username_index=index,
                # Unique, as the index wants it, and no digest of any subject.
                subject_index=f"unknown:{user_id}",
                role=new.role,
                active=False,
                registered=False,
                own_account=account is None,
                attempt=1,
                budget=_FULL_BUDGET,
            )
            await self._store.add(kept)
            return kept
        kept = msgspec.structs.replace(old, role=new.role, attempt=old.attempt + 1)
        if not await self._store.replace_attempt(kept, old.attempt):
            raise Conflict("Somebody else is registering this user.", path="$.username")
        return kept

    async def _finish(self, kept: KeptUser, new: NewUser, subject: str) -> User:
        """Make the key, then open the door: in this order nobody is half let in."""
        await self._keys.create_user_key(kept.user_id)
        done = msgspec.structs.replace(
            kept,
            sealed=await self._seal(kept.user_id, new, subject),
            subject_index=await self._subject_index(subject),
            active=True,
            registered=True,
        )
        if not await self._store.replace_attempt(done, kept.attempt):
            raise Conflict("Somebody else is registering this user.", path="$.username")
        return await self._show(done)

    async def _show(self, kept: KeptUser) -> User:
        person = await self._open(kept)
        return User(
            user_id=kept.user_id,
            email=person.email,
            username=person.username,
            first_name=person.first_name,
            last_name=person.last_name,
            affiliation=person.affiliation,
            role=kept.role,
            active=kept.active,
            allow_login=await self._keys.has_user_key(kept.user_id),
            budget=kept.budget,
        )

    async def _seal(self, user_id: UserId, new: NewUser, subject: str) -> str:
        person = _Person(
            username=new.username,
            subject=subject,
            email=new.email,
            first_name=new.first_name,
            last_name=new.last_name,
            affiliation=new.affiliation,
        )
        return await self._keys.encrypt(PERSON_KEY, encode(person), user_id.encode())

    async def _open(self, kept: KeptUser) -> _Person:
        opened = await self._keys.decrypt(PERSON_KEY, kept.sealed, kept.user_id.encode())
        return decode(opened, _Person)

    async def _username_index(self, username: str) -> str:
        return await self._keys.hmac(PERSON_KEY, f"username:{username.casefold()}".encode())

    async def _subject_index(self, subject: str) -> str:
        return await self._keys.hmac(PERSON_KEY, f"subject:{subject}".encode())


def check_grant(by: Role, granted: Role) -> None:
    """Let an administrator grant plain use and what they have themselves; a developer, all.

    Raises:
        Forbidden: this role may not grant that one.
    """
    may_grant = by is Role.DEVELOPER or (
        by is Role.SERVER_ADMIN and granted in {Role.USER, Role.SERVER_ADMIN}
    )
    if not may_grant:
        raise Forbidden("You can grant only a role that you have yourself.")


def _account(new: NewUser) -> NewAccount:
    return NewAccount(
        username=new.username,
        email=new.email,
        first_name=new.first_name,
        last_name=new.last_name,
    )
