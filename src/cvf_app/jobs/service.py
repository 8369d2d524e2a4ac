"""Jobs: taken in, shown, cancelled, claimed. The document comes first and the doorbell second."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from typing import Protocol

from cvf_app.clock import Clock, epoch
from cvf_app.errors import Conflict, NotFound
from cvf_app.ids import new_id
from cvf_app.jobs.handler import task_of
from cvf_app.jobs.lease import LEASE_SECONDS, Lease
from cvf_app.jobs.model import JobDocument, JobFault, JobId, JobState, StatusEntry
from cvf_app.jobs.store import JobStore, KeptJob
from cvf_app.principal import Principal, Role, UserId
from cvf_app.wire import Job, plain

MOST_ATTEMPTS = 5
WATCH_SECONDS = 0.5
_SEE_ALL = (Role.DATA_ADMIN, Role.DEVELOPER)
_LOST = JobFault(cause="signal", message="The worker of this job died again and again.")


class Doorbell(Protocol):
    """What tells a waiting worker of a job; see `backends/queue.py`."""

    async def ring(self, job_id: str) -> bool:
        """Tell one worker of a job; False when nobody could be told."""
        ...


class Jobs:
    """The background jobs of this instance."""

    def __init__(self, store: JobStore, queue: Doorbell, clock: Clock) -> None:
        """Keep jobs in the store and ring the queue."""
        self._store = store
        self._queue = queue
        self._clock = clock

    async def enqueue(
        self, job: Job, principal_id: UserId, *, key: str | None = None
    ) -> JobDocument:
        """Take a job in and return it; with a key, the job of that key that has not ended yet.

        The job is safe when this returns, also when no worker could be told: their sweep finds it.
        """
        moment = self._clock()
        args = {name: value for name, value in plain(job).items() if name != "job"}
        document = JobDocument(
            job_id=JobId(new_id()),
            task=task_of(type(job)),
            args=args,
            user_id=principal_id,
            state=JobState.WAITING,
            progress=0.0,
            attempts=0,
            created_at=epoch(moment),
            status=(
                StatusEntry(
                    state=JobState.WAITING, stage="waiting", progress=0.0, timestamp=epoch(moment)
                ),
            ),
        )
        while True:
            try:
                await self._store.add(document, key=key, at=moment.timestamp())
            except Conflict:
                if key is None:
                    raise
                there = await self._store.of_key(key)
                if there is not None:
                    return there
                # It ended between the two calls, so its key is free: try again.
                continue
            await self._queue.ring(document.job_id)
            return document

    async def get(self, job_id: JobId, asker: Principal | None = None) -> JobDocument:
        """Return a job; with an asker, only if it is theirs or they may see all.

        Raises:
            NotFound: there is none, or it is not theirs to know of.
        """
        kept = await self._store.get(job_id)
        if kept is None or not _may_see(asker, kept.document):
            raise NotFound("There is no such job.")
        return kept.document

    async def views(self, job_id: JobId) -> Callable[[Principal], JobDocument | None]:
        """Return how a job looks to whom: what `get` would answer each of them.

        Raises:
            NotFound: there is none.
        """
        job = await self.get(job_id)
        return lambda asker: job if _may_see(asker, job) else None

    async def owners(self, job_ids: Collection[JobId]) -> dict[JobId, UserId]:
        """Return whose jobs these are, as far as there are such jobs."""
        return await self._store.owners(job_ids)

    async def list_jobs(
        self, asker: Principal, *, limit: int, skip: int
    ) -> tuple[JobDocument, ...]:
        """Return jobs, newest first: all of them to those who may see all, else the asker's own."""
        owner = None if asker.role in _SEE_ALL else asker.user_id
        return await self._store.page(owner, limit, skip)

    async def cancel(self, job_id: JobId, asker: Principal | None = None) -> JobDocument:
        """Cancel a job and return it: one that never began has ended, another is being stopped.

        Raises:
            NotFound: there is none, or it is not theirs to know of.
            Conflict: it has ended.
        """
        job = await self.get(job_id, asker)
        entry = StatusEntry(
            state=JobState.CANCELLED,
            stage="cancelled",
            progress=job.progress,
            timestamp=epoch(self._clock()),
        )
        if await self._store.end(job_id, None, entry, None):
            return await self.get(job_id)
        if not await self._store.ask_cancel(job_id):
            job = await self.get(job_id)
            if job.state.ended:
                raise Conflict("This job has ended and cannot be cancelled.")
        return await self.get(job_id)

    async def watch(self, job_id: JobId) -> AsyncIterator[JobDocument]:
        """Yield a job now and after every change until it has ended.

        Raises:
            NotFound: there is none.
        """
        shown = None
        while True:
            job = await self.get(job_id)
            if job != shown:
                yield job
                shown = job
            if job.state.ended:
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def recover(self, tasks: Collection[str], limit: int) -> tuple[JobId, ...]:
        """Return jobs of these kinds to be claimed: never rung, or left by a dead worker."""
        return await self._store.due(tasks, self._clock().timestamp(), limit)

    async def claim(self, job_id: JobId, tasks: Collection[str]) -> Lease | None:
        """Take a job of these kinds if it waits or its lease ran out; else nothing.

        A job with a cancel asked for, or with too many attempts, comes with its `ending` set: it is
        only to be undone and ended.
        """
        seen = await self._store.get(job_id)
        now = self._clock().timestamp()
        if seen is None or seen.document.task not in tasks or not _is_due(seen, now):
            return None
        job = seen.document
        ending = seen.ending or self._ending(job)
        attempts = job.attempts if ending else job.attempts + 1
        entry = StatusEntry(
            state=JobState.RUNNING,
            stage="undoing" if ending else "starting",
            progress=job.progress if ending else 0.0,
            timestamp=epoch(self._clock()),
            attempt=attempts,
        )
        name = new_id()
        until = now + LEASE_SECONDS
        if not await self._store.claim(
            seen, lease=name, until=until, attempts=attempts, entry=entry
        ):
            return None
        return Lease(self._store, self._clock, (await self.get(job_id)), name, ending)

    def _ending(self, job: JobDocument) -> StatusEntry | None:
        if job.cancel_requested:
            state, fault = JobState.CANCELLED, None
        elif job.attempts >= MOST_ATTEMPTS:
            state, fault = JobState.LOST, _LOST
        else:
            return None
        return StatusEntry(
            state=state,
            stage=job.stage,
            progress=job.progress,
            timestamp=epoch(self._clock()),
            attempt=job.attempts,
            error=fault,
        )


def _is_due(kept: KeptJob, now: float) -> bool:
    if kept.document.state is JobState.WAITING:
        return kept.not_before <= now
    return kept.document.state is JobState.RUNNING and kept.lease_until < now


def _may_see(asker: Principal | None, job: JobDocument) -> bool:
    return asker is None or asker.role in _SEE_ALL or asker.user_id == job.user_id
