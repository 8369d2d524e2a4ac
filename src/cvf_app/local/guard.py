"""The guard: starts the processes of one instance, restarts the dead, and stops them in order.

It promises: one guard a folder (a lock that the system drops when the guard dies, so no stale
file can mislead); children start in order, each when the one before is ready, and stop in the
reverse order; a dead child is started again with growing pauses, and when it keeps dying the
guard gives it up and says so; no child outlives the guard; `status.json` always says how things
are. TERM and INT stop everything; HUP restarts the app alone, one process after the other, and a
process goes only when the one that takes its place is ready.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from cvf_app import metrics
from cvf_app.clock import now
from cvf_app.errors import CafeVariomeError, Conflict
from cvf_app.local.children import Child
from cvf_app.local.kept import Kept
from cvf_app.local.layout import Layout, read, write
from cvf_app.local.notify import notify
from cvf_app.local.ports import Address, written
from cvf_app.local.processes import Identity, end, identify
from cvf_app.wire import Wire, encode

PAUSES = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each further start of a child that dies soon; after the last it is given up."""
_STEADY_SECONDS = 30.0
_TRIES_OF_A_STEP = 2
_LOCK_TRIES = 5
_LOCK_PAUSE = 0.02
READY_PAGE = "/health/ready"


class ChildStatus(Wire, frozen=True, kw_only=True):
    """How one child is."""

    name: str
    state: str
    doing: str
    restarts: int
    process: Identity | None = None
    log: str = ""
    address: str = ""


class Reload(Wire, frozen=True, kw_only=True):
    """The last rolling restart: its number, `running`, `done` or `failed`, and why."""

    number: int
    state: str
    sentence: str = ""


class GuardStatus(Wire, frozen=True, kw_only=True):
    """How the instance is; `state` is `starting`, `ready`, `failed` or `stopping`."""

    guard: Identity
    state: str
    address: str
    children: tuple[ChildStatus, ...]
    reload: Reload = Reload(number=0, state="done")


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
        # Who asks whether it is held holds it for an instant.
        for left in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as fault:
                if not left:
                    handle.close()
                    raise Conflict("A guard already runs this folder.") from fault
                time.sleep(_LOCK_PAUSE)
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


class Guard:
    """Keeps the children of one instance alive until it is told to stop."""

    def __init__(  # noqa: PLR0913 - what one instance consists of
        self,
        layout: Layout,
        children: Sequence[Child],
        *,
        sockets: Mapping[Address, socket.socket],
        address: str,
        environ: Mapping[str, str],
        done: Mapping[str, Callable[[], None]],
        gives_up: bool = False,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """Take everything, and what to note when a step is done; nothing is started yet.

        With `gives_up` the guard ends when a child is given up, so that whoever keeps the guard
        learns of it.
        """
        self._done = done
        self._layout = layout
        self._sockets = sockets
        self._kept = [
            Kept(
                child,
                number,
                layout,
                sockets=sockets,
                environ=environ,
                say=say,
                left=lambda pid: metrics.forget_process(layout.metrics, pid),
            )
            for number, child in enumerate(children, start=1)
        ]
        self._address = address
        self._gives_up = gives_up
        self._pauses = pauses
        self._stopping = asyncio.Event()
        self._asked = asyncio.Event()
        self._reload = Reload(number=0, state="done")
        self._state = "starting"
        self._exit_code = 0

    async def run(self) -> int:
        """Start the children, keep them, and stop them when told; 1 if that was a child's fault."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        try:
            async with asyncio.TaskGroup() as keepers:
                begun = keepers.create_task(self._start_all(keepers))
                rolling = keepers.create_task(self._roll_when_asked(keepers))
                await self._stopping.wait()
                notify("STOPPING=1")
                begun.cancel()
                rolling.cancel()
                self._publish("stopping")
                await self._stop_all()
        finally:
            self._layout.status.unlink(missing_ok=True)
        say("the guard ends")
        return self._exit_code

    async def _stop_all(self) -> None:
        # Nobody may connect any more to what nobody will serve.
        for bound in self._sockets.values():
            bound.close()
        apps = [kept for kept in self._kept if kept.child.is_app]
        await asyncio.gather(*(self._stop(kept) for kept in apps))
        for kept in reversed(self._kept):
            if kept not in apps:
                await self._stop(kept)

    async def _stop(self, kept: Kept) -> None:
        kept.state = "stopping"
        self._publish()
        await kept.stop()
        kept.state = "stopped"
        say(f"{kept.child.name} stopped")
        self._publish()

    async def _start_all(self, keepers: asyncio.TaskGroup) -> None:
        for kept in self._kept:
            first_ready = asyncio.Event()
            keepers.create_task(self._keep(kept, first_ready))
            # By itself, or by a reload after it was given up.
            await kept.started.wait()
        self._publish("ready")
        say(f"ready at {self._address}")
        notify(f"READY=1\nSTATUS=Serving at {self._address}")

    async def _keep(self, kept: Kept, first_ready: asyncio.Event) -> None:
        """Start one child and start it again whenever it dies, until we stop or give it up."""
        soon_dead = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = await self._live(kept, first_ready)
            if self._stopping.is_set() or kept.state == "done":
                return
            soon_dead = 0 if time.monotonic() - began > _STEADY_SECONDS else soon_dead + 1
            # A step that fails says why in its log, and seldom ends otherwise the next time.
            if soon_dead > (_TRIES_OF_A_STEP if kept.child.once else len(self._pauses)):
                self._give_up(kept, reason)
                return
            pause = self._pauses[max(soon_dead - 1, 0)]
            say(f"{kept.child.name} {reason}; started again in {pause:g} s")
            kept.state = "restarting"
            kept.restarts += 1
            self._publish()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    def _give_up(self, kept: Kept, reason: str) -> None:
        kept.state = "given up"
        said = f"{kept.child.name} {reason}; it keeps failing and is given up"
        say(said)
        notify(f"STATUS={said}")
        self._publish("failed")
        if self._gives_up:
            self._exit_code = 1
            self._stopping.set()

    async def _live(self, kept: Kept, first_ready: asyncio.Event) -> str:
        """Start the child once and stay with it until it has ended; return how it ended."""
        async with kept.changing:
            if self._stopping.is_set():
                return "is not started any more"
            # A reload may have put another in its place meanwhile.
            if kept.current is None or not kept.current.is_alive:
                failed = await self._begin(kept)
                if failed:
                    return failed
            kept.state = "done" if kept.child.once else "running"
        if kept.child.once and kept.child.name in self._done:
            self._done[kept.child.name]()
        say(f"{kept.child.name} is {kept.state}{_pid(kept)}")
        first_ready.set()
        kept.started.set()
        self._publish()
        return _ending(await kept.stay())

    async def _begin(self, kept: Kept) -> str:
        """Start the child and wait until it answers; return how it failed, or nothing."""
        kept.state = "starting"
        self._publish()
        try:
            running = await kept.spawn()
        except Conflict as fault:
            return f"did not start ({fault.sentence})"
        kept.current = running
        self._publish()
        if await kept.await_ready(running):
            return ""
        if running.is_alive and not self._stopping.is_set():
            await kept.end(running)
            return f"was not ready in {kept.child.ready_seconds:.0f} s"
        kept.forget(running)
        return _ending(running.process.returncode)

    async def _roll_when_asked(self, keepers: asyncio.TaskGroup) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._reload = Reload(number=self._reload.number + 1, state="running")
            say("the app is restarted as asked, one process after the other")
            self._publish()
            fault = ""
            for kept in self._kept:
                # One that was never begun is begun in its turn.
                if kept.child.is_app and kept.state != "waiting" and not fault:
                    fault = await self._replace(kept, keepers)
            state = "failed" if fault else "done"
            self._reload = msgspec.structs.replace(self._reload, state=state, sentence=fault)
            say(f"the restart is {state}{': ' + fault if fault else ''}")
            self._publish()

    async def _replace(self, kept: Kept, keepers: asyncio.TaskGroup) -> str:
        """Put a new process in the place of one, which goes when the new one is ready.

        Return why that could not be; then the one before goes on.
        """
        name = kept.child.name
        if kept.state == "given up":
            first_ready = asyncio.Event()
            keepers.create_task(self._keep(kept, first_ready))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(first_ready.wait(), kept.child.ready_seconds)
                self._publish("ready")
                return ""
            return f"{name} still does not start; see {kept.child.log}"
        async with kept.changing:
            if self._stopping.is_set():
                return "everything stops"
            before = kept.current
            try:
                fresh = await kept.spawn()
            except Conflict as fault:
                return fault.sentence
            kept.incoming = fresh
            # A process that nobody can ask alone would be taken for ready by another's answer.
            ready = await kept.await_ready(fresh, READY_PAGE)
            if not ready:
                await kept.end(fresh)
                kept.forget(fresh)
                kept.incoming = None
                return f"the new process of {name} was not ready, so the old one goes on"
            kept.leaving, kept.current, kept.incoming = before, fresh, None
        self._publish()
        say(f"{name} has a new process{_pid(kept)}")
        if before is not None:
            await kept.end(before)
        kept.leaving = None
        return ""

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
                log=str(kept.child.log),
                address=written(kept.child.bind) if kept.child.bind else "",
            )
            for kept in self._kept
        )
        told = GuardStatus(
            guard=guard,
            state=self._state,
            address=self._address,
            children=children,
            reload=self._reload,
        )
        try:
            write(self._layout.status, told)
        except OSError as fault:
            # A full disk stops nobody: the children go on, and the next change is written again.
            say(f"the status cannot be written: {fault.strerror}")


def sweep(layout: Layout) -> None:
    """End what a killed guard left behind: exactly the processes it wrote down, no others."""
    left = read(layout.status, GuardStatus)
    for child in reversed(left.children) if left else ():
        if child.process is not None:
            end(child.process, patience=5.0)
    layout.status.unlink(missing_ok=True)


def say(line: str) -> None:
    """Write one line into the guard's log, which is our standard error."""
    # A log that cannot be written is no reason to end what is being kept.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{now().isoformat(timespec='milliseconds')} {line}\n")
        sys.stderr.flush()


def _pid(kept: Kept) -> str:
    return f" (pid {kept.identity.pid})" if kept.identity else ""


def _ending(code: int | None) -> str:
    if code is None:
        return "is gone"
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


def fail(fault: CafeVariomeError) -> int:
    """Write why the guard cannot run, and return its exit code."""
    say(f"the guard cannot run: {fault.sentence}")
    return 1
