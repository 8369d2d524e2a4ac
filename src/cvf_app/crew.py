"""A few child processes that work through many pieces side by side: bytes go in, bytes come out.

Promises: results come in the order of their pieces; of pieces and results no more are held at a
time than a few for each member. Members end with the process that made them, however that ends.
It must itself be a child process, since its calls wait.
"""

import fcntl
import gc
import json
import os
import selectors
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import TracebackType
from typing import BinaryIO, Self

from cvf_app.errors import CafeVariomeError
from cvf_app.in_child import die_with_parent

Work = Callable[[bytes], bytes]
HELD = 4
_PIPE_BYTES = 2**20
_KILL = 9
_RESULT, _NO_MEMORY, _NO_FILE, _RAISED = b"R", b"M", b"O", b"E"
_SIZE = 8
_SELDOM = 100_000
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from cvf_app.crew import member; member()"
)


class MemberFault(Exception):
    """A member raised what nobody foresaw, or ended; where is told on standard error."""


class Crew:
    """So many members, each of which has made itself a worker by `make(setting)`."""

    def __init__(self, make: Callable[[bytes], Work], setting: bytes, members: int) -> None:
        """Start the members; `make` is a function of a module."""
        order = json.dumps([make.__module__, make.__name__]).encode()
        opening = json.dumps(sys.path).encode() + b"\n" + order + b"\n" + _framed(setting)
        self._members: list[_Member] = []
        try:
            for _ in range(members):
                self._members.append(_Member(opening))
        except BaseException:  # house: the members that are there must not outlive the failure
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the crew itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the members."""
        self.close()

    def close(self) -> None:
        """End the members."""
        for member in self._members:
            member.end()
        self._members.clear()

    def map(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the result of each piece, in order.

        A fault of ours that ends the pieces is raised after the results of those before it.

        Raises:
            MemoryError: a member had not enough memory. OSError: as it met the member.
            MemberFault: a member failed in another way.
        """
        source = iter(pieces)
        idle = list(self._members)
        busy: dict[_Member, int] = {}
        done: dict[int, bytes] = {}
        sent = given = 0
        over: CafeVariomeError | None = None
        ended = False
        with selectors.DefaultSelector() as selector:
            while True:
                while idle and not ended and sent - given < HELD * len(self._members):
                    try:
                        piece = next(source, None)
                    except CafeVariomeError as fault:
                        piece, over = None, fault
                    if piece is None:
                        ended = True
                        break
                    member = idle.pop()
                    member.send(piece)
                    selector.register(member.results, selectors.EVENT_READ, member)
                    busy[member] = sent
                    sent += 1
                if given in done:
                    yield done.pop(given)
                    given += 1
                    continue
                if not busy:
                    break
                for key, _ in selector.select():
                    member = key.data
                    done[busy.pop(member)] = member.result()
                    selector.unregister(member.results)
                    idle.append(member)
        if over is not None:
            raise over


class _Member:
    """One child process, which waits for a piece or works on one."""

    def __init__(self, opening: bytes) -> None:
        # The same process group as ours, so that what ends us ends it.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
            [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the member has no pipes")
        self._pieces: BinaryIO = self._process.stdin  # type: ignore[assignment] # it is binary
        self.results: BinaryIO = self._process.stdout  # type: ignore[assignment] # it is binary
        for pipe in (self._pieces, self.results):
            _widen(pipe)
        self._write(opening)

    def send(self, piece: bytes) -> None:
        self._write(_framed(piece))

    def result(self) -> bytes:
        kind = self.results.read(1)
        found = _unframed(self.results) if kind else None
        if found is None:
            raise self._fallen()
        if kind == _NO_MEMORY:
            raise MemoryError
        if kind == _NO_FILE:
            raise OSError(int(found), os.strerror(int(found)))
        if kind == _RAISED:
            raise MemberFault(found.decode())
        return found

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._pieces, self.results):
            try:
                pipe.close()
            except BrokenPipeError:
                # What was still to be written is of no use to anybody.
                continue

    def _write(self, data: bytes) -> None:
        try:
            self._pieces.write(data)
            self._pieces.flush()
        except BrokenPipeError as fault:
            raise self._fallen() from fault

    def _fallen(self) -> Exception:
        status = self._process.wait()
        # Nobody but the kernel kills one member alone, and that for want of memory.
        return MemoryError() if status == -_KILL else MemberFault(f"ended with status {status}")


def member() -> None:
    """Be a member: take the setting, then work on pieces until there are no more."""
    die_with_parent()
    pieces = sys.stdin.buffer
    results = os.fdopen(os.dup(1), "wb")
    # What the work or a library prints must not get among the results.
    os.dup2(2, 1)
    module, name = json.loads(pieces.readline())
    # Values come and go by the thousand and hold no cycles: look for those seldom.
    gc.set_threshold(_SELDOM)
    setting = _unframed(pieces)
    if setting is None:
        return
    work: Work = getattr(import_module(module), name)(setting)
    while (piece := _unframed(pieces)) is not None:
        try:
            kind, found = _RESULT, work(piece)
        except MemoryError:
            kind, found = _NO_MEMORY, b""
        except OSError as fault:
            kind, found = _NO_FILE, str(fault.errno or 0).encode()
        except BaseException as fault:  # noqa: BLE001  # house: it is told, and the member ends
            # Without the message, which may quote what was read.
            kind, found = _RAISED, type(fault).__name__.encode()
            frames = traceback.extract_tb(fault.__traceback__)
            where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
            sys.stderr.write(f"{type(fault).__name__} {' '.join(where)}\n")
        results.write(kind + _framed(found))
        results.flush()
        if kind == _RAISED:
            return


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(_SIZE, "little") + data


def _unframed(file: BinaryIO) -> bytes | None:
    head = file.read(_SIZE)
    if len(head) < _SIZE:
        return None
    size = int.from_bytes(head, "little")
    data = file.read(size)
    return data if len(data) == size else None


def _widen(pipe: BinaryIO) -> None:
    setting = getattr(fcntl, "F_SETPIPE_SZ", None)
    if setting is None:
        return
    try:
        fcntl.fcntl(pipe.fileno(), setting, _PIPE_BYTES)
    except PermissionError:
        # A wider pipe is only quicker.
        return
