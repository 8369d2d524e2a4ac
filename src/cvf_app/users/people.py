"""Administration of local users: their fields, roles, activity and login.

Promises: one edits, demotes, deactivates, deletes, lets in or shuts out only people whose role one
holds, and grants only such a role; nobody changes their own role, activity, budget or login; the
last developer who may log in stays one. Every act may be repeated and then changes nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog

from cvf_app.backends.keystore import KeyStore
from cvf_app.errors import Conflict, Forbidden, NotFound
from cvf_app.mail.model import Kind
from cvf_app.mail.service import Mails
from cvf_app.principal import Principal, Role, UserId
from cvf_app.users.granting import check_grant, holds
from cvf_app.users.model import User, UserChange
from cvf_app.users.sealing import Sealing
from cvf_app.users.service import Users
from cvf_app.users.store import KeptUser, UserStore
from cvf_app.web.limits import Alone

Leaving = Callable[[UserId], Awaitable[None]]
_TRIES = 5
_OF_ONESELF = frozenset({"role", "active", "budget"})
_PERSONAL = frozenset({"email", "first_name", "last_name", "affiliation"})
log = structlog.get_logger("cv3.users")


class People:
    """What administrators do with local users."""

    def __init__(  # noqa: PLR0913 - what a person consists of stands in as many places
        self,
        users: Users,
        store: UserStore,
        keys: KeyStore,
        mails: Mails,
        *,
        alone: Alone,
        leaving: Sequence[Leaving],
    ) -> None:
        """Administer `users`; `alone` keeps others from taking a developer's rights meanwhile.

        `leaving` forgets what other features keep of somebody; each of them may be repeated.
        """
        self._users = users
        self._store = store
        self._keys = keys
        self._mails = mails
        self._alone = alone
        self._leaving = tuple(leaving)
        self._sealing = Sealing(keys)

    async def change(self, user_id: UserId, change: UserChange, by: Principal) -> User:
        """Change the given fields of a user.

        Raises:
            NotFound: there is no such user.
            Forbidden: the one who asks may not change this, or not of this user.
            Unauthenticated: a role is to be changed, and the token is not a new one.
            Conflict: it would take the last developer, or others change this user too.
        """
        given = {
            name: value
            for name, value in msgspec.structs.asdict(change).items()
            if value is not msgspec.UNSET
        }
        kept = await self._mine(user_id, by)
        if user_id == by.user_id and _OF_ONESELF & given.keys():
            raise Forbidden("Nobody changes their own role, activity or budget.")
        if change.role is not msgspec.UNSET:
            check_grant(by.role, change.role)
            self._users.check_fresh(by)
        role = given.get("role", Role.DEVELOPER)
        if role is not Role.DEVELOPER or given.get("active") is False:
            async with self._taking(kept):
                return await self._write(user_id, given, by)
        return await self._write(user_id, given, by)

    async def permit_login(self, user_id: UserId, by: Principal) -> None:
        """Give a user a key, without which nobody logs in, and tell them.

        Raises:
            NotFound: there is no such user.
            Forbidden: the one who asks may not do this, or not to this user.
        """
        kept = await self._other(user_id, by)
        if not kept.permitted or not await self._keys.has_user_key(user_id):
            await self._keys.create_user_key(user_id)
            await self._told(kept, Kind.LOGIN_PERMITTED, permitted=True)

    async def revoke_login(self, user_id: UserId, by: Principal) -> None:
        """Destroy a user's key, so that they are logged out within the minute, and tell them.

        What was encrypted for this key is lost.

        Raises:
            NotFound: there is no such user.
            Forbidden: the one who asks may not do this, or not to this user.
            Conflict: it would take the last developer.
        """
        kept = await self._other(user_id, by)
        async with self._taking(kept):
            if kept.permitted or await self._keys.has_user_key(user_id):
                await self._keys.delete_user_key(user_id)
                self._users.forget(user_id)
                await self._told(kept, Kind.LOGIN_REVOKED, permitted=False)

    async def delete(self, user_id: UserId, by: Principal) -> None:
        """Remove a user, their key and what is kept of them; the provider's account stays.

        Raises:
            NotFound: there is no such user.
            Forbidden: the one who asks may not do this, or not to this user.
            Conflict: it would take the last developer, or others change this user too.
        """
        kept = await self._other(user_id, by)
        async with self._taking(kept):
            await self._keys.delete_user_key(user_id)
            self._users.forget(user_id)
            for forget in self._leaving:
                await forget(user_id)
            for _ in range(_TRIES):
                # Last of all: until then the same can be asked again.
                if await self._store.delete(user_id, kept.attempt):
                    log.info("user_deleted", user=user_id, by=by.user_id)
                    return
                kept = await self._mine(user_id, by)
        raise Conflict("Others are changing this user at the same time; try again.")

    async def _mine(self, user_id: UserId, by: Principal) -> KeptUser:
        """Return a user whose role the one who asks holds."""
        kept = await self._store.find(user_id)
        if kept is None or not kept.registered:
            raise NotFound("There is no such user.")
        if user_id != by.user_id and not holds(by.role, kept.role):
            raise Forbidden("You can change only people whose role you have yourself.")
        return kept

    async def _other(self, user_id: UserId, by: Principal) -> KeptUser:
        kept = await self._mine(user_id, by)
        if user_id == by.user_id:
            raise Forbidden(
                "Nobody lets themselves in, shuts themselves out or removes themselves."
            )
        return kept

    async def _write(self, user_id: UserId, given: dict[str, object], by: Principal) -> User:
        for _ in range(_TRIES):
            kept = await self._mine(user_id, by)
            changed = msgspec.structs.replace(
                kept, **{name: given[name] for name in given.keys() - _PERSONAL}
            )
            if personal := {name: given[name] for name in given.keys() & _PERSONAL}:
                old = await self._sealing.open(user_id, kept.sealed)
                person = msgspec.structs.replace(old, **personal)
                if person != old:
                    await self._users.change_account(kept, person)
                    sealed = await self._sealing.seal(user_id, person)
                    changed = msgspec.structs.replace(changed, sealed=sealed)
            if changed == kept:
                return await self._users.show(kept)
            changed = msgspec.structs.replace(changed, attempt=kept.attempt + 1)
            if await self._store.replace_attempt(changed, kept.attempt):
                self._users.forget(user_id)
                log.info("user_changed", user=user_id, by=by.user_id, fields=sorted(given))
                return await self._users.show(changed)
        raise Conflict("Others are changing this user at the same time; try again.")

    async def _told(self, kept: KeptUser, kind: Kind, *, permitted: bool) -> None:
        """Write the letter and then that it is written: done again, it is the same letter."""
        person = await self._sealing.open(kept.user_id, kept.sealed)
        if person.email:
            event = f"{kept.user_id}:{kept.attempt}"
            await self._mails.send(kind, event, (person.email,), {"username": person.username})
        done = msgspec.structs.replace(kept, permitted=permitted, attempt=kept.attempt + 1)
        if not await self._store.replace_attempt(done, kept.attempt):
            raise Conflict("Others are changing this user at the same time; try again.")
        log.info("login_permitted" if permitted else "login_revoked", user=kept.user_id)

    @asynccontextmanager
    async def _taking(self, kept: KeptUser) -> AsyncIterator[None]:
        """Within the block this user may lose what they may do: somebody else still has it."""
        if kept.role is not Role.DEVELOPER or not kept.active:
            yield
            return
        async with self._alone("developers"):
            if not await self._another_developer(kept.user_id):
                raise Conflict("This is the last developer who may log in; make another one first.")
            yield

    async def _another_developer(self, user_id: UserId) -> bool:
        for each in await self._store.list_users():
            able = each.registered and each.active and each.role is Role.DEVELOPER
            if able and each.user_id != user_id and await self._keys.has_user_key(each.user_id):
                return True
        return False
