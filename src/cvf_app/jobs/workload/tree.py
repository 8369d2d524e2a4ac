"""A child process with all that it started, as Linux's /proc shows it; empty elsewhere."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024


@dataclass(frozen=True)
class Process:
    """One line of /proc/<pid>/stat (proc(5)): whose child it is, in which session, since when."""

    pid: int
    state: str
    parent: int
    session: int
    started: int


def process(pid: int) -> Process | None:
    """Return a process, or nothing when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may hold anything, so fields count from the last one.
    fields = text.rpartition(")")[2].split()
    return Process(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def members(leader: int) -> tuple[int, ...]:
    """Return who is in the session of a leader, or descends from it, and is not a zombie."""
    try:
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return ()
    living = [one for one in map(process, pids) if one is not None and one.state != "Z"]
    found = {one.pid for one in living if leader in (one.session, one.pid)}
    while True:
        more = {one.pid for one in living if one.parent in found} - found
        if not more:
            return tuple(sorted(found))
        found |= more


def memory(pids: Iterable[int], enough: int) -> int:
    """Return the bytes that processes hold together; exactly only when it may be over `enough`.

    Pages that several hold are shared out among them (Pss); looking that up costs more, so it is
    done only when the sum that counts them for each (Rss) is over.
    """
    pids = tuple(pids)
    whole = sum(_resident(pid) for pid in pids)
    return whole if whole <= enough else sum(_share(pid) for pid in pids)


def kill(pids: Iterable[int]) -> None:
    """Kill processes; those that are gone already are fine."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _resident(pid: int) -> int:
    try:
        pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _share(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * _KIB for line in lines if line.startswith("Pss:"))
