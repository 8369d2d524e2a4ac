"""The reading side: one reader of the stream in each process, and all its open streams.

Promises: of one message there is one look-up, however many listen; a listener is told what `GET`
would show them at that moment and nothing else; an id that they may not know never reaches them.
A listener's standing is looked at anew with every change of users or groups and every
`CHECK_SECONDS`: who lost the right to be here is ended with the reason, who came to see other
things is told to reload. When messages may have been lost, everybody is told to reload.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from cvf_app import metrics
from cvf_app.backends.stream import BEGIN, Entry
from cvf_app.errors import CafeVariomeError, Exhausted, Invalid, Unavailable
from cvf_app.principal import Principal, UserId
from cvf_app.updates.listener import Frame, Listener, deleted, noted, told
from cvf_app.updates.model import (
    ANNOUNCEMENT,
    Admit,
    Admitted,
    Announcement,
    Change,
    Interface,
    Lost,
    Notice,
    Operation,
    Standings,
    Update,
    View,
)
from cvf_app.updates.recent import MOST, Recent, Told, newest, position
from cvf_app.wire import Wire, decode

MOST_OPEN = 1000
MOST_OF_ONE = 750
HEARTBEAT_SECONDS = 15.0
CHECK_SECONDS = 30.0
READ_SECONDS = 5.0
AGAIN_SECONDS = 1.0
BATCH = 100
LOOKS_AT_ONCE = 8
AHEAD_MS = 10_000
# Who missed more reloads: that is one request for each list, and not memory for each listener.
MOST_MISSED = 256
# Whose changes may change what somebody may do.
WEIGHTY = frozenset({"users", "groups"})
_LOST = "Messages may have been lost; reload what you show."
_MISSED = "It is not known any more what you missed; reload what you show."
_REACH = "You may see other things now; reload what you show."
_ENDS = {
    "expired": "Your token has expired; connect again with a new one.",
    "role": "Your role has changed; connect again and reload.",
    "disabled": "You may not log in here any more.",
    "stopping": "The server is being stopped; connect again soon.",
}
# Frames by the identity of what is shown, which is kept, or another thing could come by its id.
Bodies = dict[int, tuple[Wire | None, Frame]]
log = structlog.get_logger("cv3.updates")


class Source(Protocol):
    """Where announcements come from; see `backends/stream.py`."""

    async def read(self, after: str, seconds: float, most: int) -> Sequence[Entry]:
        """Return what came after an entry."""
        ...

    async def newest(self, most: int) -> Sequence[Entry]:
        """Return the last entries."""
        ...

    async def has(self, entry_id: str) -> bool:
        """Say whether an entry is still there."""
        ...


class Hub:
    """The open streams of one process."""

    def __init__(
        self,
        source: Source,
        interfaces: Mapping[str, Interface],
        admit: Admit,
        standings: Standings,
    ) -> None:
        """Tell of these interfaces; `admit` says whose a token is, `standings` what they may do."""
        self._source = source
        self._interfaces = interfaces
        self._standings = standings
        self.admit = admit
        self._listeners: set[Listener] = set()
        self._recent = Recent()
        self._place: str | None = None
        self._checked_at = 0.0
        self._doubt = False
        self._stopping = False
        self._blind = False
        self._replays = asyncio.Semaphore(1)
        self._looked: dict[tuple[str, str], tuple[float, View | None]] = {}

    @property
    def open(self) -> int:
        """The number of open streams."""
        return len(self._listeners)

    def wanted(self, names: Iterable[str]) -> frozenset[str]:
        """Return the interfaces of these names, or all when none is given.

        Raises:
            Invalid: there is no interface of a name.
        """
        chosen = frozenset(names)
        for name in sorted(chosen):
            if name not in self._interfaces:
                known = ", ".join(sorted(self._interfaces))
                raise Invalid(
                    f"There are no updates of '{name[:40]}', only of: {known}.", path="$.interface"
                )
        return chosen or frozenset(self._interfaces)

    def check_room(self, asker: Principal) -> None:
        """Refuse a stream when there are too many.

        Raises:
            Unavailable: this process has no room for another one, or is being stopped.
            Exhausted: this user has too many.
        """
        self.check_room_at_all()
        mine = sum(each.principal.user_id == asker.user_id for each in self._listeners)
        if mine >= MOST_OF_ONE:
            raise Exhausted("You have too many open streams of updates; close some.")

    def check_room_at_all(self) -> None:
        """Refuse a stream when there are too many, whoever asks.

        Raises:
            Unavailable: this process has no room for another one, or is being stopped.
        """
        if self._stopping or len(self._listeners) >= MOST_OPEN:
            raise Unavailable("There is no room for another stream of updates; try again later.")

    async def follow(
        self, admitted: Admitted, interfaces: frozenset[str], last_id: str
    ) -> AsyncGenerator[Frame | None, None]:
        """Yield what happens from now on, or after an id; nothing is a sign of life.

        The first frame is `ready` (or `reset`): who loads things after it misses no change.
        """
        listener = Listener(admitted, interfaces)
        self._listeners.add(listener)
        metrics.updates_open.inc()
        try:
            for first in await self._opening(listener, last_id):
                yield first
            while True:
                frame = await listener.next(HEARTBEAT_SECONDS)
                yield frame
                if frame is not None and frame.last:
                    return
        finally:
            self._listeners.discard(listener)
            metrics.updates_open.dec()

    async def read(self) -> None:
        """Read the stream and tell everybody, until cancelled."""
        while True:
            try:
                await self._find_place()
                self._blind = False
                while True:
                    entries = await self._source.read(self._place or BEGIN, READ_SECONDS, BATCH)
                    if entries:
                        await self._pass_on([_read(entry) for entry in entries])
            except Unavailable as fault:
                if not self._blind:
                    log.warning("updates_lost_sight", cause=fault.__cause__)
                self._blind = True
            await asyncio.sleep(AGAIN_SECONDS)

    async def tend(self) -> None:
        """Look after the open streams; every second or so."""
        moment, loop_moment = time.time(), asyncio.get_running_loop().time()
        for listener in tuple(self._listeners):
            if listener.ended is None and moment >= listener.expires_at:
                self._end(listener, "expired")
            elif listener.ended and loop_moment > listener.give_up_at and listener.task:
                # It is stuck in sending what nobody takes.
                listener.task.cancel()
        if self._doubt or loop_moment - self._checked_at >= CHECK_SECONDS:
            await self._check()

    def stop(self) -> None:
        """End every stream and open none any more."""
        self._stopping = True
        for listener in tuple(self._listeners):
            self._end(listener, "stopping")

    # Opening

    async def _opening(self, listener: Listener, last_id: str) -> list[Frame]:
        """Return what a new listener is told first; from here on they miss nothing."""
        user = listener.principal.user_id
        try:
            found = (await self._standings(frozenset({user}))).get(user)
        except CafeVariomeError as fault:
            listener.end(Notice(event="closed", reason=fault.sentence), "unavailable")
            return []
        if found is None or found.role is not listener.principal.role:
            self._end(listener, "role" if found else "disabled")
            return []
        listener.reach = found.reach
        place = self._place
        if self._stopping:
            self._end(listener, "stopping")
            return []
        if not last_id:
            return [noted(Notice(event="ready", reason="", id=place))]
        frames = None if place is None else await self._missed(listener, last_id, place)
        if frames is None:
            listener.after = (-1, 0)
            return [noted(Notice(event="reset", reason=_MISSED, id=place))]
        return [*frames, noted(Notice(event="ready", reason="", id=None))]

    async def _missed(self, listener: Listener, last_id: str, place: str) -> list[Frame] | None:
        """Return what somebody missed, or nothing when they have to reload."""
        there, here = position(last_id), position(place)
        if here < there <= (here[0] + AHEAD_MS, 0):
            # They come from a process that has read further: what they know is passed over.
            listener.after = there
            return []
        missed = self._recent.after(last_id)
        if missed is None:
            return None
        if missed:
            # What is being told just now is among it.
            listener.after = position(missed[-1][0])
        frames: list[Frame] = []
        # One after the other, so that those who come back together share their look-ups.
        async with self._replays:
            for entry_id, announcement in newest(missed):
                if isinstance(announcement, Lost) or self._is_weighty(announcement, listener):
                    return None
                if not listener.hears(announcement.interface):
                    continue
                view = await self._look(announcement, shared=True)
                frame = _frame(announcement, entry_id, view, listener, {})
                if frame is not None:
                    frames.append(frame)
                if len(frames) > MOST_MISSED:
                    return None
        return frames

    @staticmethod
    def _is_weighty(change: Change, listener: Listener) -> bool:
        if change.interface == "users":
            return listener.principal.user_id in change.ids
        return change.interface in WEIGHTY

    # Reading

    async def _find_place(self) -> None:
        """Begin at the end of the stream, or go on where we were if nothing is missing."""
        place = self._place
        if place is not None and (place == BEGIN or await self._source.has(place)):
            return
        entries = await self._source.newest(MOST + 1)
        self._recent.begin(entries[0][0] if len(entries) > MOST else BEGIN)
        self._recent.add(_read(entry) for entry in entries[-MOST:])
        self._place = entries[-1][0] if entries else BEGIN
        if place is not None or self._listeners:
            self._tell_reset(_LOST)

    async def _pass_on(self, entries: list[Told]) -> None:
        self._recent.add(entries)
        if self._listeners:
            if any(isinstance(each, Change) and each.interface in WEIGHTY for _, each in entries):
                self._doubt = True
                await self._check()
            await self._tell(newest(entries))
        self._place = entries[-1][0]

    async def _tell(self, entries: list[Told]) -> None:
        slots = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(announcement: Announcement) -> View | None:
            if isinstance(announcement, Lost) or not self._is_heard(announcement.interface):
                return None
            async with slots:
                return await self._look(announcement)

        views = await asyncio.gather(
            *(look(announcement) for _, announcement in entries), return_exceptions=True
        )
        for (entry_id, announcement), view in zip(entries, views, strict=True):
            if isinstance(announcement, Lost) or isinstance(view, CafeVariomeError):
                self._tell_reset(_LOST, entry_id)
                continue
            if isinstance(view, BaseException):
                raise view
            bodies: Bodies = {}
            here = position(entry_id)
            for listener in tuple(self._listeners):
                if listener.after >= here:
                    continue
                frame = _frame(announcement, entry_id, view, listener, bodies)
                if frame is not None:
                    self._offer(listener, frame)

    def _is_heard(self, interface: str) -> bool:
        return any(listener.hears(interface) for listener in self._listeners)

    async def _look(self, change: Change, *, shared: bool = False) -> View | None:
        """Return how a thing looks to whom; `shared`: as it looked within the last second."""
        if change.operation is Operation.DELETE or change.interface not in self._interfaces:
            return None
        key = (change.interface, change.ids[0])
        moment = asyncio.get_running_loop().time()
        if shared:
            fresh = {each: at for each, at in self._looked.items() if moment - at[0] < 1.0}
            self._looked = fresh
            if key in fresh:
                return fresh[key][1]
        view = await self._interfaces[change.interface].look(change.ids[0])
        if shared:
            self._looked[key] = (moment, view)
        return view

    # Ending and checking

    async def _check(self) -> None:
        """Look at the standing of everybody who listens."""
        listeners = tuple(self._listeners)
        self._checked_at = asyncio.get_running_loop().time()
        self._doubt = False
        if not listeners:
            return
        try:
            users = frozenset(each.principal.user_id for each in listeners)
            found = await self._standings(users)
        except CafeVariomeError as fault:
            self._doubt = True
            log.warning("standing_unknown", cause=fault.sentence)
            return
        for listener in listeners:
            now = found.get(UserId(listener.principal.user_id))
            if now is None:
                self._end(listener, "disabled")
            elif now.role is not listener.principal.role:
                self._end(listener, "role")
            elif now.reach != listener.reach:
                # Nobody is told to reload before they were told that they may begin.
                told_before = listener.reach is not None
                listener.reach = now.reach
                if told_before:
                    self._offer(listener, noted(Notice(event="reset", reason=_REACH, id=None)))

    def _tell_reset(self, reason: str, entry_id: str | None = None) -> None:
        frame = noted(Notice(event="reset", reason=reason, id=entry_id or self._place))
        for listener in tuple(self._listeners):
            listener.after = (-1, 0)
            self._offer(listener, frame)

    def _offer(self, listener: Listener, frame: Frame) -> None:
        if not listener.offer(frame):
            metrics.updates_dropped.labels("slow").inc()
            log.info("listener_slow", user=listener.principal.user_id)

    def _end(self, listener: Listener, cause: str) -> None:
        if listener.ended is None:
            metrics.updates_dropped.labels(cause).inc()
            listener.end(Notice(event="closed", reason=_ENDS[cause]), cause)


def _read(entry: Entry) -> Told:
    try:
        return entry[0], decode(entry[1], ANNOUNCEMENT)
    except Invalid as fault:
        # Another version of ours wrote it: what it says is unknown, so everybody reloads.
        log.warning("update_unreadable", cause=fault.sentence)
        return entry[0], Lost()


def _frame(
    change: Change, entry_id: str, view: View | None, listener: Listener, bodies: Bodies
) -> Frame | None:
    """Write what a listener is told of a change, if anything; equal views are written once."""
    if not listener.hears(change.interface):
        return None
    if change.operation is Operation.DELETE:
        if change.audience is None or not change.audience.holds(listener.principal):
            return None
        if 0 not in bodies:
            bodies[0] = (None, deleted(change.interface, change.ids, entry_id))
        return bodies[0][1]
    shown = None if view is None else view(listener.principal)
    if shown is None:
        return None
    if id(shown) not in bodies:
        update = Update(
            interface=change.interface, operation=change.operation, data=shown, id=entry_id
        )
        bodies[id(shown)] = (shown, told(update))
    return bodies[id(shown)][1]
