"""One child as the guard keeps it: its process, the one that takes its place, and its state."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cvf_app.errors import Conflict
from cvf_app.local import probe
from cvf_app.local.children import Child
from cvf_app.local.layout import Layout
from cvf_app.local.ports import Address, private_socket
from cvf_app.local.processes import Identity, die_with_parent, identify

_PROBE_SECONDS = 0.1
_DRAIN_SECONDS = 0.5
Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """One process that was started, and the socket on which it alone is asked."""

    process: asyncio.subprocess.Process
    identity: Identity | None
    private: Path | None

    @property
    def is_alive(self) -> bool:
        """Say whether it has not ended."""
        return self.process.returncode is None


class Kept:
    """A child, the process that does its work now, and one that is about to take its place."""

    def __init__(  # noqa: PLR0913 - what a process is started with
        self,
        child: Child,
        number: int,
        layout: Layout,
        *,
        sockets: Mapping[Address, socket.socket],
        environ: Mapping[str, str],
        say: Say,
        left: Callable[[int], None],
    ) -> None:
        """Keep the child; it is not started yet. `left` hears the id of each that has ended."""
        self.child = child
        self.state = "waiting"
        self.restarts = 0
        self.current: Running | None = None
        self.incoming: Running | None = None
        self.leaving: Running | None = None
        # Set when it has run once.
        self.started = asyncio.Event()
        # Held while a process is started, so that a death and a reload never start two.
        self.changing = asyncio.Lock()
        self._number = number
        self._layout = layout
        self._sockets = sockets
        self._environ = environ
        self._say = say
        self._left = left
        self._turn = 0

    @property
    def identity(self) -> Identity | None:
        """Return the process that does the work."""
        return self.current.identity if self.current else None

    async def spawn(self) -> Running:
        """Start a process, tied to our own life, with its sockets.

        Raises:
            Conflict: the system would not start it.
        """
        child = self.child
        bound = self._sockets[child.bind] if child.bind else None
        path = self._place() if child.private else None
        private = None
        try:
            private = private_socket(path) if path else None
            fds = [each.fileno() for each in (bound, private) if each is not None]
            names = {"{fd}": bound, "{private}": private}
            command = [_filled(part, names) for part in child.command]
            with child.log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**self._environ, **child.environment},
                    pass_fds=fds,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
        except OSError as fault:
            raise Conflict(f"{child.name} cannot be started: {fault.strerror}.") from fault
        finally:
            # Its own copy is the only one left: asking it fails as soon as it has ended.
            if private is not None:
                private.close()
        return Running(process, identify(process.pid), path)

    def _place(self) -> Path:
        """Return a path that the process before this one does not use."""
        self._turn += 1
        return self._layout.socket(f"app{self._number}.{self._turn % 2}.sock")

    async def await_ready(self, running: Running, path: str = "") -> bool:
        """Wait until the process answers; False when it ended first or took too long."""
        until = time.monotonic() + self.child.ready_seconds
        while time.monotonic() < until:
            if not running.is_alive:
                return self.child.once and running.process.returncode == 0
            if not self.child.once and await probe.answers(self.child, running.private, path):
                return True
            await asyncio.sleep(_PROBE_SECONDS)
        return False

    async def stay(self) -> int | None:
        """Stay until the process that does the work has ended, whichever it is by then."""
        while (running := self.current) is not None:
            code = await running.process.wait()
            if self.current is running:
                self.forget(running)
                return code
        return None

    async def end(self, running: Running) -> None:
        """Tell a process to stop, and kill it when its time is over."""
        process = running.process
        if not running.is_alive:
            return
        if self.child.is_app:
            # It takes no more connections, and has a moment to answer those it has taken.
            _signal(process, signal.SIGWINCH)
            await asyncio.sleep(_DRAIN_SECONDS)
        _signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.child.stop_seconds)
        except TimeoutError:
            name = self.child.name
            self._say(f"{name} did not stop in {self.child.stop_seconds:.0f} s and is killed")
            _signal(process, signal.SIGKILL)
            await process.wait()
        self.forget(running)

    async def stop(self) -> None:
        """Stop whatever runs of it."""
        for running in (self.incoming, self.current, self.leaving):
            if running is not None:
                await self.end(running)
        if self.child.pid_file is not None:
            self.child.pid_file.unlink(missing_ok=True)

    def forget(self, running: Running) -> None:
        """Put away what a process that has ended leaves behind."""
        if self.child.is_app:
            # On a full disk what it counted is lost, and nothing else.
            with contextlib.suppress(OSError):
                self._left(running.process.pid)


def _filled(part: str, sockets: Mapping[str, socket.socket | None]) -> str:
    for name, bound in sockets.items():
        if name in part and bound is not None:
            part = part.replace(name, str(bound.fileno()))
    return part


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
