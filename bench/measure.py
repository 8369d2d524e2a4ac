"""Times, memory and disk of what a benchmark runs, and child processes to tell memory apart."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def timed(run: Callable[[], int]) -> tuple[float, int]:
    """Run something and return its milliseconds and its result."""
    start = time.perf_counter()
    result = run()
    return (time.perf_counter() - start) * 1000, result


def percentile(times: list[float], share: float) -> float:
    """Return the time within which a share of all, in percent, was done."""
    return float(np.percentile(times, share))


def resident() -> float:
    """Return how many MiB of memory this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def size(folder: Path, pattern: str = "*") -> float:
    """Return how many MiB the files below a folder have whose names match."""
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file()) / 2**20


def in_child(function: Callable[..., None], *arguments: object) -> Any:  # noqa: ANN401 - its answer
    """Run a function in a process of its own and return what it sends down its last argument."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    child = context.Process(target=function, args=(*arguments, theirs))
    child.start()
    theirs.close()
    try:
        return mine.recv()
    finally:
        child.join()
