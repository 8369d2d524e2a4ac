"""The tracked job as a document: what is done, for whom, how far it is, how it ended."""

from enum import Enum
from typing import Any, NewType

from cvf_app.principal import UserId
from cvf_app.wire import Wire

JobId = NewType("JobId", str)


class JobState(Enum):
    """The states of a job; the last four are ends."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Say whether a job in this state is over."""
        return self not in (JobState.WAITING, JobState.RUNNING)


class JobFault(Wire, frozen=True, kw_only=True):
    """Why a job failed: the cause is a stable word, the message a sentence for a person."""

    cause: str
    message: str


class StatusEntry(Wire, frozen=True, kw_only=True):
    """One step in a job's life; progress runs from 0 to 1, the timestamp is epoch seconds."""

    state: JobState
    stage: str
    progress: float
    timestamp: int
    attempt: int = 0
    error: JobFault | None = None


class JobDocument(Wire, frozen=True, kw_only=True):
    """A job as `GET /jobs/{id}` shows it; `args` are the typed arguments of its kind."""

    job_id: JobId
    task: str
    args: dict[str, Any]
    user_id: UserId
    state: JobState
    stage: str = ""
    progress: float
    attempts: int
    created_at: int
    ended_at: int | None = None
    cancel_requested: bool = False
    result: dict[str, Any] | None = None
    status: tuple[StatusEntry, ...] = ()
