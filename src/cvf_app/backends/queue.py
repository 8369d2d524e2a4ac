"""The doorbell of the job rail: Redis tells a waiting worker that a job document is there.

pydocket delivers; it does not run anything. What travels is the id of a job, as JSON: pydocket
would write its messages with cloudpickle, by which whoever can write to Redis could run code in
our workers, so a JSON codec stands in its place before the first import. Promises: `ring` never
fails and never takes longer than two seconds (a job that was not rung is found by the worker's
sweep); `listen` outlives a Redis that goes away, comes back empty, or was never there.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from types import ModuleType

import structlog
from redis.exceptions import RedisError


def _dumps(value: object) -> bytes:
    # An exception is told by its name alone: its text may hold what Redis has no business to know.
    shown = {"exception": type(value).__name__} if isinstance(value, BaseException) else value
    return json.dumps(shown, separators=(",", ":")).encode()


def _json_codec() -> ModuleType:
    codec = ModuleType(
        "cloudpickle", "JSON under the name that pydocket imports; see backends/queue.py."
    )
    codec.dumps = _dumps  # type: ignore[attr-defined]
    codec.loads = json.loads  # type: ignore[attr-defined]
    return codec


if "docket" in sys.modules:
    raise ImportError("docket was imported before its codec was put in place")
sys.modules["cloudpickle"] = _json_codec()

from docket import Docket, Worker  # noqa: E402 - after its codec, see above

RING_SECONDS = 2.0
PAUSE_SECONDS = 2.0
Answer = Callable[[str], Awaitable[None]]
log = structlog.get_logger("cv3.queue")


class Queue:
    """The doorbell under one name on one Redis."""

    def __init__(self, url: str, name: str = "cv3-jobs") -> None:
        """Know where to ring; nothing is sent yet."""
        self._url = url
        self._name = name
        self._open = AsyncExitStack()
        self._docket: Docket | None = None
        self._opening = asyncio.Lock()

    async def ring(self, job_id: str) -> bool:
        """Tell one worker of a job, and say whether Redis took the message."""
        try:
            async with asyncio.timeout(RING_SECONDS):
                docket = await self._ringing()
                await docket.add("ring", key=job_id)(job_id)
        except (RedisError, OSError, TimeoutError) as fault:
            log.warning("doorbell_silent", job_id=job_id, cause=fault)
            return False
        return True

    async def listen(self, answer: Answer, slots: int) -> None:
        """Hand every id that is rung to `answer`, at most `slots` at a time, until cancelled."""

        async def ring(job_id: str) -> None:
            await answer(job_id)

        while True:
            try:
                async with Docket(
                    self._name, self._url, execution_ttl=timedelta(minutes=1)
                ) as docket:
                    docket.register(ring)
                    async with Worker(
                        docket,
                        concurrency=slots,
                        redelivery_timeout=timedelta(seconds=30),
                        reconnection_delay=timedelta(seconds=PAUSE_SECONDS),
                        minimum_check_interval=timedelta(milliseconds=50),
                        schedule_automatic_tasks=False,
                    ) as worker:
                        await worker.run_forever()
            except (RedisError, OSError) as fault:
                log.warning("doorbell_lost", cause=fault)
            # pydocket answers a cancel by ending well, which must not look like a lost connection.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError
            await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """Close every connection."""
        async with self._opening:
            self._docket = None
            await self._open.aclose()

    async def _ringing(self) -> Docket:
        async with self._opening:
            if self._docket is None:
                docket = Docket(self._name, self._url, execution_ttl=timedelta(minutes=1))
                docket.register(_never, names=["ring"])
                self._docket = await self._open.enter_async_context(docket)
            return self._docket


async def _never(job_id: str) -> None:
    """Stand for the task on the side that only rings."""
    raise NotImplementedError(job_id)
