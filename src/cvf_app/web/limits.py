"""How often somebody may do something, and what only one process does at a time, by Redis.

Promises: both hold over all processes of an instance; who is counted stands in Redis as a digest
only; when Redis does not answer, what is limited is refused, since a limit that can be switched
off is none. A turn ends by itself when its process dies, so what is done in one can be repeated.
"""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from cvf_app.errors import Exhausted

Count = Callable[[str, int], Awaitable[int]]
Lock = Callable[[str, int], AbstractAsyncContextManager[None]]
Alone = Callable[[str], AbstractAsyncContextManager[None]]
TURN_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Limit:
    """So many of something within so many seconds; the sentence is told to who has had them."""

    name: str
    most: int
    seconds: int
    sentence: str


class Limits:
    """The limits of one instance."""

    def __init__(self, count: Count, instance: str) -> None:
        """Count by `count` (key, seconds); two instances with one Redis do not share limits."""
        self._count = count
        self._instance = instance

    async def spend(self, limit: Limit, who: str = "") -> None:
        """Use up one of a limit, of somebody's own or of all.

        Raises:
            Exhausted: they have had as many as there are.
            Unavailable: Redis does not answer.
        """
        counted = hashlib.sha256(who.encode()).hexdigest()[:32]
        key = f"cv3-limit:{self._instance}:{limit.name}:{counted}"
        if await self._count(key, limit.seconds) > limit.most:
            raise Exhausted(limit.sentence)


class Turns:
    """What only one process of an instance does at a time."""

    def __init__(self, lock: Lock, instance: str) -> None:
        """Take turns by `lock` (key, seconds at most)."""
        self._lock = lock
        self._instance = instance

    def alone(self, what: str) -> AbstractAsyncContextManager[None]:
        """Return the block within which nobody else does the same.

        Raises:
            Unavailable: others do it for too long, or Redis does not answer.
        """
        return self._lock(f"cv3-alone:{self._instance}:{what}", TURN_SECONDS)
