"""Processes that outlive the command that started them, told apart by id and start time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the closing bracket of the name
_LOOK_SECONDS = 0.05
_GONE_SECONDS = 5.0
_OWN: dict[int, "subprocess.Popen[bytes]"] = {}
"""What this very process started: it has to be collected here when it ends."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One process: its id and when it started, in whatever form the system gives it."""

    pid: int
    started: str


def start(
    command: list[str], folder: Path, log: Path, env: Mapping[str, str] | None = None
) -> Identity:
    """Start a program in a session of its own; what it prints goes to the log."""
    # What a log says of a test server may hold what a person typed, so only its owner reads it.
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(os.environ) | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    _OWN[process.pid] = process
    return Identity(pid=process.pid, started=_started(process.pid))


def is_alive(process: Identity) -> bool:
    """Say whether exactly this process still runs."""
    if process.pid in _OWN and _OWN[process.pid].poll() is not None:
        del _OWN[process.pid]
        return False
    return bool(process.started) and _started(process.pid) == process.started


def end(process: Identity, patience: float) -> bool:
    """End exactly this process and what it started; say whether it went when it was asked.

    KILL follows TERM after so many seconds.
    """
    _send(process, signal.SIGTERM)
    if _gone(process, patience):
        return True
    kill(process)
    return False


def kill(process: Identity) -> None:
    """End exactly this process and what it started at once, as a crash would."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    _gone(process, _GONE_SECONDS)


def _send(process: Identity, number: signal.Signals) -> None:
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _gone(process: Identity, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _started(pid: int) -> str:
    if sys.platform == "linux":
        try:
            told = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        fields = told.rpartition(")")[2].split()
        # A zombie has ended; nobody has collected it yet.
        return "" if fields[0] == "Z" else fields[_START_TIME_FIELD]
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
