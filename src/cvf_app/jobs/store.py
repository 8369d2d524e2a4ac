"""Job documents in MongoDB: the truth of which the queue only tells.

A document is a `JobDocument` (the id as `_id`) and, beside it, what only the rail knows:
`exclusive` (the caller's key while the job is not ended, else the job's own id: always there and
unique, so that the database refuses a second job of one key), `once` (in the same way the user with
the idempotency key of the request, also after the end), `output` (the end of what the work
printed), `queuedAt`, `notBefore` and
`leaseUntil` (seconds with fractions), `lease` (who runs it; changes with every claim), `begun` (a
handler may have left traces) and `ending` (how it will end once undone). Every change is one
`update_one` with what must still be true in its filter.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cvf_app.backends import mongo
from cvf_app.backends.mongo import Document, Index
from cvf_app.jobs.model import JobDocument, JobId, JobState, StatusEntry
from cvf_app.principal import UserId
from cvf_app.wire import convert, plain

COLLECTION = "jobs"
INDICES = (
    Index((("exclusive", 1),), unique=True),
    Index((("once", 1),), unique=True),
    Index((("state", 1),)),
    Index((("userId", 1),)),
    Index((("queuedAt", 1),)),
)
MOST_ENTRIES = 500
# What jobs of the time before sizes count as.
_FORMERLY = {"size": "small", "proc": 1, "mem": 0}
_OURS = (
    *("_id", "exclusive", "once", "output", "queuedAt", "notBefore", "leaseUntil"),
    *("lease", "begun", "ending"),
)
_HELD = {"$in": [state.value for state in JobState if state.held]}
_ENDED = {"$in": [state.value for state in JobState if state.ended]}
# A list or a look at a job has no use for what it printed.
_SEEN = {"output": 0}


@dataclass(frozen=True)
class KeptJob:
    """A job with what only the rail knows of it."""

    document: JobDocument
    lease: str | None
    lease_until: float
    not_before: float
    queued_at: float
    ending: StatusEntry | None


class JobStore:
    """The collection of job documents."""

    def __init__(self, collection: mongo.Collection) -> None:
        """Keep jobs in this collection."""
        self._jobs = collection

    async def prepare(self) -> None:
        """Make the indices; when the database is new."""
        await self._jobs.create_indices(INDICES)

    async def add(self, job: JobDocument, *, key: str | None, once: str | None, at: float) -> None:
        """Keep a new job.

        Raises:
            Conflict: a job with this key has not ended, or one was asked for with this `once`.
        """
        ours: Document = {"queuedAt": at, "notBefore": at, "leaseUntil": 0.0, "lease": None}
        ours |= {"begun": False, "ending": None, "output": "", "once": once or f"job/{job.job_id}"}
        written = _written(job)
        await self._jobs.insert({**written, **ours, "exclusive": _exclusive(key, job.job_id)})

    async def get(self, job_id: JobId) -> KeptJob | None:
        """Return a job, or nothing."""
        found = await self._jobs.find_one({"_id": job_id}, _SEEN)
        return None if found is None else _read(found)

    async def of_key(self, key: str) -> JobDocument | None:
        """Return the job of this key that has not ended, or nothing."""
        found = await self._jobs.find_one({"exclusive": f"key/{key}"}, _SEEN)
        return None if found is None else _read(found).document

    async def owners(self, job_ids: Collection[JobId]) -> dict[JobId, UserId]:
        """Return whose jobs these are, as far as there are such jobs."""
        found = await self._jobs.find({"_id": {"$in": sorted(job_ids)}}, fields={"userId": 1})
        return {JobId(each["_id"]): UserId(each["userId"]) for each in found}

    async def of_once(self, once: str) -> JobDocument | None:
        """Return the job that was asked for with this, or nothing."""
        found = await self._jobs.find_one({"once": once}, _SEEN)
        return None if found is None else _read(found).document

    async def forget_once(self, job_id: JobId, once: str) -> None:
        """Let another job be asked for with this."""
        own = {"$set": {"once": f"job/{job_id}"}}
        await self._jobs.update_one({"_id": job_id, "once": once}, own)

    async def page(
        self,
        user_id: UserId | None,
        limit: int,
        skip: int,
        *,
        state: JobState | None = None,
        task: str | None = None,
    ) -> tuple[JobDocument, ...]:
        """Return the newest jobs first, of one user or of everybody."""
        where = {"userId": user_id, "state": state.value if state else None, "task": task}
        found = await self._jobs.find(
            {name: value for name, value in where.items() if value is not None},
            sort=[("queuedAt", -1)],
            limit=limit,
            skip=skip,
            fields=_SEEN,
        )
        return tuple(_read(each).document for each in found)

    async def counts(self) -> dict[tuple[str, str], int]:
        """Return how many jobs there are of each kind in each state."""
        tasks = await self._jobs.distinct("task", {})
        return {
            (task, state.value): await self._jobs.count({"task": task, "state": state.value})
            for task in tasks
            for state in JobState
        }

    async def output(self, job_id: JobId) -> str:
        """Return the end of what a job's work has printed."""
        found = await self._jobs.find_one({"_id": job_id}, {"output": 1})
        return str(found.get("output", "")) if found else ""

    async def delete(self, job_id: JobId) -> bool:
        """Remove a job that has ended; False when there is none."""
        return bool(await self._jobs.delete_one({"_id": job_id, "state": _ENDED}))

    async def delete_ended(self, user_id: UserId | None, states: Collection[JobState]) -> int:
        """Remove the jobs in these states, of one user or of everybody, and return how many."""
        where: Document = {"state": {"$in": [state.value for state in states if state.ended]}}
        if user_id is not None:
            where["userId"] = user_id
        return await self._jobs.delete_many(where, look_up=True)

    async def due(self, tasks: Collection[str], now: float, limit: int) -> tuple[KeptJob, ...]:
        """Return jobs to be run now: those whose lease ran out, then waiting ones."""
        kinds = {"task": {"$in": sorted(tasks)}}
        waiting = {"state": JobState.WAITING.value, "notBefore": {"$lte": now}, **kinds}
        lapsed = {"state": _HELD, "leaseUntil": {"$lt": now}, **kinds}
        order = [("queuedAt", 1)]
        found = [
            *await self._jobs.find(lapsed, sort=order, limit=limit, fields=_SEEN),
            *await self._jobs.find(waiting, sort=order, limit=limit, fields=_SEEN),
        ]
        return tuple(_read(each) for each in found[:limit])

    async def stuck(self, waiting: float, left: float) -> tuple[JobId, ...]:
        """Return jobs that could be run since a moment, and ones whose lease ran out before one."""
        late = {"state": JobState.WAITING.value, "notBefore": {"$lt": waiting}}
        lost = {"state": _HELD, "leaseUntil": {"$lt": left}}
        found = [await self._jobs.find(where, fields={"_id": 1}) for where in (late, lost)]
        return tuple(JobId(each["_id"]) for part in found for each in part)

    async def claim(  # noqa: PLR0913 - what a claim writes
        self,
        seen: KeptJob,
        *,
        lease: str,
        until: float,
        attempts: int,
        entry: StatusEntry,
        size: Document,
    ) -> bool:
        """Take a job that is still as it was seen, and say whether it is ours now."""
        as_seen = {
            "_id": seen.document.job_id,
            "state": seen.document.state.value,
            "lease": seen.lease,
            "leaseUntil": seen.lease_until,
            "attempts": seen.document.attempts,
        }
        taken = {
            **size,
            "state": entry.state.value,
            "lease": lease,
            "begun": True,
            "leaseUntil": until,
            "attempts": attempts,
            "stage": entry.stage,
            "progress": entry.progress,
        }
        return bool(await self._jobs.update_one(as_seen, {"$set": taken, **_pushed(entry)}))

    async def begin(self, job_id: JobId, lease: str, entry: StatusEntry) -> bool:
        """Write that a job runs now; False when the lease is lost."""
        change = {"$set": {"state": entry.state.value, "stage": entry.stage}, **_pushed(entry)}
        where = {"_id": job_id, "lease": lease, "state": _HELD}
        return bool(await self._jobs.update_one(where, change))

    async def note(self, job_id: JobId, lease: str, **noted: str) -> bool:
        """Write what the work printed (`output`), or how it is bounded (`enforcement`)."""
        return await self._matched({"_id": job_id, "lease": lease}, {"$set": noted})

    async def renew(self, job_id: JobId, lease: str, until: float, *, heed_cancel: bool) -> bool:
        """Prolong a lease; False when it is lost or, if that is heeded, a cancel was asked for."""
        where: Document = {"_id": job_id, "lease": lease}
        if heed_cancel:
            where["cancelRequested"] = False
        return await self._matched(where, {"$set": {"leaseUntil": until}})

    async def progress(
        self, job_id: JobId, lease: str, stage: str, fraction: float, entry: StatusEntry | None
    ) -> bool:
        """Write how far a job is, with an entry if one is given; False when the lease is lost."""
        change: Document = {"$set": {"stage": stage, "progress": fraction}}
        if entry is not None:
            change = {"$set": {**change["$set"], "state": entry.state.value}, **_pushed(entry)}
        return await self._matched({"_id": job_id, "lease": lease}, change)

    async def set_ending(self, job_id: JobId, lease: str, ending: StatusEntry) -> bool:
        """Write down how a job will end, before it is undone; False when the lease is lost."""
        return await self._matched(
            {"_id": job_id, "lease": lease}, {"$set": {"ending": plain(ending)}}
        )

    async def end(
        self, job_id: JobId, lease: str | None, entry: StatusEntry, result: dict[str, Any] | None
    ) -> bool:
        """End a job of ours (or, without a lease, one that never began); False if it is not."""
        last: Document = {
            "state": entry.state.value,
            "stage": entry.stage,
            "progress": entry.progress,
            "endedAt": entry.timestamp,
            "result": result,
            "lease": None,
            "ending": None,
            "exclusive": _exclusive(None, job_id),
        }
        where: Document = {"_id": job_id, "lease": lease, "state": _HELD}
        if lease is None:
            where |= {"state": JobState.WAITING.value, "begun": False}
            last["cancelRequested"] = True
        return bool(await self._jobs.update_one(where, {"$set": last, **_pushed(entry)}))

    async def hand_back(
        self, job_id: JobId, lease: str, attempts: int, not_before: float, entry: StatusEntry
    ) -> bool:
        """Make a job of ours wait again until a moment; False when it is not ours."""
        waiting = {
            "state": JobState.WAITING.value,
            "lease": None,
            "attempts": attempts,
            "notBefore": not_before,
            "stage": entry.stage,
        }
        where = {"_id": job_id, "lease": lease, "state": _HELD}
        return bool(await self._jobs.update_one(where, {"$set": waiting, **_pushed(entry)}))

    async def ask_cancel(self, job_id: JobId) -> bool:
        """Ask whoever runs a job to stop it, at once if it waits; False when it has ended."""
        open_states = [state.value for state in JobState if not state.ended]
        where = {"_id": job_id, "state": {"$in": open_states}, "cancelRequested": False}
        change = {"$set": {"cancelRequested": True, "notBefore": 0.0}}
        return bool(await self._jobs.update_one(where, change))

    async def _matched(self, where: Document, change: Document) -> bool:
        # A change that changes nothing counts as 0 too, so look before calling a lease lost.
        if await self._jobs.update_one(where, change):
            return True
        return await self._jobs.find_one(where, {"_id": 1}) is not None


def _exclusive(key: str | None, job_id: JobId) -> str:
    return f"job/{job_id}" if key is None else f"key/{key}"


def _pushed(entry: StatusEntry) -> Document:
    return {"$push": {"status": {"$each": [plain(entry)], "$slice": -MOST_ENTRIES}}}


def _written(job: JobDocument) -> Document:
    written: Document = {
        "stage": "",
        "endedAt": None,
        "cancelRequested": False,
        "result": None,
        "enforcement": "",
        "status": [],
        **plain(job),
    }
    written["_id"] = written.pop("jobId")
    return written


def _read(found: Document) -> KeptJob:
    shown = {name: value for name, value in found.items() if name not in _OURS}
    ending = found["ending"]
    return KeptJob(
        document=convert({**_FORMERLY, **shown, "jobId": found["_id"]}, JobDocument),
        lease=found["lease"],
        lease_until=float(found["leaseUntil"]),
        not_before=float(found["notBefore"]),
        queued_at=float(found["queuedAt"]),
        ending=None if ending is None else convert(ending, StatusEntry),
    )
