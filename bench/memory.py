"""How much memory a tree of processes holds, seen from outside again and again.

Memory is the proportional share (PSS): pages that several processes have in common count once.
Linux only, by `/proc`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def descendants(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    found = [pid]
    for each in found:
        with contextlib.suppress(*_GONE):
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                with contextlib.suppress(*_GONE):
                    found += [int(word) for word in children.read_text().split()]
    return found


def share_of(pid: int) -> tuple[float, float]:
    """Return the proportional and the whole resident memory of a process, in bytes."""
    sizes = {"Pss:": 0.0, "Rss:": 0.0}
    with contextlib.suppress(*_GONE):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(" ")
            if name in sizes:
                sizes[name] = int(rest.split()[0]) * 1024.0
    return sizes["Pss:"], sizes["Rss:"]


def is_measurable() -> bool:
    """Say whether this system tells the proportional share."""
    return Path("/proc/self/smaps_rollup").exists()


class Watch(threading.Thread):
    """Looks at the trees of some processes until it is told to end, and keeps the peak."""

    def __init__(self, roots: Callable[[], Iterable[int]], seconds: float = 0.1) -> None:
        """Watch the processes that `roots` names, and all below them; `start` begins."""
        super().__init__(daemon=True)
        self._roots = roots
        self._seconds = seconds
        self._over = threading.Event()
        self._peak = 0.0
        self.looks = 0

    @property
    def peak_mib(self) -> float:
        """Return the most that was seen at one moment, in MiB."""
        return self._peak / 2**20

    def run(self) -> None:
        """Look until the end."""
        while not self._over.is_set():
            begin = time.monotonic()
            pids = {each for root in self._roots() for each in descendants(root)}
            self._peak = max(self._peak, sum(share_of(pid)[0] for pid in pids))
            self.looks += 1
            # Looking costs time of its own: at most a tenth of a processor goes to it.
            self._over.wait(max(self._seconds, 9 * (time.monotonic() - begin)))

    def end(self) -> float:
        """Look no more, and return the peak in MiB."""
        self._over.set()
        self.join()
        return self.peak_mib
