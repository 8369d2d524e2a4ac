"""A steady load on a node, and what every request came back with.

Requests are sent at their times whether or not earlier ones were answered, as people do: a server
that stops answering meets more and more of them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.nodes import Answer

A_SECOND = 20
Ask = Callable[[int], Awaitable[Answer]]


@dataclass(frozen=True)
class Came:
    """One request: what kind, when it was sent, what came back, and after how long."""

    kind: str
    number: int
    sent: float
    seconds: float
    status: int
    retry_after: str | None


@dataclass
class Load:
    """All requests so far; `mark` begins a new part."""

    came: list[Came] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)

    def mark(self) -> float:
        """Return the moment between what was sent before and what will be."""
        return time.monotonic()

    def between(self, begin: float, end: float, kind: str) -> list[Came]:
        """Return the requests of a kind that were sent between two moments."""
        return [one for one in self.came if one.kind == kind and begin <= one.sent < end]

    def statuses(self, begin: float, end: float, kind: str) -> Counter[int]:
        """Count what came back for those."""
        return Counter(one.status for one in self.between(begin, end, kind))


@asynccontextmanager
async def loaded(kinds: Sequence[tuple[str, Ask]]) -> AsyncIterator[Load]:
    """Send requests of these kinds in turn, twenty a second, until the end of the block."""
    load = Load()
    stop = asyncio.Event()
    pacer = asyncio.create_task(_pace(load, kinds, stop))
    try:
        yield load
    finally:
        stop.set()
        await pacer


async def _pace(load: Load, kinds: Sequence[tuple[str, Ask]], stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        number = 0
        while not stop.is_set():
            kind, ask = kinds[number % len(kinds)]
            group.create_task(_one(load, kind, number, ask))
            number += 1
            await asyncio.sleep(max(0.0, load.begin + number / A_SECOND - time.monotonic()))


async def _one(load: Load, kind: str, number: int, ask: Ask) -> None:
    sent = time.monotonic()
    answer = await ask(number)
    came = Came(
        kind,
        number,
        sent,
        time.monotonic() - sent,
        answer.status,
        answer.headers.get("Retry-After"),
    )
    load.came.append(came)
