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
    if _collected(process.pid):
        return False
    return bool(process.started) and _started(process.pid) == process.started


def end(process: Identity, patience: float) -> bool:
    """End exactly this process and what it started; say whether it went when it was asked.

    KILL follows TERM after so many seconds.
    """
    if not is_alive(process):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    if _gone(process, patience) and _group_gone(process.pid, patience):
        return True
    _kill_group(process)
    return False


def kill(process: Identity) -> None:
    """End exactly this process and what it started at once, as a crash would."""
    if is_alive(process):
        _kill_group(process)


def _collected(pid: int) -> bool:
    if pid not in _OWN or _OWN[pid].poll() is None:
        return False
    del _OWN[pid]
    return True


def _kill_group(process: Identity) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    _gone(process, _GONE_SECONDS)
    _group_gone(process.pid, _GONE_SECONDS)


def _group_gone(group: int, seconds: float) -> bool:
    # A program that a script started may take longer than the script.
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        # Until it is collected, what has ended still counts as one of the group.
        _collected(group)
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return True
        time.sleep(_LOOK_SECONDS)
    return False


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
