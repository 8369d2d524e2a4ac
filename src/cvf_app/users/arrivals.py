"""People whom nobody registered: with a good token of our provider, but no local user here.

Promises: where the federation settings say so, such a person becomes a local user who may do
nothing: not active, without a key, with the role of plain use, waiting for an administrator. Else,
and when too many come at once, nothing is kept of them.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from cvf_app.errors import Conflict, Exhausted, Invalid
from cvf_app.ids import id_of
from cvf_app.principal import Role, UserId
from cvf_app.users.identity import Claims
from cvf_app.users.model import FULL_BUDGET, Email, Line, Username
from cvf_app.users.sealing import Person, Sealing
from cvf_app.users.store import KeptUser, UserStore
from cvf_app.web.limits import Limit, Limits
from cvf_app.wire import convert

T = TypeVar("T")

HOURLY = Limit(
    name="arrivals", most=30, seconds=3600, sentence="Too many people have come here; try later."
)
log = structlog.get_logger("cv3.users")


class Arrivals:
    """Automatic registration."""

    def __init__(
        self,
        store: UserStore,
        sealing: Sealing,
        limits: Limits,
        allowed: Callable[[], Awaitable[bool]],
    ) -> None:
        """Keep people in this store while `allowed` says so."""
        self._store = store
        self._sealing = sealing
        self._limits = limits
        self._allowed = allowed

    async def note(self, claims: Claims) -> None:
        """Keep somebody unknown as a user who waits, if that is allowed."""
        if not await self._allowed():
            return
        try:
            await self._limits.spend(HOURLY)
        except Exhausted:
            log.warning("arrival_passed_over", reason="too many within the hour")
            return
        index = await self._sealing.subject_index(claims.subject)
        # The same person on two processes at once is one user.
        user_id = UserId(id_of("arrival", index))
        for name in filter(None, (claims.username, claims.subject)):
            username = _or_none(name, Username)
            if username is None:
                continue
            try:
                await self._store.add(await self._waiting(user_id, index, username, claims))
            except Conflict:
                # It is the name of somebody else, or the person is there already.
                if await self._store.find_by_subject(index) is not None:
                    return
            else:
                log.info("arrival_waits", user=user_id)
                return
        log.warning("arrival_passed_over", reason="no name that is free and can be taken")

    async def _waiting(
        self, user_id: UserId, index: str, username: str, claims: Claims
    ) -> KeptUser:
        person = Person(
            username=username,
            subject=claims.subject,
            email=_or_none(claims.email, Email) or "",
            first_name=_or_none(claims.first_name, Line) or "",
            last_name=_or_none(claims.last_name, Line) or "",
            affiliation="",
        )
        return KeptUser(
            user_id=user_id,
            sealed=await self._sealing.seal(user_id, person),
            username_index=await self._sealing.username_index(username),
            subject_index=index,
            role=Role.USER,
            active=False,
            registered=True,
            own_account=False,
            attempt=1,
            budget=FULL_BUDGET,
            permitted=False,
        )


def _or_none(text: str, kind: type[T]) -> T | None:
    try:
        return convert(text, kind)
    except Invalid:
        return None
