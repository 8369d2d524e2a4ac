"""Jobs: taken in, shown, cancelled, claimed. The document comes first and the doorbell second."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec

from cvf_app import config, metrics
from cvf_app.clock import Clock, epoch
from cvf_app.errors import Conflict, NotFound
from cvf_app.ids import new_id
from cvf_app.jobs.handler import Handlers, task_of
from cvf_app.jobs.lease import Lease
from cvf_app.jobs.model import (
    Deleted,
    Ended,
    JobDocument,
    JobFault,
    JobId,
    JobLog,
    JobState,
    StatusEntry,
)
from cvf_app.jobs.sizes import SMALL, Sizes
from cvf_app.jobs.store import JobStore, KeptJob
from cvf_app.jobs.workload import Limits
from cvf_app.principal import Principal, Role, UserId
from cvf_app.wire import Job, encode, plain

MOST_ATTEMPTS = 5
ONCE_SECONDS = 24 * 3600
WATCH_SECONDS = 0.5
_SEE_ALL = (Role.DATA_ADMIN, Role.DEVELOPER)
_LOST = JobFault(cause="signal", message="The worker of this job died again and again.")


class Doorbell(Protocol):
    """What tells a waiting worker of a job; see `backends/queue.py`."""

    async def ring(self, job_id: str) -> bool:
        """Tell one worker of a job; False when nobody could be told."""
        ...


@dataclass(frozen=True)
class Due:
    """A job that could be claimed; a light one is only to be undone and needs no resources."""

    job_id: JobId
    task: str
    size: str
    since: float
    light: bool


class Jobs:
    """The background jobs of this instance."""

    def __init__(
        self, store: JobStore, queue: Doorbell, clock: Clock, sizes: Sizes | None = None
    ) -> None:
        """Keep jobs in the store and ring the queue."""
        self._store = store
        self._queue = queue
        self._clock = clock
        self._own_sizes: dict[str, str] = {}
        self._measured: set[tuple[str, str]] = set()
        self.sizes = sizes or Sizes.of(config.Jobs())

    def know(self, handlers: Handlers) -> None:
        """Learn which kinds of jobs there are, and of which size each is by itself."""
        self._own_sizes |= {
            task_of(kind): handler.size for kind, handler in handlers.items() if handler.size
        }

    def limits_of(self, size: str) -> Limits:
        """Return what a job of a size may have on this host."""
        return self.sizes.limits.get(size) or self.sizes.limits[SMALL]

    async def enqueue(
        self,
        job: Job,
        principal_id: UserId,
        *,
        key: str | None = None,
        idempotency: str | None = None,
        size: str | None = None,
    ) -> JobDocument:
        """Take a job in and return it; with a key, the job of that key that has not ended yet.

        `size` counts where its kind has none by itself; what is configured for the kind wins.
        With the idempotency key of a request, the job that this user asked for with it in the last
        24 hours, also when it has ended. The job is safe when this returns, also when no worker
        could be told: their sweep finds it.

        Raises:
            Conflict: this idempotency key was used for something else.
        """
        moment = self._clock()
        args = {name: value for name, value in plain(job).items() if name != "job"}
        task = task_of(type(job))
        document = JobDocument(
            job_id=JobId(new_id()),
            task=task,
            args=args,
            user_id=principal_id,
            **self._size(task, size or SMALL),
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
        once = None if idempotency is None else _once(principal_id, idempotency)
        while True:
            try:
                await self._store.add(document, key=key, once=once, at=moment.timestamp())
            except Conflict:
                if key is None and once is None:
                    raise
                there = await self._there(document, key, once)
                if there is not None:
                    return there
                # It ended between the two calls, so its key is free: try again.
                continue
            await self._queue.ring(document.job_id)
            return document

    async def _there(
        self, wanted: JobDocument, key: str | None, once: str | None
    ) -> JobDocument | None:
        """Return the job that is in the way of a new one."""
        earlier = None if once is None else await self._store.of_once(once)
        if earlier is not None and once is not None:
            if wanted.created_at - earlier.created_at >= ONCE_SECONDS:
                await self._store.forget_once(earlier.job_id, once)
                return None
            if (earlier.task, encode(earlier.args)) != (wanted.task, encode(wanted.args)):
                raise Conflict(
                    "This Idempotency-Key was sent with another request before; "
                    "a new request needs a new key."
                )
            return earlier
        return None if key is None else await self._store.of_key(key)

    async def get(self, job_id: JobId, asker: Principal | None = None) -> JobDocument:
        """Return a job; with an asker, only if it is theirs or they may see all.

        Raises:
            NotFound: there is none, or it is not theirs to know of.
        """
        kept = await self._store.get(job_id)
        if kept is None or not _may_see(asker, kept.document):
            raise NotFound("There is no such job.")
        return _shown(kept.document, asker)

    async def views(self, job_id: JobId) -> Callable[[Principal], JobDocument | None]:
        """Return how a job looks to whom: what `get` would answer each of them.

        Raises:
            NotFound: there is none.
        """
        job = await self.get(job_id)
        return lambda asker: _shown(job, asker) if _may_see(asker, job) else None

    async def owners(self, job_ids: Collection[JobId]) -> dict[JobId, UserId]:
        """Return whose jobs these are, as far as there are such jobs."""
        return await self._store.owners(job_ids)

    async def list_jobs(
        self,
        asker: Principal,
        *,
        limit: int,
        skip: int,
        state: JobState | None = None,
        task: str | None = None,
    ) -> tuple[JobDocument, ...]:
        """Return jobs, newest first: all of them to those who may see all, else the asker's own."""
        found = await self._store.page(_owner(asker), limit, skip, state=state, task=task)
        return tuple(_shown(job, asker) for job in found)

    async def log(self, job_id: JobId, asker: Principal) -> JobLog:
        """Return the end of what the work of a job has printed.

        Raises:
            NotFound: there is none, or it is not theirs to know of.
        """
        await self.get(job_id, asker)
        return JobLog(job_id=job_id, tail=await self._store.output(job_id))

    async def delete(self, job_id: JobId, asker: Principal) -> None:
        """Remove a job that has ended.

        Raises:
            NotFound: there is none, or it is not theirs to know of.
            Conflict: it has not ended.
        """
        await self.get(job_id, asker)
        if not await self._store.delete(job_id):
            job = await self.get(job_id, asker)
            if not job.state.ended:
                raise Conflict("This job has not ended; cancel it first.")

    async def delete_ended(self, which: Ended, asker: Principal) -> Deleted:
        """Remove ended jobs: all of them for those who may see all, else the asker's own."""
        count = await self._store.delete_ended(_owner(asker), which.states)
        return Deleted(deleted=count)

    async def measure(self) -> None:
        """Set the gauges of jobs by kind and state, and of those that wait."""
        counts = await self._store.counts()
        # A kind of which the last job was deleted is 0 from now on, not what it was.
        for task, state in self._measured - counts.keys():
            metrics.jobs.labels(task, state).set(0)
        for (task, state), count in counts.items():
            metrics.jobs.labels(task, state).set(count)
        self._measured = set(counts)
        waiting = (count for (_, state), count in counts.items() if state == JobState.WAITING.value)
        metrics.queue_depth.labels("jobs").set(sum(waiting))

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
            return await self.get(job_id, asker)
        if not await self._store.ask_cancel(job_id):
            job = await self.get(job_id)
            if job.state.ended:
                raise Conflict("This job has ended and cannot be cancelled.")
        return await self.get(job_id, asker)

    async def watch(
        self, job_id: JobId, asker: Principal | None = None
    ) -> AsyncIterator[JobDocument]:
        """Yield a job now and after every change until it has ended.

        Raises:
            NotFound: there is none, or it is not theirs to know of.
        """
        shown = None
        while True:
            job = await self.get(job_id, asker)
            if job != shown:
                yield job
                shown = job
            if job.state.ended:
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def recover(self, tasks: Collection[str], limit: int) -> tuple[Due, ...]:
        """Return jobs of these kinds to be claimed: never rung, or left by a dead worker."""
        found = await self._store.due(tasks, self._clock().timestamp(), limit)
        return tuple(self._due(kept) for kept in found)

    async def stuck(self, waiting: datetime, left: datetime) -> tuple[JobId, ...]:
        """Return jobs due since before `waiting` and not begun, or left before `left`."""
        return await self._store.stuck(waiting.timestamp(), left.timestamp())

    async def due(self, job_id: JobId, tasks: Collection[str]) -> Due | None:
        """Return a job of these kinds if it could be claimed now, else nothing."""
        kept = await self._store.get(job_id)
        if kept is None or kept.document.task not in tasks:
            return None
        return self._due(kept) if _is_due(kept, self._clock().timestamp()) else None

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
            state=JobState.RUNNING if ending else JobState.PREPARING,
            stage="undoing" if ending else "starting",
            progress=job.progress if ending else 0.0,
            timestamp=epoch(self._clock()),
            attempt=attempts,
        )
        name = new_id()
        until = now + self.sizes.stalled_after
        if not await self._store.claim(
            seen,
            lease=name,
            until=until,
            attempts=attempts,
            entry=entry,
            size=self._size(job.task, job.size),
        ):
            return None
        seconds = self.sizes.stalled_after
        return Lease(self._store, self._clock, (await self.get(job_id)), name, ending, seconds)

    def _size(self, task: str, own: str) -> dict[str, Any]:
        """Return the fields of a job that tell its size; it is settled anew when it is claimed."""
        size = self.sizes.size_of(task, self._own_sizes.get(task, own))
        limits = self.limits_of(size)
        return {"size": size, "proc": limits.cores, "mem": limits.memory_mib}

    def _due(self, kept: KeptJob) -> Due:
        job = kept.document
        return Due(
            job_id=job.job_id,
            task=job.task,
            size=str(self._size(job.task, job.size)["size"]),
            since=kept.queued_at,
            light=kept.ending is not None or self._ending(job) is not None,
        )

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
    return kept.document.state.held and kept.lease_until < now


def _owner(asker: Principal) -> UserId | None:
    return None if asker.role in _SEE_ALL else asker.user_id


def _once(user_id: UserId, idempotency: str) -> str:
    """Write an idempotency key so that it is its user's own and of one length."""
    return f"user/{user_id}/{hashlib.sha256(idempotency.encode()).hexdigest()}"


def _shown(job: JobDocument, asker: Principal | None) -> JobDocument:
    """Return a job as an asker may see it: where an error was raised is for admins alone."""
    if asker is None or asker.role in _SEE_ALL:
        return job
    entries = tuple(
        msgspec.structs.replace(entry, error=msgspec.structs.replace(entry.error, details=()))
        if entry.error is not None
        else entry
        for entry in job.status
    )
    return msgspec.structs.replace(job, status=entries)


def _may_see(asker: Principal | None, job: JobDocument) -> bool:
    return asker is None or asker.role in _SEE_ALL or asker.user_id == job.user_id
