"""A form of workload for tests: nothing runs, what comes of an order is in a script."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cvf_app.errors import NotFound, TimedOut
from cvf_app.ids import new_id
from cvf_app.jobs.workload import Order, Placement, PlacementId, WorkCancelled, time_is_up


@dataclass(frozen=True)
class Script:
    """What comes of one order: shares of progress, text, then an answer, a failure, or nothing."""

    answer: Mapping[str, Any] = field(default_factory=lambda: {"result": {}})
    raises: Exception | None = None
    shares: tuple[float, ...] = ()
    printed: str = ""
    endless: bool = False


@dataclass
class _Running:
    order: Order
    placement: Placement
    script: Script
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class Scripted:
    """Works by scripts, chosen by what a test can tell of the order; remembers every order."""

    enforcement = "a script"

    def __init__(self, script_of: Callable[[Order], Script]) -> None:
        self._script_of = script_of
        self._running: dict[PlacementId, _Running] = {}
        self._tails: dict[PlacementId, str] = {}
        self.orders: list[Order] = []

    async def start(self, order: Order) -> Placement:
        placement = Placement(PlacementId(new_id()), order.job_id, order.limits, 0.0)
        script = self._script_of(order)
        self.orders.append(order)
        self._running[placement.placement_id] = _Running(order, placement, script)
        self._tails[placement.placement_id] = script.printed
        return placement

    async def list(self) -> tuple[Placement, ...]:
        return tuple(one.placement for one in self._running.values())

    async def cancel(self, placement: Placement) -> None:
        if placement.placement_id in self._running:
            self._running[placement.placement_id].stop.set()

    async def tail(self, placement: Placement) -> str:
        return self._tails.get(placement.placement_id, "")

    async def outcome(
        self, placement: Placement, progress: Callable[[float], None] | None = None
    ) -> dict[str, Any]:
        one = self._running.get(placement.placement_id)
        if one is None:
            raise NotFound("There is no such work.")
        try:
            return await self._play(one, progress)
        finally:
            del self._running[placement.placement_id]

    async def _play(
        self, one: _Running, progress: Callable[[float], None] | None
    ) -> dict[str, Any]:
        if one.script.endless or one.stop.is_set():
            limit = one.order.limits.seconds
            try:
                async with asyncio.timeout(limit):
                    await one.stop.wait()
            except TimeoutError as fault:
                raise TimedOut(time_is_up(limit)) from fault
            raise WorkCancelled
        for share in one.script.shares:
            if progress is not None:
                progress(share)
        if one.script.raises is not None:
            raise one.script.raises
        return dict(one.script.answer)
