"""One open stream: a bounded queue of what is to be told, and how it ends.

Promises: what is offered never waits; a listener who does not keep up is ended with the reason
`slow`; after an end nothing is told but the end itself.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from cvf_app.principal import Principal
from cvf_app.updates.model import Admitted, Notice, Operation, Update
from cvf_app.wire import encode

MOST_WAITING = 256
TAKE_SECONDS = 10.0
SLOW = "You read more slowly than things happen; connect again and reload."


@dataclass(frozen=True)
class Frame:
    """Something to be told; `entry_id` is where to go on after it, `last` that nothing follows."""

    body: bytes
    event: str | None = None
    entry_id: str | None = None
    reason: str = ""
    cause: str = ""

    @property
    def last(self) -> bool:
        """Say whether the stream ends with it."""
        return self.event in {"dropped", "closed"}


def told(update: Update) -> Frame:
    """Write an update as a frame."""
    return Frame(body=encode(update), entry_id=update.id)


def noted(notice: Notice, cause: str = "") -> Frame:
    """Write a notice as a frame; `cause` is a short name for why a stream ends."""
    return Frame(
        body=encode(notice),
        event=notice.event,
        entry_id=notice.id,
        reason=notice.reason,
        cause=cause,
    )


class Listener:
    """Who listens, to what, and what they have not been told yet."""

    def __init__(self, admitted: Admitted, interfaces: frozenset[str]) -> None:
        """Listen to these interfaces as this principal."""
        self.principal: Principal = admitted.principal
        self.expires_at = admitted.expires_at
        self.interfaces = interfaces
        self.reach: object = None
        self.after = (-1, 0)
        self.ended: str | None = None
        self.give_up_at = 0.0
        self.task = asyncio.current_task()
        self._waiting: deque[Frame] = deque()
        self._rung = asyncio.Event()

    def hears(self, interface: str) -> bool:
        """Say whether the listener wants to be told of an interface."""
        return self.ended is None and interface in self.interfaces

    def offer(self, frame: Frame) -> bool:
        """Tell something, and say whether there was room; else the listener is ended."""
        if self.ended is not None:
            return True
        if len(self._waiting) >= MOST_WAITING:
            self.end(Notice(event="dropped", reason=SLOW), "slow")
            return False
        self._waiting.append(frame)
        self._rung.set()
        return True

    def end(self, notice: Notice, cause: str) -> None:
        """Tell nothing more but why; who does not even take that is to be given up soon."""
        if self.ended is not None:
            return
        self.ended = cause
        self.give_up_at = asyncio.get_running_loop().time() + TAKE_SECONDS
        self._waiting.clear()
        self._waiting.append(noted(notice, cause))
        self._rung.set()

    async def next(self, seconds: float) -> Frame | None:
        """Return what comes next, or nothing when so many seconds were quiet."""
        try:
            async with asyncio.timeout(seconds):
                while not self._waiting:
                    self._rung.clear()
                    await self._rung.wait()
        except TimeoutError:
            return None
        return self._waiting.popleft()


def deleted(interface: str, ids: tuple[str, ...], entry_id: str) -> Frame:
    """Write a deletion as a frame."""
    return told(
        Update(interface=interface, operation=Operation.DELETE, data=list(ids), id=entry_id)
    )
