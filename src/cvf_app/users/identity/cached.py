"""What the provider publishes, remembered: its discovery document and its keys.

Promises: a good answer is kept until a better one comes; a bad one (nothing, HTML, another
issuer) changes nothing and is logged; the provider is asked at most every ten seconds and by one
request at a time; what was fetched last is used for at most a day after the provider went away.
Whoever looks for a part that is new at the provider (`find`) gets it, if need be after those ten
seconds; whoever looks for parts that never were neither reaches the provider nor piles up here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog

from cvf_app import metrics
from cvf_app.clock import Clock
from cvf_app.errors import CafeVariomeError, Unavailable

T = TypeVar("T")
Part = TypeVar("Part")
log = structlog.get_logger("cv3.identity")

PAUSE = timedelta(seconds=10)
OLDEST = timedelta(hours=24)


class Remembered(Generic[T]):
    """One published thing and when it was fetched."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[T]],
        fresh_for: timedelta,
        clock: Clock,
        *,
        pause: timedelta = PAUSE,
    ) -> None:
        """Remember what `fetch` brings; `pause` lies between two of its calls."""
        self._name = name
        self._fetch = fetch
        self._fresh_for = fresh_for
        self._clock = clock
        self._pause = pause
        self._value: T | None = None
        self._fetched: datetime | None = None
        self._asked: datetime | None = None
        self._failed = False
        self._in_vain = False
        self._one_at_a_time = asyncio.Lock()

    async def get(self) -> T:
        """Return the thing, fetched again when it is no longer fresh.

        Raises:
            Unavailable: it was never fetched, or not for a day.
        """
        fetched = self._fetched
        age = None if fetched is None else self._clock() - fetched
        # A clock that was put back makes nothing fresh.
        fresh = age is not None and timedelta() <= age < self._fresh_for
        metrics.count_cache("identity", hits=int(fresh), misses=int(not fresh))
        # While somebody asks a slow provider, the others go on with what is known.
        if not fresh and not (self._one_at_a_time.locked() and self._usable()):
            await self.renew()
        if self._value is None or not self._usable():
            raise Unavailable("The identity provider does not answer; nobody can be recognised.")
        return self._value

    async def find(self, pick: Callable[[T], Part | None], *, trusted: bool = False) -> Part | None:
        """Return what `pick` finds in the thing; where it finds nothing, the thing is renewed once.

        Between two fetches lies the pause: its end is waited for, unless the last fetch was for a
        part that was not there either. `trusted` says that the provider itself has just named the
        part, so that it is asked at once.

        Raises:
            Unavailable: the thing was never fetched, or not for a day; or the part is not known
                and the provider does not answer.
        """
        found = pick(await self.get())
        if found is not None:
            return found
        async with self._one_at_a_time:
            # Somebody may have fetched it while we waited for our turn.
            found = self._pick(pick)
            left = self._pause_left()
            if found is None and (trusted or not left or not self._in_vain):
                if not trusted:
                    await asyncio.sleep(left.total_seconds())
                await self._ask()
                found = self._pick(pick)
                self._in_vain = found is None
            if found is None and self._failed:
                raise Unavailable("The identity provider does not answer; try again later.")
            return found

    async def renew(self) -> None:
        """Fetch the thing again, unless that was tried less than ten seconds ago."""
        async with self._one_at_a_time:
            if not self._pause_left():
                await self._ask()

    async def _ask(self) -> None:
        now = self._clock()
        self._asked = now
        try:
            self._value = await self._fetch()
            self._fetched = now
            self._failed = self._in_vain = False
        except CafeVariomeError as fault:
            self._failed = True
            log.warning("provider_answers_badly", what=self._name, cause=fault.sentence)

    def _pause_left(self) -> timedelta:
        if self._asked is None:
            return timedelta()
        since = self._clock() - self._asked
        # A clock that was put back makes nobody wait.
        return self._pause - since if timedelta() <= since < self._pause else timedelta()

    def _pick(self, pick: Callable[[T], Part | None]) -> Part | None:
        return None if self._value is None else pick(self._value)

    def _usable(self) -> bool:
        return self._fetched is not None and self._clock() - self._fetched < OLDEST
