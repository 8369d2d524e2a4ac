"""Why a job failed, as a stable word and a sentence for a person; details go to the log alone."""

from cvf_app import errors
from cvf_app.jobs.model import JobFault
from cvf_app.child import ChildExited, ChildKilled

_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (ChildKilled, "signal"),
    (ChildExited, "exit"),
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
_TIMEOUT = "A step of this job did not end in time."
_MEMORY = "This job needs more memory than it may have."


def fault_of(raised: Exception) -> JobFault:
    """Return the cause of a failure: input, exit, signal, timeout, limit or exception."""
    cause = next((word for kind, word in _CAUSES if isinstance(raised, kind)), "exception")
    if isinstance(raised, errors.CafeVariomeError):
        return JobFault(cause=cause, message=raised.sentence)
    sentences = {"timeout": _TIMEOUT, "limit": _MEMORY}
    return JobFault(cause=cause, message=sentences.get(cause, _SURPRISE))
