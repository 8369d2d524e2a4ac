"""Local users: who a token belongs to, and how a person comes to be one.

A person may log in only with all three: an account at the identity provider, an active local
user, and a key in the key store. A bad token is `Unauthenticated`; a good one of somebody who
lacks one of the three is `Forbidden`, but for a revoked login, with which its tokens end. A
registration that fails is undone as a whole; one whose process died is gone on with when it is
asked for again. While Vault is away, who was let in before goes on for a while
(`backends/bridge.py`), but nobody logs in anew.
"""

import secrets
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta

import msgspec
import structlog

from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.errors import (
    CafeVariomeError,
    Conflict,
    Forbidden,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from cvf_app.ids import new_id
from cvf_app.mail.model import Kind
from cvf_app.mail.service import Mails
from cvf_app.principal import Principal, Role, UserId
from cvf_app.users.arrivals import Arrivals
from cvf_app.users.forms import Registered, account_of, person_of
from cvf_app.users.granting import check_grant
from cvf_app.users.identity import Account, Accounts, Claims, Identity, Provider
from cvf_app.users.model import DeviceLogin, NewUser, Tokens, User
from cvf_app.users.sealing import Person, Sealing
from cvf_app.users.store import KeptUser, UserStore
from cvf_app.web.limits import Alone

_REMEMBERED_FOR = timedelta(seconds=10)
_FRESH_FOR = timedelta(minutes=10)
_MOST_REMEMBERED = 10_000
_REVOKED = "Your login here was revoked; ask the administrator of this instance."
_NOT_HERE = "You have an account, but this instance does not let you in; ask its administrator."
log = structlog.get_logger("cv3.users")


class Users:
    """The people of this instance."""

    def __init__(  # noqa: PLR0913 - what a person consists of stands in as many places
        self,
        store: UserStore,
        identity: Identity,
        accounts: Accounts | None,
        keys: KeyStore,
        clock: Clock,
        *,
        mails: Mails | None = None,
        arrivals: Arrivals | None = None,
        alone: Alone | None = None,
    ) -> None:
        """Keep people in `store`; without `arrivals` nobody is registered by coming here.

        Within `alone` no other process registers a person of the same name.
        """
        self._store = store
        self._identity = identity
        self._accounts = accounts
        self._keys = keys
        self._clock = clock
        self._mails = mails
        self._arrivals = arrivals
        self._alone = alone
        self._sealing = Sealing(keys)
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
        lasts = known is not None and self._clock() < known[1]
        asker = known[0] if known is not None and lasts else await self._look_up(claims)
        return msgspec.structs.replace(asker, issued_at=claims.issued_at)

    def check_fresh(self, asker: Principal) -> None:
        """Refuse what only a new token may do: it is ten minutes old at most (ASVS 5.0, 7.5.3).

        Raises:
            Unauthenticated: the token is older, or does not say when it was issued.
        """
        if asker.issued_at is None or self._clock() - asker.issued_at > _FRESH_FOR:
            raise Unauthenticated("A change of a role needs a fresh login: renew your token.")

    async def admit(self, token: str) -> tuple[Principal, datetime]:
        """Return whose access token this is as they are now, and until when it is good.

        Raises:
            Unauthenticated: the token is not a valid access token for us.
            Forbidden: its owner may not log in here.
        """
        claims = await self._identity.verify(token)
        return await self._look_up(claims), claims.expires_at

    async def standing(self, user_ids: Collection[UserId]) -> dict[UserId, Role]:
        """Return the roles of those of these users who may log in now."""
        roles = await self._store.active_roles(user_ids)
        with_key = await self._keys.has_user_keys(roles)
        return {user_id: role for user_id, role in roles.items() if user_id in with_key}

    def forget(self, user_id: UserId) -> None:
        """Look this person up anew when they ask next; other processes do so within ten seconds."""
        self._remembered = {
            subject: known
            for subject, known in self._remembered.items()
            if known[0].user_id != user_id
        }

    async def _look_up(self, claims: Claims) -> Principal:
        subject = claims.subject
        index = await self._sealing.subject_index(subject)
        kept = await self._store.find_by_subject(index)
        # The key may be remembered while the key store is away; what we noted ourselves counts too.
        let_in = (
            kept is not None
            and kept.active
            and kept.permitted
            and await self._keys.has_user_key(kept.user_id)
        )
        if kept is None or not let_in:
            self._remembered.pop(subject, None)
            if kept is not None and kept.active:
                # Their tokens were good for a login that is over: they count no more.
                raise Unauthenticated(_REVOKED)
            if kept is None and self._arrivals is not None:
                await self._arrivals.note(claims)
            raise Forbidden(_NOT_HERE)
        person = await self._sealing.open(kept.user_id, kept.sealed)
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

    async def start_device(self, challenge: str) -> DeviceLogin:
        """Begin a login by device code, for a machine without a browser.

        Raises:
            Invalid: the provider does not offer it.
        """
        return await self._identity.start_device(challenge)

    async def poll_device(self, device_code: str, verifier: str) -> Tokens:
        """Exchange a device code for tokens, for people who may log in here.

        Raises:
            Invalid: the person has not agreed yet (`code` says whether to ask less often).
            Unauthenticated: nobody agreed in time, or the person said no.
            Forbidden: this person may not log in here.
            Unavailable: the provider or the key store is away.
        """
        await self._keys.state()
        return await self._admit(await self._identity.poll_device(device_code, verifier))

    async def provider(self) -> Provider:
        """Return where a client sends people to log in."""
        return await self._identity.provider()

    async def get(self, user_id: UserId) -> User:
        """Return a user.

        Raises:
            NotFound: there is none.
        """
        kept = await self._store.find(user_id)
        if kept is None or not kept.registered:
            raise NotFound("There is no such user.")
        return await self.show(kept)

    async def list_users(self) -> tuple[User, ...]:
        """Return all users; those whose registration is not finished are none yet."""
        found = await self._store.list_users()
        return await self._show_many([kept for kept in found if kept.registered])

    async def without_keys(self) -> tuple[UserId, ...]:
        """Return the users who were let in but have no key, so cannot log in."""
        found = await self._store.list_users()
        wanted = [
            each.user_id for each in found if each.registered and each.active and each.permitted
        ]
        with_key = await self._keys.has_user_keys(wanted)
        return tuple(each for each in wanted if each not in with_key)

    async def count_with_keys(self) -> int:
        """Return how many users, of whatever standing, have a key."""
        found = await self._store.list_users()
        return len(await self._keys.has_user_keys([kept.user_id for kept in found]))

    async def list_local(self) -> tuple[User, ...]:
        """Return the users who have a key, so may log in here once they are active.

        The others are remote: they may ask through the network only.
        """
        return tuple(user for user in await self.list_users() if user.allow_login)

    async def addresses(self, roles: Collection[Role]) -> tuple[str, ...]:
        """Return the e-mail addresses of the active users of these roles."""
        found = await self._store.list_users()
        wanted = [kept for kept in found if kept.registered and kept.active and kept.role in roles]
        persons = await self._sealing.open_many({kept.user_id: kept.sealed for kept in wanted})
        return tuple(person.email for person in persons.values())

    async def show(self, kept: KeptUser) -> User:
        """Open a stored user."""
        return (await self._show_many((kept,)))[0]

    async def _show_many(self, found: Sequence[KeptUser]) -> tuple[User, ...]:
        persons = await self._sealing.open_many({kept.user_id: kept.sealed for kept in found})
        with_key = await self._keys.has_user_keys([kept.user_id for kept in found])
        return tuple(
            _shown(kept, persons[kept.user_id], allow_login=kept.user_id in with_key)
            for kept in found
        )

    async def register(
        self, new: NewUser, by: Role, user_id: UserId | None = None, *, quiet: bool = False
    ) -> Registered:
        """Give a person an account at the provider, a local user and a key, or nothing at all.

        With a `user_id` the same registration twice is one user, and no conflict. Done again after
        its process died half-way, it goes on where that stopped. An account that the provider had
        before is taken as it is, and its password stays. `quiet`: the caller sends the letter.

        Raises:
            Forbidden: this role may not grant that one.
            Conflict: there is a user of this name.
            Unavailable: the provider lets us make no accounts.
        """
        check_grant(by, new.role)
        accounts = self._accounts
        if accounts is None:
            raise Unavailable(
                "The identity provider does not let us make accounts. Let the person log in once, "
                "with automatic registration on; then activate them and permit their login."
            )
        index = await self._sealing.username_index(new.username)
        async with self._alone(f"register:{index}") if self._alone else nullcontext():
            return await self._register(accounts, new, user_id, quiet=quiet)

    async def change_account(self, kept: KeptUser, person: Person) -> None:
        """Tell the provider what a person is called now, if their account is of our making.

        Raises:
            Conflict: another account has this e-mail address.
        """
        if self._accounts is None or not kept.own_account:
            return
        account = await self._accounts.find(person.username)
        if account is not None:
            await self._accounts.change(account, account_of(person))

    async def first_administrator(self, username: str, email: str) -> Registered:
        """Make the first administrator with an account at the provider; may be repeated.

        Raises:
            Unavailable: the provider lets us make no accounts.
        """
        new = NewUser(username=username, email=email, role=Role.DEVELOPER)
        kept = await self._store.find_by_username(await self._sealing.username_index(username))
        if kept is not None and kept.registered:
            return Registered(user=await self._let_in(kept), password=None)
        return await self.register(new, Role.DEVELOPER)

    async def ensure_administrator(self, username: str, subject: str, email: str) -> User:
        """Make sure that the first administrator, whose account there is already, may log in.

        The role is `developer`, which alone reaches both data and people. Repeatable.
        """
        new = NewUser(username=username, email=email, role=Role.DEVELOPER)
        index = await self._sealing.username_index(username)
        kept = await self._store.find_by_username(index)
        if kept is not None and kept.registered:
            return await self._let_in(kept)
        account = Account(account_id="", subject=subject, username=username, active=True)
        kept = await self._claim(new, account)
        await self._keys.create_user_key(kept.user_id)
        return await self._finish(kept, new, subject)

    async def _let_in(self, kept: KeptUser) -> User:
        await self._keys.create_user_key(kept.user_id)
        if not kept.permitted:
            done = msgspec.structs.replace(kept, permitted=True, attempt=kept.attempt + 1)
            if not await self._store.replace_attempt(done, kept.attempt):
                raise Conflict("Others are changing this user at the same time; try again.")
            kept = done
        return await self.show(kept)

    async def _admit(self, tokens: Tokens) -> Tokens:
        await self.authenticate(tokens.access_token)
        return tokens

    async def _register(
        self, accounts: Accounts, new: NewUser, user_id: UserId | None, *, quiet: bool
    ) -> Registered:
        found = await accounts.find(new.username)
        kept = await self._claim(new, found, user_id)
        if kept.registered:
            return Registered(user=await self.show(kept), password=None)
        try:
            account, password = await self._account(accounts, new, found, kept)
            await self._keys.create_user_key(kept.user_id)
            if kept.own_account and accounts.invites:
                await accounts.invite(account)
            if kept.own_account and not accounts.invites and self._mails and not quiet:
                facts = {"username": new.username}
                await self._mails.send(Kind.ACCOUNT_CREATED, kept.user_id, (new.email,), facts)
            done = await self._finish(kept, new, account.subject)
        except CafeVariomeError as fault:
            # After a conflict an account of this name is somebody else's.
            ours = kept.own_account and not isinstance(fault, Conflict)
            await self._undo(accounts if ours else None, new, kept)
            raise
        return Registered(user=done, password=password)

    async def _claim(
        self, new: NewUser, account: Account | None, user_id: UserId | None = None
    ) -> KeptUser:
        """Reserve the name before anything is made elsewhere, or take over a failed attempt."""
        index = await self._sealing.username_index(new.username)
        old = None if user_id is None else await self._store.find(user_id)
        if old is None:
            old = await self._store.find_by_username(index)
        if old is not None and old.registered:
            if old.user_id == user_id:
                return old
            raise Conflict("There is a user of this name already.", path="$.username")
        mine = user_id or (old.user_id if old else UserId(new_id()))
        if old is not None and old.user_id != mine:
            raise Conflict("Somebody else is registering this user.", path="$.username")
        kept = KeptUser(
            user_id=mine,
            sealed=await self._sealing.seal(mine, person_of(new, subject="")),
            username_index=index,
            # Unique, as the index wants it, and no digest of any subject.
            subject_index=f"unknown:{mine}",
            role=new.role,
            active=False,
            registered=False,
            # What an attempt under another name made or found says nothing of this one's account.
            own_account=account is None
            or (old is not None and old.own_account and old.username_index == index),
            attempt=old.attempt + 1 if old else 1,
            budget=new.budget,
        )
        if old is None:
            await self._store.add(kept)
        elif not await self._store.replace_attempt(kept, old.attempt):
            raise Conflict("Somebody else is registering this user.", path="$.username")
        return kept

    async def _account(
        self, accounts: Accounts, new: NewUser, found: Account | None, kept: KeptUser
    ) -> tuple[Account, str | None]:
        """Return the account, made if there was none, and its first password if it is ours."""
        password = secrets.token_urlsafe(18) if kept.own_account and not accounts.invites else None
        if found is None:
            return await accounts.create(account_of(new), password), password
        if password is not None:
            # Made by an attempt that failed before anybody saw the password.
            await accounts.set_password(found, password)
        return found, password

    async def _undo(self, accounts: Accounts | None, new: NewUser, kept: KeptUser) -> None:
        """Take back what a failed registration has made, unless somebody goes on with it."""
        mine = msgspec.structs.replace(kept, attempt=kept.attempt + 1)
        try:
            if not await self._store.replace_attempt(mine, kept.attempt):
                return
            account = await accounts.find(new.username) if accounts else None
            if accounts and account:
                await accounts.delete(account)
            await self._keys.delete_user_key(kept.user_id)
            await self._store.delete(kept.user_id, mine.attempt)
        except CafeVariomeError as fault:
            # What is left is nobody's and shows nowhere; registering again goes on with it.
            log.warning("registration_not_undone", user=kept.user_id, cause=fault.sentence)

    async def _finish(self, kept: KeptUser, new: NewUser, subject: str) -> User:
        """Open the door, last of all: so nobody is half let in."""
        done = msgspec.structs.replace(
            kept,
            sealed=await self._sealing.seal(kept.user_id, person_of(new, subject)),
            subject_index=await self._sealing.subject_index(subject),
            active=True,
            registered=True,
        )
        if not await self._store.replace_attempt(done, kept.attempt, shows=True):
            raise Conflict("Somebody else is registering this user.", path="$.username")
        return await self.show(done)


def _shown(kept: KeptUser, person: Person, *, allow_login: bool) -> User:
    return User(
        user_id=kept.user_id,
        email=person.email,
        username=person.username,
        first_name=person.first_name,
        last_name=person.last_name,
        affiliation=person.affiliation,
        role=kept.role,
        active=kept.active,
        allow_login=allow_login,
        budget=kept.budget,
    )
