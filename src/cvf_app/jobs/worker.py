"""The worker: takes jobs that are rung or found, runs their handlers, and sees each to its end.

Promises: a job runs at least once and on one worker at a time, as long as no worker is held up for
longer than a lease; a job that a dead worker left is taken over within `LEASE_SECONDS` plus
`SWEEP_SECONDS`; a cancel reaches the handler within about a second; a worker that is asked to end
hands its jobs back at once. Whatever way a job ends but complete, it is undone first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import structlog

from cvf_app.backends.queue import Queue
from cvf_app.errors import Unavailable
from cvf_app.jobs.faults import fault_of
from cvf_app.jobs.handler import Handler, Handlers, task_of
from cvf_app.jobs.lease import LEASE_SECONDS, RENEW_SECONDS, Lease, LeaseLost
from cvf_app.jobs.model import JobFault, JobId, JobState
from cvf_app.jobs.service import MOST_ATTEMPTS, Jobs
from cvf_app.wire import Job, convert

SWEEP_SECONDS = 2.0
_STOPPING = "the worker is being shut down"
log = structlog.get_logger("cv3.jobs")


class Worker:
    """One process's worker with so many slots."""

    def __init__(self, jobs: Jobs, queue: Queue, handlers: Handlers, *, slots: int = 4) -> None:
        """Run these kinds of jobs; a kind that is missing here is left to other workers."""
        self._jobs = jobs
        self._queue = queue
        self._handlers = {task_of(kind): (kind, handler) for kind, handler in handlers.items()}
        self._tasks = frozenset(self._handlers)
        self._slots = asyncio.Semaphore(slots)
        self._count = slots
        self._mine: set[JobId] = set()

    async def run(self) -> None:
        """Work until cancelled; then hand back what is running."""
        async with asyncio.TaskGroup() as group:

            async def answer(job_id: str) -> None:
                await self._attend(group, JobId(job_id))

            group.create_task(self._sweep(group))
            group.create_task(self._queue.listen(answer, self._count))

    async def _sweep(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                if not self._slots.locked():
                    for job_id in await self._jobs.recover(self._tasks, self._count * 4):
                        if self._slots.locked():
                            break
                        await self._attend(group, job_id)
            except Unavailable as fault:
                log.warning("sweep_failed", cause=fault.sentence)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _attend(self, group: asyncio.TaskGroup, job_id: JobId) -> None:
        """Wait for a slot, claim the job and begin it; nothing when it is not ours to run."""
        if job_id in self._mine:
            return
        await self._slots.acquire()
        lease: Lease | None = None
        try:
            lease = await self._jobs.claim(job_id, self._tasks)
        except Unavailable as fault:
            log.warning("claim_failed", job_id=job_id, cause=fault.sentence)
        finally:
            if lease is None:
                self._slots.release()
        if lease is not None:
            self._mine.add(job_id)
            group.create_task(self._see_through(lease))

    async def _see_through(self, lease: Lease) -> None:
        job_id = lease.job.job_id
        try:
            with structlog.contextvars.bound_contextvars(job_id=job_id, task=lease.job.task):
                await _Attempt(lease, *self._handlers[lease.job.task]).run()
        except LeaseLost:
            log.warning("lease_lost", job_id=job_id)
        except Unavailable as fault:
            # Its document cannot be written: the lease lapses and the job is run again.
            log.warning("job_left", job_id=job_id, cause=fault.sentence)
        finally:
            self._mine.discard(job_id)
            self._slots.release()


class _Attempt:
    """One attempt at one job under its lease."""

    def __init__(self, lease: Lease, kind: type[Job], handler: Handler) -> None:
        self._lease = lease
        self._kind = kind
        self._handler = handler

    async def run(self) -> None:
        """Do the job, or only undo it when its end is settled, and write how it ended."""
        try:
            if self._lease.ending is None:
                await self._do()
            else:
                await self._undo()
        except asyncio.CancelledError:
            # The worker is being ended: somebody else may go on at once.
            with suppress(LeaseLost, Unavailable):
                await self._lease.hand_back(
                    _STOPPING, seconds=0.0, counts=self._lease.ending is not None
                )
            raise

    async def _do(self) -> None:
        outcome = await self._held(self._call(), heed_cancel=True)
        raised = outcome.raised
        if outcome.cancelled:
            await self._fail(JobState.CANCELLED, None)
        elif raised is None:
            await _insist(partial(self._lease.end, None, outcome.result))
        elif isinstance(raised, Unavailable) and self._lease.attempt < MOST_ATTEMPTS:
            log.warning("job_retried", cause=raised.sentence, attempt=self._lease.attempt)
            pause = float(2**self._lease.attempt)
            await _insist(
                partial(self._lease.hand_back, raised.sentence, seconds=pause, counts=True)
            )
        else:
            fault = fault_of(raised)
            log.warning("job_failed", cause=fault.cause, exc_info=raised)
            await self._fail(JobState.ERROR, fault)

    async def _call(self) -> dict[str, Any] | None:
        task = {"job": self._lease.job.task, **self._lease.job.args}
        return await self._handler.run(convert(task, self._kind), self._lease)

    async def _fail(self, state: JobState, fault: JobFault | None) -> None:
        await _insist(partial(self._lease.will_end, state, fault))
        await self._undo()

    async def _undo(self) -> None:
        if self._handler.undo is not None:
            task = {"job": self._lease.job.task, **self._lease.job.args}
            outcome = await self._held(self._undo_with(self._handler.undo, task), heed_cancel=False)
            if outcome.raised is not None:
                log.error("undo_failed", exc_info=outcome.raised)
        await _insist(partial(self._lease.end, self._lease.ending))

    async def _undo_with(
        self, undo: Callable[[Any], Awaitable[None]], task: dict[str, Any]
    ) -> dict[str, Any] | None:
        await undo(convert(task, self._kind))
        return None

    async def _held(
        self, work: Coroutine[Any, Any, dict[str, Any] | None], *, heed_cancel: bool
    ) -> "_Outcome":
        """Run something while the lease is renewed; the outcome never raises, a lost lease does."""
        outcome = _Outcome()
        async with asyncio.TaskGroup() as group:
            doing = group.create_task(_into(outcome, work))
            keeping = group.create_task(self._keep(doing, outcome, heed_cancel=heed_cancel))
            doing.add_done_callback(lambda _: keeping.cancel())
        if outcome.lost:
            raise LeaseLost
        if doing.cancelled() and not outcome.cancelled:
            outcome.raised = RuntimeError("the handler cancelled itself")
        outcome.cancelled = doing.cancelled() and outcome.cancelled
        return outcome

    async def _keep(
        self, doing: "asyncio.Task[None]", outcome: "_Outcome", *, heed_cancel: bool
    ) -> None:
        held_until = monotonic() + LEASE_SECONDS
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            asked = monotonic()
            try:
                if not await self._lease.renew(heed_cancel=heed_cancel and not outcome.cancelled):
                    outcome.cancelled = True
                    doing.cancel()
                await self._lease.flush()
                held_until = asked + LEASE_SECONDS
            except LeaseLost:
                outcome.lost = True
            except Unavailable as fault:
                log.warning("renewal_failed", cause=fault.sentence)
                outcome.lost = monotonic() + RENEW_SECONDS > held_until
            if outcome.lost:
                doing.cancel()
                return


@dataclass
class _Outcome:
    """What came of a piece of work."""

    result: dict[str, Any] | None = None
    raised: Exception | None = None
    cancelled: bool = False
    lost: bool = False


async def _into(outcome: _Outcome, work: Coroutine[Any, Any, dict[str, Any] | None]) -> None:
    try:
        outcome.result = await work
    except LeaseLost:
        outcome.lost = True
    except Exception as raised:  # noqa: BLE001 - the job loop: whatever a handler raises ends its job only
        outcome.raised = raised


async def _insist(write: Callable[[], Awaitable[None]]) -> None:
    """Write again for a few seconds while the database does not answer."""
    until = monotonic() + LEASE_SECONDS
    while True:
        try:
            return await write()
        except Unavailable:
            if monotonic() > until:
                raise
            await asyncio.sleep(RENEW_SECONDS)
