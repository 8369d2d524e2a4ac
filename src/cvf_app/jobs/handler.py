"""What a feature gives the rail: for each kind of job, a way to do it and a way to undo it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cvf_app.child import A, Progress, R
from cvf_app.jobs.model import JobId
from cvf_app.wire import Job


class Steps(Protocol):
    """What a running handler has of its job."""

    @property
    def job_id(self) -> JobId:
        """The id of the job."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        ...

    @property
    def cores(self) -> int:
        """The most processes or threads that are of use to this job."""
        ...

    async def run(
        self, function: Callable[[A, Progress], R], task: A, progress: Progress | None = None
    ) -> R:
        """Run a pure, annotated function of a module as this job's work, within its limits.

        It is ended when the job is cancelled or its time is up.

        Raises:
            CafeVariomeError: the function raised one of ours; it arrives as its class in `errors`.
            ChildKilled, ChildExited, ChildRaised, LimitReached: see `cvf_app.child`.
        """
        ...

    async def report(self, stage: str, fraction: float) -> None:
        """Say what is being done and how far the whole job is, from 0 to 1; call it often.

        A new stage becomes an entry of the status list; in between only the newest is kept, at
        most twice a second. When the job is cancelled the handler gets `CancelledError` at any
        of its awaits.
        """
        ...


@dataclass(frozen=True)
class Handler:
    """How one kind of job is done and undone.

    A job runs at least once: after a crash `run` is called again from the beginning, so it must
    come to the same end. `undo` is called after an error, a cancel or the last lost attempt,
    when `run` was begun at least once; it removes what an unfinished run leaves behind, may be
    called twice, and must not touch what a finished run has made valid. `size` is a name of the
    configured sizes, for kinds of which every job is alike; without one it is said when a job is
    taken in. `Jobs.Types` overrides both.
    """

    run: Callable[[Any, Steps], Awaitable[dict[str, Any] | None]]
    undo: Callable[[Any], Awaitable[None]] | None = None
    size: str | None = None


Handlers = Mapping[type[Job], Handler]


def task_of(kind: type[Job]) -> str:
    """Return the name of a kind of job, which is its tag.

    Raises:
        TypeError: the kind has no tag of its own.
    """
    tag = kind.__struct_config__.tag
    if not isinstance(tag, str):
        raise TypeError(f"{kind.__name__} has no text as its tag")
    return tag
