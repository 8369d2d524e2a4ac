"""The guard: starts the processes of one instance, restarts the dead, and stops them in order.

It promises: one guard a folder (a lock that the system drops when the guard dies, so no stale
file can mislead); children start in order, each when the one before is ready, and stop in the
reverse order; a dead child is started again with growing pauses, and when it keeps dying the
guard gives it up and says so; no child outlives the guard; `status.json` always says how things
are. TERM and INT stop everything, HUP restarts the app alone.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from cvf_app.clock import now
from cvf_app.errors import CafeVariomeError, Conflict
from cvf_app.local import probe
from cvf_app.local.children import Child
from cvf_app.local.layout import Layout, read, write
from cvf_app.local.processes import Identity, die_with_parent, end, identify
from cvf_app.wire import Wire, encode

PAUSES = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each further start of a child that dies soon; after the last it is given up."""
_STEADY_SECONDS = 30.0
_TRIES_OF_A_STEP = 2
_PROBE_SECONDS = 0.1


class ChildStatus(Wire, frozen=True, kw_only=True):
    """How one child is."""

    name: str
    state: str
    doing: str
    restarts: int
    process: Identity | None = None


class GuardStatus(Wire, frozen=True, kw_only=True):
    """How the instance is; `state` is `starting`, `ready`, `failed` or `stopping`."""

    guard: Identity
    state: str
    address: str
    children: tuple[ChildStatus, ...]


class Lock:
    """The lock on a data folder, held as long as its guard lives."""

    def __init__(self, path: Path) -> None:
        """Remember the file; nothing is locked yet."""
        self._path = path
        self._handle: IO[bytes] | None = None

    def take(self) -> None:
        """Take the lock and write into it who we are.

        Raises:
            Conflict: another guard runs this folder.
        """
        handle = self._path.open("ab+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            handle.close()
            raise Conflict("A guard already runs this folder.") from fault
        handle.truncate(0)
        handle.write(encode(identify(os.getpid())))
        handle.flush()
        self._handle = handle

    def release(self) -> None:
        """Give the lock back."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def is_held(self) -> bool:
        """Say whether a living guard holds the lock; what the file says does not count."""
        try:
            handle = self._path.open("rb")
        except FileNotFoundError:
            return False
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def holder(self) -> Identity | None:
        """Return the living guard of the folder, or None."""
        return read(self._path, Identity) if self.is_held() else None


class Kept:
    """One child as the guard keeps it: its process, its state and its restarts."""

    def __init__(
        self, child: Child, bound: socket.socket | None, environ: Mapping[str, str]
    ) -> None:
        """Keep the child; it is not started yet."""
        self.child = child
        self.state = "waiting"
        self.restarts = 0
        self._bound = bound
        self._environ = environ
        self.process: asyncio.subprocess.Process | None = None
        self.identity: Identity | None = None

    async def spawn(self) -> asyncio.subprocess.Process:
        """Start the process, tied to our own life, with the app's socket if it takes it.

        Raises:
            Conflict: the system would not start it.
        """
        fd = self._bound.fileno() if self._bound and self.child.inherits_socket else None
        command = [part.replace("{fd}", str(fd)) for part in self.child.command]
        with self.child.log.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**self._environ, **self.child.environment},
                    pass_fds=() if fd is None else (fd,),
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            except OSError as fault:
                raise Conflict(f"{command[0]} cannot be started: {fault.strerror}.") from fault
        self.process = process
        self.identity = identify(process.pid)
        return process

    async def stop(self) -> None:
        """Tell the process to stop, and kill it when its time is over."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.child.stop_seconds)
        except TimeoutError:
            say(f"{self.child.name} did not stop in {self.child.stop_seconds:.0f} s and is killed")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def await_ready(self) -> bool:
        """Wait until the child answers; False when it ended first or took too long."""
        process = self.process
        until = time.monotonic() + self.child.ready_seconds
        while process is not None and time.monotonic() < until:
            if process.returncode is not None:
                return self.child.once and process.returncode == 0
            if not self.child.once and await probe.answers(self.child):
                return True
            await asyncio.sleep(_PROBE_SECONDS)
        return False


class Guard:
    """Keeps the children of one instance alive until it is told to stop."""

    def __init__(  # noqa: PLR0913 - what one instance consists of
        self,
        layout: Layout,
        children: Sequence[Child],
        *,
        bound: socket.socket | None,
        address: str,
        environ: Mapping[str, str],
        done: Mapping[str, Callable[[], None]],
    ) -> None:
        """Take everything, and what to note when a step is done; nothing is started yet."""
        self._done = done
        self._layout = layout
        self._kept = [Kept(child, bound, environ) for child in children]
        self._address = address
        self._stopping = asyncio.Event()
        self._state = "starting"

    async def run(self) -> int:
        """Start the children, keep them, and stop them when told; 0 unless one was given up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._restart_app)
        try:
            async with asyncio.TaskGroup() as keepers:
                begun = keepers.create_task(self._start_all(keepers))
                await self._stopping.wait()
                begun.cancel()
                self._publish("stopping")
                for kept in reversed(self._kept):
                    kept.state = "stopping"
                    await kept.stop()
                    kept.state = "stopped"
                    say(f"{kept.child.name} stopped")
                    self._publish("stopping")
        finally:
            self._layout.status.unlink(missing_ok=True)
        say("the guard ends")
        return 0

    async def _start_all(self, keepers: asyncio.TaskGroup) -> None:
        for kept in self._kept:
            first_ready = asyncio.Event()
            keepers.create_task(self._keep(kept, first_ready))
            await first_ready.wait()
        self._publish("ready")
        say(f"ready at {self._address}")

    async def _keep(self, kept: Kept, first_ready: asyncio.Event) -> None:
        """Start one child and start it again whenever it dies, until we stop or give it up."""
        soon_dead = 0
        while not self._stopping.is_set():
            kept.state = "starting"
            self._publish()
            began = time.monotonic()
            reason = await self._live(kept, first_ready)
            if self._stopping.is_set() or kept.state == "done":
                return
            soon_dead = 0 if time.monotonic() - began > _STEADY_SECONDS else soon_dead + 1
            # A step that fails says why in its log, and seldom ends otherwise the next time.
            if soon_dead > (_TRIES_OF_A_STEP if kept.child.once else len(PAUSES)):
                kept.state = "given up"
                say(f"{kept.child.name} {reason}; it keeps failing and is given up")
                self._publish("failed")
                return
            pause = PAUSES[max(soon_dead - 1, 0)]
            say(f"{kept.child.name} {reason}; started again in {pause:g} s")
            kept.state = "restarting"
            kept.restarts += 1
            self._publish()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _live(self, kept: Kept, first_ready: asyncio.Event) -> str:
        """Start the child once and stay with it until it has ended; return how it ended."""
        try:
            process = await kept.spawn()
        except Conflict as fault:
            return f"did not start ({fault.sentence})"
        if not await kept.await_ready():
            if process.returncode is None and not self._stopping.is_set():
                await kept.stop()
                return f"was not ready in {kept.child.ready_seconds:.0f} s"
            return _ending(process.returncode)
        kept.state = "done" if kept.child.once else "running"
        if kept.child.once and kept.child.name in self._done:
            self._done[kept.child.name]()
        say(
            f"{kept.child.name} is {kept.state}"
            + (f" (pid {process.pid})" if kept.identity else "")
        )
        first_ready.set()
        self._publish()
        return _ending(await process.wait())

    def _restart_app(self) -> None:
        last = self._kept[-1]
        if last.process is not None and last.process.returncode is None:
            say(f"{last.child.name} is restarted as asked")
            last.process.terminate()

    def _publish(self, state: str | None = None) -> None:
        if state is not None and self._state != "stopping":
            self._state = state
        guard = identify(os.getpid())
        if guard is None:
            return
        children = tuple(
            ChildStatus(
                name=kept.child.name,
                state=kept.state,
                doing=kept.child.doing,
                restarts=kept.restarts,
                process=kept.identity,
            )
            for kept in self._kept
        )
        told = GuardStatus(guard=guard, state=self._state, address=self._address, children=children)
        write(self._layout.status, told)


def sweep(layout: Layout) -> None:
    """End what a killed guard left behind: exactly the processes it wrote down, no others."""
    left = read(layout.status, GuardStatus)
    for child in reversed(left.children) if left else ():
        if child.process is not None:
            end(child.process, patience=5.0)
    layout.status.unlink(missing_ok=True)


def say(line: str) -> None:
    """Write one line into the guard's log, which is our standard error."""
    sys.stderr.write(f"{now().isoformat(timespec='milliseconds')} {line}\n")
    sys.stderr.flush()


def _ending(code: int | None) -> str:
    if code is None:
        return "is gone"
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


def fail(fault: CafeVariomeError) -> int:
    """Write why the guard cannot run, and return its exit code."""
    say(f"the guard cannot run: {fault.sentence}")
    return 1
