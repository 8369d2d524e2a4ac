"""Tells the other processes of an instance that a query waits for somebody, or has news.

What travels is a word and the id of a query, on a stream of Redis. Promises: `send` never fails
and takes two seconds at most; what is lost is found by `Records.recover` and by listeners' own
looks at the store, only later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from cvf_app.backends.stream import BEGIN, Entry
from cvf_app.errors import Unavailable
from cvf_app.records.model import QueryId

ASKED = "asked"
ANSWERED = "answered"
ENDED = "ended"
READ_SECONDS = 5.0
AGAIN_SECONDS = 2.0
BATCH = 100
log = structlog.get_logger("cv3.records")
Hear = Callable[[str, QueryId], Awaitable[None]]


class Line(Protocol):
    """What all processes write and read; see `backends/stream.py`."""

    async def add(self, bodies: Sequence[bytes]) -> None:
        """Put entries at the end."""
        ...

    async def read(self, after: str, seconds: float, most: int) -> Sequence[Entry]:
        """Return what came after an entry."""
        ...

    async def newest(self, most: int) -> Sequence[Entry]:
        """Return the last entries."""
        ...


class Signals:
    """The line between the processes that take queries and those that answer them."""

    def __init__(self, line: Line) -> None:
        """Signal on this line."""
        self._line = line

    async def send(self, word: str, query_id: QueryId) -> None:
        """Tell every process that a query was asked, answered by a source, or ended."""
        try:
            await self._line.add([f"{word} {query_id}".encode()])
        except Unavailable as fault:
            log.warning("signal_lost", query=query_id, cause=fault.__cause__)

    async def listen(self, hear: Hear) -> None:
        """Hand on what is told from now on, until cancelled."""
        while True:
            try:
                last = await self._line.newest(1)
                place = last[0][0] if last else BEGIN
                while True:
                    for entry_id, body in await self._line.read(place, READ_SECONDS, BATCH):
                        place = entry_id
                        word, _, query_id = body.decode(errors="replace").partition(" ")
                        await hear(word, QueryId(query_id))
            except Unavailable as fault:
                log.warning("signals_lost", cause=fault.__cause__)
            await asyncio.sleep(AGAIN_SECONDS)
