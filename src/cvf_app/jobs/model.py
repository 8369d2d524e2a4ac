"""The tracked job as a document: what is done, for whom, how far it is, how it ended."""

from enum import Enum
from typing import Any, NewType

from cvf_app.principal import UserId
from cvf_app.wire import Wire

JobId = NewType("JobId", str)


class JobState(Enum):
    """The states of a job; the last five are ends, `cached` one whose result was there already."""

    WAITING = "waiting"
    PREPARING = "preparing"
    RUNNING = "running"
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    LOST = "lost"
    CACHED = "cached"

    @property
    def ended(self) -> bool:
        """Say whether a job in this state is over."""
        return self is not JobState.WAITING and not self.held

    @property
    def held(self) -> bool:
        """Say whether a worker has a job in this state."""
        return self in (JobState.PREPARING, JobState.RUNNING)


class JobFault(Wire, frozen=True, kw_only=True):
    """Why a job failed: a stable word, a sentence, and for those who manage data where it was."""

    cause: str
    message: str
    details: tuple[str, ...] = ()


class StatusEntry(Wire, frozen=True, kw_only=True):
    """One step in a job's life; progress runs from 0 to 1, the timestamp is epoch seconds."""

    state: JobState
    stage: str
    progress: float
    timestamp: int
    attempt: int = 0
    error: JobFault | None = None


class JobDocument(Wire, frozen=True, kw_only=True):
    """A job as `GET /jobs/{id}` shows it; `args` are the typed arguments of its kind.

    `proc` and `mem` (MiB) are the most that it may have; `enforcement` says how that is made to
    hold, once it has begun.
    """

    job_id: JobId
    task: str
    args: dict[str, Any]
    user_id: UserId
    size: str
    proc: int
    mem: int
    enforcement: str = ""
    state: JobState
    stage: str = ""
    progress: float
    attempts: int
    created_at: int
    ended_at: int | None = None
    cancel_requested: bool = False
    result: dict[str, Any] | None = None
    status: tuple[StatusEntry, ...] = ()


class Ended(Enum):
    """Which ended jobs are to be deleted together."""

    ENDED = "ended"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def states(self) -> tuple[JobState, ...]:
        """The states that are meant."""
        good = (JobState.COMPLETE, JobState.CACHED)
        match self:
            case Ended.COMPLETE:
                return good
            case Ended.FAILED:
                return (JobState.ERROR, JobState.CANCELLED, JobState.LOST)
            case Ended.ENDED:
                return (*good, *Ended.FAILED.states)


class JobLog(Wire, frozen=True, kw_only=True):
    """The end of what the work of a job has printed."""

    job_id: JobId
    tail: str


class Deleted(Wire, frozen=True, kw_only=True):
    """How many were deleted."""

    deleted: int


class Amount(Wire, frozen=True, kw_only=True):
    """So many cores and so much memory."""

    cores: int
    memory_mib: int


class HostResources(Wire, frozen=True, kw_only=True):
    """What one host has for jobs, how limits hold there, and how many of each size run and wait."""

    host: str
    enforcement: str
    limits: Amount
    used: Amount
    available: Amount
    running: dict[str, int]
    waiting: dict[str, int]


class SizeLimits(Wire, frozen=True, kw_only=True):
    """The most that a job of one size may have."""

    cores: int
    memory_mib: int
    minutes: float


class Resources(Wire, frozen=True, kw_only=True):
    """What jobs may use: every host with its books, and the sizes as they hold on this one."""

    hosts: tuple[HostResources, ...]
    sizes: dict[str, SizeLimits]
    types: dict[str, str]
