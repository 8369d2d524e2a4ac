"""What may go wrong for somebody at a terminal, and the exit code of each."""

from cvf_app.errors import CafeVariomeError

REFUSED, MISUSED, NOT_LOGGED_IN, NOT_FOUND, NOT_REACHED, JOB_FAILED, INTERRUPTED = (
    1,
    2,
    3,
    4,
    5,
    6,
    130,
)
EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed; 2 wrong use; 3 not logged in; 4 no such thing; "
    "5 the server cannot be reached; 6 the job failed; 130 interrupted (a job goes on)."
)


class Failure(CafeVariomeError):
    """Anything that ends a command; `advice` says what to do next."""

    exit_code = REFUSED

    def __init__(self, sentence: str, *, path: str | None = None, advice: str = "") -> None:
        """Keep the sentence, the path of a field at fault, and the advice."""
        super().__init__(sentence, path=path)
        self.advice = advice


class Misused(Failure):
    """The command was given something that it cannot read."""

    exit_code = MISUSED


class NotLoggedIn(Failure):
    """There is no session, or it has ended."""

    exit_code = NOT_LOGGED_IN

    def __init__(self, sentence: str = "You are not logged in.") -> None:
        """Advise to log in."""
        super().__init__(sentence, advice="Log in first: cvf login")


class NoSuchThing(Failure):
    """There is nothing of this name or id for you."""

    exit_code = NOT_FOUND


class NotReached(Failure):
    """The server did not answer."""

    exit_code = NOT_REACHED


class JobFailed(Failure):
    """A job ended otherwise than complete."""

    exit_code = JOB_FAILED


class Interrupted(Failure):
    """The person stopped waiting; the job goes on."""

    exit_code = INTERRUPTED
