"""How much memory a tree of processes holds, seen from outside again and again.

Memory is the proportional share (PSS): pages that several processes have in common count once.
Linux only, by `/proc`.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
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


@contextlib.contextmanager
def watched(root: int, seconds: float = 0.1) -> Iterator[Callable[[], float]]:
    """Look at a tree of processes all the while; what is given tells the peak so far, in MiB.

    The looking is done by a process of its own, so that it delays nobody who measures time here.
    """
    context = multiprocessing.get_context("spawn")
    peak, began, over = context.Value("d", 0.0), context.Event(), context.Event()
    child = context.Process(target=_look, args=(root, seconds, peak, began, over), daemon=True)
    child.start()
    began.wait()
    try:
        yield lambda: float(peak.value) / 2**20
    finally:
        over.set()
        child.join()


def _look(
    root: int, seconds: float, peak: "Synchronized[float]", began: Event, over: Event
) -> None:
    while not over.is_set():
        begin = time.monotonic()
        peak.value = max(peak.value, sum(share_of(pid)[0] for pid in descendants(root)))
        began.set()
        # Looking costs time of its own: at most a tenth of a processor goes to it.
        over.wait(max(seconds, 9 * (time.monotonic() - begin)))
