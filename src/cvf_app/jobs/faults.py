"""Why a job failed: a stable word, a sentence for a person, and for admins where it was raised.

Five causes are about the work itself: `exit`, `signal`, `timeout`, `limit` and `exception`;
the sixth, `input`, is a fault of what it was given, whose sentence says what to mend.
"""

from typing import Any

from cvf_app import errors
from cvf_app.backends.log import outline
from cvf_app.child import ChildExited, ChildKilled, ChildRaised, LimitReached
from cvf_app.jobs.model import JobFault

_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (ChildKilled, "signal"),
    (ChildExited, "exit"),
    (LimitReached, "limit"),
    (errors.TimedOut, "timeout"),
    (errors.StorageFull, "limit"),
    (errors.Exhausted, "limit"),
    (errors.TooLarge, "limit"),
    (errors.Unavailable, "exception"),
    (errors.PeerFailed, "exception"),
    (errors.CafeVariomeError, "input"),
    (TimeoutError, "timeout"),
    (MemoryError, "limit"),
)
_SURPRISE = "Something went wrong here; the log has the details under the id of this job."
_MOST_FRAMES = 30
_TIMEOUT = "A step of this job did not end in time."
_MEMORY = "This job needs more memory than it may have."


def fault_of(raised: Exception) -> JobFault:
    """Return the cause of a failure: input, exit, signal, timeout, limit or exception."""
    cause = next((word for kind, word in _CAUSES if isinstance(raised, kind)), "exception")
    if isinstance(raised, errors.CafeVariomeError):
        return JobFault(cause=cause, message=raised.sentence)
    sentences = {"timeout": _TIMEOUT, "limit": _MEMORY}
    message = sentences.get(cause, _SURPRISE)
    return JobFault(cause=cause, message=message, details=_details(raised))


def _details(raised: Exception) -> tuple[str, ...]:
    """Write types and frames, never messages: they may quote data."""
    stacks: list[dict[str, Any]] = outline((type(raised), raised, raised.__traceback__))
    if isinstance(raised, ChildRaised):
        stacks = raised.where
    lines: list[str] = []
    for stack in stacks:
        lines.append(str(stack["exc_type"]))
        lines += (
            f"  {frame['name']} ({frame['filename']}:{frame['lineno']})"
            for frame in stack["frames"][-_MOST_FRAMES:]
        )
    return tuple(lines)
