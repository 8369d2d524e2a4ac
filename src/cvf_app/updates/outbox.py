"""From a write to the stream: announcers put changes here, and one loop sends them.

Promises: to announce never fails a write and never waits, except that before a deletion its
audience is asked for, at most a second long. While Redis is away announcements wait here, a bounded
number of them; what had to be given up is told as `Lost`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Protocol

import structlog

from cvf_app.errors import CafeVariomeError, Unavailable
from cvf_app.updates.model import Audience, Change, Interface, Lost, Operation
from cvf_app.updates.pending import Pending
from cvf_app.wire import encode

ASK_SECONDS = 1.0
AGAIN_SECONDS = 1.0
LAST_SECONDS = 1.0
log = structlog.get_logger("cv3.updates")


class Sink(Protocol):
    """Where announcements go; see `backends/stream.py`."""

    async def add(self, bodies: Sequence[bytes]) -> None:
        """Put entries at the end of the stream."""
        ...


class Outbox:
    """What this process has to announce."""

    def __init__(self, sink: Sink) -> None:
        """Send to this stream; the interfaces come later, since they are made of what writes."""
        self._sink = sink
        self._pending = Pending()
        self._rung = asyncio.Event()
        self._interfaces: Mapping[str, Interface] = {}
        self._waits = False

    def know(self, interfaces: Mapping[str, Interface]) -> None:
        """Get to know the interfaces by name."""
        self._interfaces = interfaces

    def announcer(self, interface: str, private: frozenset[str] = frozenset()) -> "Announcer":
        """Return what a collection tells its writes to; a change of private fields is not told."""
        return Announcer(self, interface, private)

    def tell(self, interface: str, operation: Operation, ids: Sequence[str]) -> None:
        """Announce inserts or updates."""
        self._pending.put(Change(interface=interface, operation=operation, ids=tuple(ids)))
        self._rung.set()

    def bid_farewell(
        self, interface: str, ids: Sequence[str], audiences: Mapping[str, Audience] | None
    ) -> None:
        """Announce deletions, each to its audience; where nobody could say to whom, all reload."""
        if audiences is None:
            self._pending.put(Lost())
        else:
            together: dict[Audience, list[str]] = {}
            for each in ids:
                if each in audiences:
                    together.setdefault(audiences[each], []).append(each)
            for audience, some in together.items():
                self._pending.put(
                    Change(
                        interface=interface,
                        operation=Operation.DELETE,
                        ids=tuple(some),
                        audience=audience,
                    )
                )
        self._rung.set()

    async def audiences(self, interface: str, ids: Sequence[str]) -> Mapping[str, Audience] | None:
        """Return who may know of things, or nothing when that cannot be told in time."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await self._interfaces[interface].audience(tuple(ids))
        except (CafeVariomeError, TimeoutError) as fault:
            log.warning("audience_unknown", interface=interface, cause=fault)
            return None

    async def drain(self) -> None:
        """Send what is announced, until cancelled."""
        while True:
            seconds = self._pending.wait(monotonic())
            if seconds is None or seconds > 0:
                self._rung.clear()
                try:
                    async with asyncio.timeout(seconds):
                        await self._rung.wait()
                except TimeoutError:
                    log.debug("updates_due")
                continue
            if not await self._send():
                await asyncio.sleep(AGAIN_SECONDS)

    async def flush(self) -> None:
        """Send what is left, as the last thing of this process; give up after a second."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                while (seconds := self._pending.wait(monotonic())) is not None:
                    await asyncio.sleep(seconds)
                    if not await self._send():
                        return
        except TimeoutError:
            log.warning("updates_unsent")

    async def _send(self) -> bool:
        taken = self._pending.take(monotonic())
        try:
            await self._sink.add([encode(each) for each in taken])
        except Unavailable as fault:
            self._pending.put_back(taken)
            if not self._waits:
                log.warning("updates_wait", count=len(taken), cause=fault.__cause__)
            self._waits = True
            return False
        except asyncio.CancelledError:
            self._pending.put_back(taken)
            raise
        self._waits = False
        return True


class Announcer:
    """Announces the writes of one collection; see `backends/mongo.py`."""

    def __init__(self, outbox: Outbox, interface: str, private: frozenset[str]) -> None:
        """Announce through the outbox."""
        self._outbox = outbox
        self._interface = interface
        self._private = private

    def heeds(self, change: Mapping[str, Any]) -> bool:
        """Say whether a change touches a field that somebody is shown."""
        return any(
            field.partition(".")[0] not in self._private
            for fields in change.values()
            for field in fields
        )

    def inserted(self, ids: Sequence[str]) -> None:
        """Announce new documents."""
        self._outbox.tell(self._interface, Operation.INSERT, ids)

    def updated(self, ids: Sequence[str]) -> None:
        """Announce changed documents."""
        self._outbox.tell(self._interface, Operation.UPDATE, ids)

    async def leaving(self, ids: Sequence[str]) -> Callable[[Sequence[str]], None]:
        """Find out who may know of documents before they go."""
        audiences = await self._outbox.audiences(self._interface, ids)

        def gone(went: Sequence[str]) -> None:
            self._outbox.bid_farewell(self._interface, went, audiences)

        return gone
