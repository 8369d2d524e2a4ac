"""The worker: takes jobs that are rung or found, runs their handlers, and sees each to its end.

Promises: a job runs at least once and on one worker at a time, as long as no worker is held up for
longer than a lease; a job that a dead worker left is taken over within `LEASE_SECONDS` plus
`SWEEP_SECONDS`; a cancel reaches the handler within about a second; a worker that is asked to end
hands its jobs back at once. Whatever way a job ends but complete, it is undone first. A job begins
only when the books of this host (`ledger.py`) have its cores and memory free, in the order in
which jobs were asked for, and when one of this process's slots for heavy work is free.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from time import monotonic
from typing import Any

import structlog

from cvf_app.backends.queue import Queue
from cvf_app.clock import now
from cvf_app.errors import TimedOut, Unavailable
from cvf_app.jobs.budget import TICK_SECONDS
from cvf_app.jobs.faults import fault_of
from cvf_app.jobs.handler import Handler, Handlers, task_of
from cvf_app.jobs.lease import LEASE_SECONDS, RENEW_SECONDS, Lease, LeaseLost
from cvf_app.jobs.ledger import Ledger
from cvf_app.jobs.model import JobFault, JobId, JobState
from cvf_app.jobs.service import MOST_ATTEMPTS, Due, Jobs
from cvf_app.jobs.steps import AttemptSteps
from cvf_app.jobs.workload import Limits, Workload, time_is_up
from cvf_app.jobs.workload.process import Processes
from cvf_app.metrics import job_slots
from cvf_app.wire import Job, convert

SWEEP_SECONDS = 2.0
_LOOK_SECONDS = 0.1
_STOPPING = "the worker is being shut down"
log = structlog.get_logger("cv3.jobs")


class Worker:
    """One process's worker with so many slots."""

    def __init__(  # noqa: PLR0913 - what a worker works with
        self,
        jobs: Jobs,
        queue: Queue,
        handlers: Handlers,
        *,
        slots: int = 4,
        ledger: Ledger | None = None,
        workload: Workload | None = None,
    ) -> None:
        """Run these kinds of jobs; a kind that is missing here is left to other workers.

        Without a ledger the slots alone bound what runs.
        """
        self._jobs = jobs
        jobs.know(handlers)
        self._ledger = ledger
        self._workload = workload or Processes(now, grace=jobs.sizes.grace)
        self._free = asyncio.Event()
        self._queue = queue
        self._handlers = {task_of(kind): (kind, handler) for kind, handler in handlers.items()}
        self._tasks = frozenset(self._handlers)
        self._slots = asyncio.Semaphore(slots)
        self._count = slots
        self._mine: set[JobId] = set()
        self._left: float | None = None

    def leave(self) -> None:
        """Begin no more jobs; others find what waits."""
        if self._left is None:
            self._left = asyncio.get_running_loop().time()

    async def finish(self, seconds: float) -> None:
        """Wait until the running jobs have ended, at most so long after we were told to leave."""
        self.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout_at((self._left or 0.0) + seconds):
                while self._mine:  # noqa: ASYNC110 - once, at the end; nobody else needs to hear it
                    await asyncio.sleep(_LOOK_SECONDS)

    async def run(self) -> None:
        """Work until cancelled; then hand back what is running."""
        async with asyncio.TaskGroup() as group:

            async def answer(job_id: str) -> None:
                try:
                    due = await self._jobs.due(JobId(job_id), self._tasks)
                except Unavailable as fault:
                    log.warning("claim_failed", job_id=job_id, cause=fault.sentence)
                else:
                    if due is not None:
                        await self._attend(group, due)

            if self._ledger is not None:
                self._ledger.enforcement = self._workload.enforcement
                group.create_task(self._keep_books(self._ledger))
            group.create_task(self._sweep(group))
            group.create_task(self._queue.listen(answer, self._count))

    async def _sweep(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._free.clear()
            try:
                # The oldest queues for a slot like those that were rung, or they would go first.
                for due in await self._jobs.recover(self._tasks, self._count * 4):
                    await self._attend(group, due)
                    if self._slots.locked():
                        break
            except Unavailable as fault:
                log.warning("sweep_failed", cause=fault.sentence)
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._free.wait()

    async def _keep_books(self, ledger: Ledger) -> None:
        """Renew what is held here, and at every other tick the places of the oldest that wait."""
        for looks in cycle((True, False)):
            waiting: tuple[Due, ...] = ()
            try:
                if looks:
                    waiting = await self._jobs.recover(self._tasks, self._count * 4)
            except Unavailable as fault:
                log.warning("sweep_failed", cause=fault.sentence)
            try:
                places = ((due.job_id, due.size, due.since) for due in waiting if not due.light)
                await ledger.tick(tuple(places))
            except Unavailable as fault:
                log.warning("books_not_kept", cause=fault.sentence)
            await asyncio.sleep(TICK_SECONDS)

    async def _attend(self, group: asyncio.TaskGroup, due: Due) -> None:
        """Wait for a slot, reserve, claim the job and begin it; nothing if it is not for us."""
        if due.job_id in self._mine or self._left is not None:
            return
        self._mine.add(due.job_id)
        lease: Lease | None = None
        try:
            await self._slots.acquire()
            job_slots.inc()
            try:
                if self._left is None and await self._reserve(due):
                    lease = await self._jobs.claim(due.job_id, self._tasks)
            except Unavailable as fault:
                log.warning("claim_failed", job_id=due.job_id, cause=fault.sentence)
            finally:
                if lease is None:
                    await self._give_back(due.job_id)
        finally:
            if lease is None:
                self._mine.discard(due.job_id)
        if lease is not None:
            group.create_task(self._see_through(lease))

    async def _reserve(self, due: Due) -> bool:
        if self._ledger is None or due.light:
            return True
        return await self._ledger.reserve(due.job_id, due.size, due.since)

    async def _give_back(self, job_id: JobId) -> None:
        """Free the slot at once, and the share of the host if there is one."""
        self._slots.release()
        job_slots.dec()
        if self._ledger is not None:
            await self._ledger.release(job_id)

    async def _see_through(self, lease: Lease) -> None:
        job_id = lease.job.job_id
        limits = self._jobs.limits_of(lease.job.size)
        try:
            with structlog.contextvars.bound_contextvars(job_id=job_id, task=lease.job.task):
                kind, handler = self._handlers[lease.job.task]
                await _Attempt(lease, kind, handler, self._workload, limits).run()
        except LeaseLost:
            log.warning("lease_lost", job_id=job_id)
        except Unavailable as fault:
            # Its document cannot be written: the lease lapses and the job is run again.
            log.warning("job_left", job_id=job_id, cause=fault.sentence)
        finally:
            try:
                await self._give_back(job_id)
            finally:
                self._mine.discard(job_id)
                self._free.set()


class _Attempt:
    """One attempt at one job under its lease."""

    def __init__(
        self,
        lease: Lease,
        kind: type[Job],
        handler: Handler,
        workload: Workload,
        limits: Limits,
    ) -> None:
        self._lease = lease
        self._steps = AttemptSteps(lease, workload, limits)
        self._limits = limits
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
        await _insist(self._lease.begin)
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
        limit = asyncio.timeout(self._limits.seconds)
        try:
            async with limit:
                return await self._handler.run(convert(task, self._kind), self._steps)
        except TimeoutError as fault:
            if limit.expired():
                raise TimedOut(time_is_up(self._limits.seconds)) from fault
            raise

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
        held_until = monotonic() + self._lease.seconds
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            asked = monotonic()
            try:
                if not await self._lease.renew(heed_cancel=heed_cancel and not outcome.cancelled):
                    outcome.cancelled = True
                    doing.cancel()
                await self._steps.listen()
                await self._lease.flush()
                held_until = asked + self._lease.seconds
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
