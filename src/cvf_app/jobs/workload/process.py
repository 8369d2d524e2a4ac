"""The form `process`: work in a child process of this host, niced, in a session of its own.

Promises: limits hold for the child with all that it starts, by the form that `cages.py` found;
whatever way the work ends, nothing of it runs on and no cgroup stays. The child waits for its
order until it is inside its bounds. One watcher settles why work is ended, the first reason wins.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Any

from cvf_app import errors
from cvf_app.child import Child, ChildExited, ChildKilled, LimitReached
from cvf_app.clock import Clock
from cvf_app.ids import new_id
from cvf_app.jobs.workload import Order, Placement, PlacementId, WorkCancelled, time_is_up
from cvf_app.jobs.workload.cages import Cage, Cages
from cvf_app.jobs.workload.tail import Tail
from cvf_app.loops import in_thread

GRACE_SECONDS = 5.0
WATCH_SECONDS = 0.25
KEPT_TAILS = 64


@dataclass
class _Work:
    """One piece of work that has not been put away."""

    placement: Placement
    child: Child
    cage: Cage
    tail: Tail
    until: float
    why: errors.CafeVariomeError | None = None
    answer: dict[str, Any] | None = None
    fault: errors.CafeVariomeError | None = field(default=None)


class Processes:
    """The work that this process has given to children."""

    def __init__(
        self, clock: Clock, cages: Cages | None = None, *, grace: float = GRACE_SECONDS
    ) -> None:
        """Bound children by these cages, else by the strongest there are when the first is asked.

        They get `grace` seconds to end by themselves.
        """
        self._given = cages
        self._clock = clock
        self._grace = grace
        self._works: dict[PlacementId, _Work] = {}
        self._tails: dict[PlacementId, str] = {}

    @property
    def enforcement(self) -> str:
        """How limits are made to hold here."""
        return self._cages.enforcement

    @cached_property
    def _cages(self) -> Cages:
        return self._given or Cages.open()

    async def start(self, order: Order) -> Placement:
        """Start a child, put it inside its bounds, and give it its order.

        Raises:
            Unavailable: this host lets us start or bound no process now.
        """
        placement = Placement(
            PlacementId(new_id()), order.job_id, order.limits, self._clock().timestamp()
        )
        try:
            cage = await in_thread(self._cages.make, order.limits)
        except OSError as fault:
            raise errors.Unavailable("This host lets us bound no process now.") from fault
        tail = Tail()
        child = None
        try:
            try:
                child = await Child.start(order.call.module, tail.descriptor)
            finally:
                tail.given()
            await in_thread(cage.place, child.pid)
            until = monotonic() + order.limits.seconds
            self._works[placement.placement_id] = _Work(placement, child, cage, tail, until)
            await child.order(order.call)
        except OSError as fault:
            await self._drop(placement, child, cage, tail)
            raise errors.Unavailable("This host lets us start no process now.") from fault
        except asyncio.CancelledError:
            await self._drop(placement, child, cage, tail)
            raise
        return placement

    async def list(self) -> tuple[Placement, ...]:
        """Return what runs here."""
        return tuple(work.placement for work in self._works.values())

    async def cancel(self, placement: Placement) -> None:
        """TERM to the group, a while, KILL; nothing when it has ended."""
        work = self._works.get(placement.placement_id)
        if work is not None:
            await self._stop(work, WorkCancelled())

    async def tail(self, placement: Placement) -> str:
        """Return the end of what the work printed."""
        work = self._works.get(placement.placement_id)
        if work is not None:
            return work.tail.text()
        return self._tails.get(placement.placement_id, "")

    async def outcome(
        self, placement: Placement, progress: Callable[[float], None] | None = None
    ) -> dict[str, Any]:
        """Wait for the answer while the watcher looks after the limits; see the protocol.

        Raises:
            NotFound: its outcome was awaited already.
        """
        work = self._works.get(placement.placement_id)
        if work is None:
            raise errors.NotFound("There is no such work.")
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch(work))
                group.create_task(_answered(work, progress)).add_done_callback(
                    lambda _: watching.cancel()
                )
            await self._judge(work)
        finally:
            await self._drop(placement, work.child, work.cage, work.tail)
        if work.answer is None or work.why is not None:
            raise work.why or work.fault or errors.Unavailable("The work gave no answer.")
        return work.answer

    async def _watch(self, work: _Work) -> None:
        while True:
            left = work.until - monotonic()
            if left <= 0:
                await self._stop(work, errors.TimedOut(time_is_up(work.placement.limits.seconds)))
                return
            await asyncio.sleep(min(WATCH_SECONDS, left))
            if await in_thread(work.cage.over):
                await self._stop(work, LimitReached(), grace=0.0)
                return
            if work.child.ended:
                # What it started may hold its pipes open, and then we would wait for ever.
                await in_thread(work.cage.close)
                return

    async def _judge(self, work: _Work) -> None:
        """Settle whether memory was what ended a work that failed, now that it is over."""
        failed = work.answer is None or "result" not in work.answer
        if failed and work.why is None and await in_thread(work.cage.over):
            work.why = LimitReached()

    async def _stop(
        self, work: _Work, why: errors.CafeVariomeError, grace: float | None = None
    ) -> None:
        if work.why is None and not work.child.ended:
            work.why = why
        await work.child.end(self._grace if grace is None else grace)
        await in_thread(work.cage.close)

    async def _drop(
        self, placement: Placement, child: Child | None, cage: Cage, tail: Tail
    ) -> None:
        """End what runs and put everything away."""
        try:
            if child is not None:
                await child.end(self._grace)
        finally:
            # In a thread, so that it is done also when we are cancelled once more.
            await in_thread(cage.close)
            tail.close()
            self._works.pop(placement.placement_id, None)
            self._tails[placement.placement_id] = tail.text()
            for old in list(self._tails)[:-KEPT_TAILS]:
                del self._tails[old]


async def _answered(work: _Work, progress: Callable[[float], None] | None) -> None:
    try:
        work.answer = await work.child.answer(progress)
    except (ChildKilled, ChildExited) as fault:
        work.fault = fault
