"""A pure function in a child process of its own: how it is started, spoken to and ended.

What goes to the child and back is JSON, a line at a time. A child leads a session of its own, does
nothing before it got its order (so that whoever started it can bound it first), and does not
outlive us. What it prints goes to standard error: ours, or a pipe that is given. It is a fork of
the process that `fork_server.py` describes; its own side is `in_child.py`.
"""

import asyncio
import errno
import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TypeVar, get_type_hints

import structlog

from cvf_app import errors
from cvf_app.fork_server import ForkServer, fork_server
from cvf_app.in_child import Call
from cvf_app.wire import Wire, convert, decode, plain

A = TypeVar("A", bound=Wire)
R = TypeVar("R", bound=Wire)
Progress = Callable[[float], None]
Answer = dict[str, Any]

_LINE_LIMIT = 64 * 2**20
_TRIES = 2
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

    def __init__(
        self,
        pid: int,
        ending: "_Ending",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Know how it is spoken to; use `start`."""
        self.pid = pid
        """The id of the process, which is that of its group and session too."""
        self._ending = ending
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, module: str, stderr: int = 2) -> Self:
        """Start a child for a function of a module; what it prints goes to this descriptor.

        Raises:
            OSError: this host lets us start no process now.
        """
        for _ in range(_TRIES):
            server = fork_server()
            found = await cls._forked(server, module, stderr)
            if found is not None:
                return found
            # Somebody killed it since the last child.
            server.close()
        raise OSError(errno.EAGAIN, "the fork server does not last")

    @classmethod
    async def _forked(cls, server: ForkServer, module: str, stderr: int) -> Self | None:
        ours, talk = socket.socketpair()
        ear, told = socket.socketpair()
        with talk, told:
            try:
                server.fork(module, talk, told, stderr)
            except ConnectionError:
                ours.close()
                ear.close()
                return None
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE_LIMIT)
        word, number = "", 0
        try:
            loop = asyncio.get_running_loop()
            _, ending = await loop.create_unix_connection(_Ending, sock=ear)
            word, number = await asyncio.shield(ending.first)
        finally:
            # Without us a child ends, as it gets no order.
            if word != "pid":
                writer.close()
        if word == "pid":
            return cls(number, ending, reader, writer)
        if word == "gone":
            return None
        raise OSError(number if word == "fault" else errno.EAGAIN, "no process can be forked")

    @property
    def ended(self) -> bool:
        """Say whether the process itself is over; what it started may still run."""
        return self._ending.status.done()

    async def order(self, call: Call) -> None:
        """Tell the child what to do; a child that is gone is noticed by `answer`."""
        self._writer.write(json.dumps(plain(call)).encode() + b"\n")
        try:
            await self._writer.drain()
        except ConnectionError:
            log.debug("child_gone", pid=self.pid)

    async def answer(self, progress: Progress | None = None) -> Answer:
        """Read lines until the answer and wait for the end; our open socket is a sign of life.

        Raises:
            ChildKilled: a signal ended the child.
            ChildExited: it ended without an answer.
        """
        answer = await self._answer(progress)
        status = await asyncio.shield(self._ending.status)
        if answer is None:
            raise ChildKilled(-status) if status < 0 else ChildExited(status)
        return answer

    async def end(self, grace: float) -> None:
        """End the child with all that it started: TERM, so many seconds, KILL."""
        try:
            if not self.ended:
                self.signal(signal.SIGTERM)
                await asyncio.wait({self._ending.status}, timeout=grace)
        finally:
            if not self.ended:
                self.signal(signal.SIGKILL)
            self._writer.close()
        await asyncio.wait({self._ending.status})
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child and all of its group."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            log.debug("child_gone", pid=self.pid)

    async def _answer(self, progress: Progress | None) -> Answer | None:
        try:
            async for line in self._reader:
                message = decode(line, dict[str, Any])
                if "progress" not in message:
                    return message
                if progress is not None:
                    progress(message["progress"])
        except ConnectionError:
            log.debug("child_gone", pid=self.pid)
        return None


class _Ending(asyncio.Protocol):
    """What the fork server tells of a child: how it began, and its exit status when it is over."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[tuple[str, int]] = loop.create_future()
        self.status: asyncio.Future[int] = loop.create_future()
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if (lines := self._lines()) and not self.first.done():
            self.first.set_result(lines[0])

    def connection_lost(self, _: Exception | None) -> None:
        if not self.first.done():
            self.first.set_result(("gone", 0))
        word, number = [("gone", 0), *self._lines()][-1]
        # Without a status the server itself is gone, and with it the kernel killed the child.
        self.status.set_result(number if word == "status" else -signal.SIGKILL)

    def _lines(self) -> list[tuple[str, int]]:
        lines = [line.split() for line in self._heard.decode().split("\n")[:-1]]
        return [(word, int(number)) for word, number in lines]
