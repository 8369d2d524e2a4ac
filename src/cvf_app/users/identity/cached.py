"""What the provider publishes, remembered: its discovery document and its keys.

Promises: a good answer is kept until a better one comes; a bad one (nothing, HTML, another
issuer) changes nothing and is logged; the provider is asked at most every ten seconds and by one
request at a time; what was fetched last is used for at most a day after the provider went away.
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
log = structlog.get_logger("cv3.identity")

PAUSE = timedelta(seconds=10)
OLDEST = timedelta(hours=24)


class Remembered(Generic[T]):
    """One published thing and when it was fetched."""

    def __init__(
        self, name: str, fetch: Callable[[], Awaitable[T]], fresh_for: timedelta, clock: Clock
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._fresh_for = fresh_for
        self._clock = clock
        self._value: T | None = None
        self._fetched: datetime | None = None
        self._asked: datetime | None = None
        self._one_at_a_time = asyncio.Lock()

    async def get(self) -> T:
        """Return the thing, fetched again when it is no longer fresh.

        Raises:
            Unavailable: it was never fetched, or not for a day.
        """
        fetched = self._fetched
        fresh = fetched is not None and self._clock() - fetched < self._fresh_for
        metrics.count_cache("identity", hits=int(fresh), misses=int(not fresh))
        # While somebody asks a slow provider, the others go on with what is known.
        if not fresh and not (self._one_at_a_time.locked() and self._usable()):
            await self.renew()
        if self._value is None or not self._usable():
            raise Unavailable("The identity provider does not answer; nobody can be recognised.")
        return self._value

    async def renew(self) -> None:
        """Fetch the thing again, unless that was tried less than ten seconds ago."""
        async with self._one_at_a_time:
            now = self._clock()
            if self._asked is not None and now - self._asked < PAUSE:
                return
            self._asked = now
            try:
                self._value = await self._fetch()
                self._fetched = now
            except CafeVariomeError as fault:
                log.warning("provider_answers_badly", what=self._name, cause=fault.sentence)

    def _usable(self) -> bool:
        return self._fetched is not None and self._clock() - self._fetched < OLDEST
