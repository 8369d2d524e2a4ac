"""Processes told apart by id and start time, so that a reused id is never taken for ours."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cvf_app.wire import Wire

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the closing bracket of the name


class Identity(Wire, frozen=True, kw_only=True):
    """One process: its id and when it started, in whatever form the system gives it."""

    pid: int
    started: str


def identify(pid: int) -> Identity | None:
    """Return who has this id now, or None when nobody has."""
    started = _started(pid)
    return Identity(pid=pid, started=started) if started else None


def _started(pid: int) -> str:
    if _LIBC is not None:
        try:
            told = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        fields = told.rpartition(")")[2].split()
        # A zombie has ended; nobody has collected it yet.
        return "" if fields[0] == "Z" else fields[_START_TIME_FIELD]
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def is_alive(process: Identity) -> bool:
    """Say whether exactly this process still runs."""
    return identify(process.pid) == process


def send(process: Identity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False when it is gone or its id is somebody else's."""
    if not is_alive(process):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def end(process: Identity, *, patience: float) -> None:
    """End exactly this process: TERM, then KILL when it is still there after `patience` seconds."""
    if not send(process, signal.SIGTERM):
        return
    if not wait_gone(process, patience):
        send(process, signal.SIGKILL)
        wait_gone(process, patience)


def wait_gone(process: Identity, seconds: float) -> bool:
    """Wait until exactly this process has ended; False when it still runs after so many seconds."""
    until = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def die_with_parent() -> None:
    """Ask the system to kill this process when its parent dies; runs between fork and exec.

    Only Linux has it. Elsewhere the next start ends what a killed guard left behind.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
