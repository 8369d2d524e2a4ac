"""Where the work of a job runs: the protocol that every form of it keeps.

`process.py` runs it in a child process on this host. A form for a cluster is one more file here;
`tests/contract/test_workload.py` says what it has to promise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NewType, Protocol

from cvf_app.errors import CafeVariomeError
from cvf_app.in_child import Call

PlacementId = NewType("PlacementId", str)


class WorkCancelled(CafeVariomeError):
    """The work was cancelled before it had ended."""

    code = "workCancelled"

    def __init__(self) -> None:
        """Say so."""
        super().__init__("The work was cancelled.")


@dataclass(frozen=True)
class Limits:
    """What one piece of work may have at most."""

    cores: int
    memory_mib: int
    seconds: float


@dataclass(frozen=True)
class Order:
    """A piece of work: for which job, what to call, and within which limits."""

    job_id: str
    call: Call
    limits: Limits


@dataclass(frozen=True)
class Placement:
    """Work that was started: where it is to be found, and within which limits."""

    placement_id: PlacementId
    job_id: str
    limits: Limits
    started_at: float


def time_is_up(seconds: float) -> str:
    """Say to a person that work was ended for its time."""
    return f"The work took longer than the {seconds / 60:g} minutes that it may take."


class Workload(Protocol):
    """One way to run work. Whoever starts work awaits its outcome, which puts everything away."""

    @property
    def enforcement(self) -> str:
        """How limits are made to hold, for people: `cgroup v2`, `cgroup v1`, `rlimits`..."""
        ...

    async def start(self, order: Order) -> Placement:
        """Start a piece of work within its limits.

        Raises:
            Unavailable: there is nowhere to run it now.
        """
        ...

    async def list(self) -> tuple[Placement, ...]:
        """Return what was started here and has not been put away yet."""
        ...

    async def cancel(self, placement: Placement) -> None:
        """Ask the work to end, end it by force after a while; nothing when it has ended."""
        ...

    async def tail(self, placement: Placement) -> str:
        """Return the end of what the work has printed, also for a while after its end."""
        ...

    async def outcome(
        self, placement: Placement, progress: Callable[[float], None] | None = None
    ) -> dict[str, Any]:
        """Wait for the end of the work, put everything of it away, and return its answer.

        An awaiting task that is cancelled ends the work. The answer is one for
        `child.result_of`, which raises what the function has raised.

        Raises:
            ChildKilled: a signal ended the work. ChildExited: it ended without an answer.
            TimedOut: its time was up. LimitReached: it needed more memory than it may have.
            WorkCancelled: `cancel` ended it.
        """
        ...
