"""A pure function in a child process of its own: how it is started, spoken to and ended.

What goes to the child and back is JSON, a line at a time. A child leads a session of its own, does
nothing before it got its order (so that whoever started it can bound it first), and does not
outlive us. What it prints goes to standard error: ours, or a pipe that is given. Its own side is
`in_child.py`.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Self, TypeVar, get_type_hints

import structlog

from cvf_app import errors
from cvf_app.in_child import Call
from cvf_app.wire import Wire, convert, decode, plain

A = TypeVar("A", bound=Wire)
R = TypeVar("R", bound=Wire)
Progress = Callable[[float], None]
Answer = dict[str, Any]

_LINE_LIMIT = 64 * 2**20
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from cvf_app.in_child import work; work()"
)
log = structlog.get_logger("cv3.child")


class ChildKilled(errors.CafeVariomeError):
    """A child process was ended by a signal that we did not send."""

    code = "childKilled"

    def __init__(self, number: int) -> None:
        """Keep the number of the signal."""
        super().__init__(
            f"The work was ended from outside (signal {number}); it may have run out of memory."
        )
        self.number = number


class ChildExited(errors.CafeVariomeError):
    """A child process ended without an answer."""

    code = "childExited"

    def __init__(self, status: int) -> None:
        """Keep the exit status."""
        super().__init__(f"The work ended without a result (exit status {status}).")
        self.status = status


class LimitReached(errors.CafeVariomeError):
    """The work needed more than it may have."""

    code = "limitReached"

    def __init__(self, sentence: str = "The work needs more memory than it may have.") -> None:
        """Say what was too little."""
        super().__init__(sentence)


class ChildRaised(Exception):
    """The function in the child raised what nobody foresaw; the text is its type.

    `where` are the frames where it was raised, without messages: they may quote data.
    """

    def __init__(self, kind: str, where: list[dict[str, Any]] | None = None) -> None:
        """Keep the type and the frames."""
        super().__init__(kind)
        self.where = where or []


def call_of(function: Callable[[A, Progress], R], task: A) -> Call:
    """Return the call of an annotated function of a module.

    Raises:
        TypeError: it is no function of a module, so that a child could not find it.
    """
    if "." in function.__qualname__ or function.__module__ == "__main__":
        raise TypeError(f"{function.__qualname__} is no function of a module")
    return Call(module=function.__module__, function=function.__name__, task=plain(task))


def result_of(function: Callable[[A, Progress], R], answer: Answer) -> R:
    """Read a child's answer as what the function returns, or raise what it raised.

    Raises:
        CafeVariomeError: the function raised one of ours; it arrives as its class in `errors`.
        LimitReached: it ran out of memory.
        ChildRaised: it raised anything else.
    """
    if "result" in answer:
        kind: type[R] = get_type_hints(function)["return"]
        return convert(answer["result"], kind)
    if "error" in answer:
        fault: type[errors.CafeVariomeError] = getattr(errors, answer["error"])
        raise fault(answer["sentence"], path=answer["path"])
    if "memory" in answer:
        raise LimitReached
    log.error("child_raised", kind=answer["raised"], where=answer["where"])
    raise ChildRaised(answer["raised"], answer["where"])


class Child:
    """One child process; it waits for its order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Wrap the process; use `start`."""
        self._process = process

    @classmethod
    async def start(cls, stderr: int | None = None) -> Self:
        """Start a child that writes what it prints to this descriptor, else to our own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _START,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=_LINE_LIMIT,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The id of the process, which is that of its group and session too."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Say whether the process itself is over; what it started may still run."""
        return self._process.returncode is not None

    async def order(self, call: Call) -> None:
        """Tell the child what to do; a child that is gone is noticed by `answer`."""
        if self._process.stdin is None:
            raise RuntimeError("the child has no pipes")
        lines = (json.dumps(sys.path), json.dumps(plain(call)), "")
        self._process.stdin.write("\n".join(lines).encode())
        try:
            await self._process.stdin.drain()
        except ConnectionError:
            log.debug("child_gone", pid=self.pid)

    async def answer(self, progress: Progress | None = None) -> Answer:
        """Read lines until the answer and wait for the end; our open pipe is a sign of life.

        Raises:
            ChildKilled: a signal ended the child.
            ChildExited: it ended without an answer.
        """
        answer = await self._answer(progress)
        status = await self._process.wait()
        if answer is None:
            raise ChildKilled(-status) if status < 0 else ChildExited(status)
        return answer

    async def end(self, grace: float) -> None:
        """End the child with all that it started: TERM, so many seconds, KILL."""
        if self._process.returncode is not None:
            return
        # A task of its own, since the wait must go on when we are cancelled once more.
        waiting = asyncio.ensure_future(self._process.wait())  # house: it is awaited below
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait({waiting}, timeout=grace)
        finally:
            if self._process.returncode is None:
                self.signal(signal.SIGKILL)
        await waiting

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child and all of its group."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            log.debug("child_gone", pid=self.pid)

    async def _answer(self, progress: Progress | None) -> Answer | None:
        if self._process.stdout is None:
            raise RuntimeError("the child has no pipes")
        async for line in self._process.stdout:
            message = decode(line, dict[str, Any])
            if "progress" not in message:
                return message
            if progress is not None:
                progress(message["progress"])
        return None
