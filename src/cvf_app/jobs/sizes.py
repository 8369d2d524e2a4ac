"""Sizes of jobs: what each may have on this host, and which kind of job has which size."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from cvf_app import config
from cvf_app.jobs.workload import Limits

SMALL = "small"
LARGE = "large"
_MIB = 2**20
# The rest is for the services beside us, and for the files that the kernel keeps at hand.
_OURS = 0.75
_NO_LIMIT = 2**60
log = structlog.get_logger("cv3.jobs")


@dataclass(frozen=True)
class Sizes:
    """The budget of this host, and the limits of each size within it."""

    cores: int
    memory_mib: int
    limits: dict[str, Limits]
    types: dict[str, str]
    stalled_after: float
    grace: float

    @classmethod
    def of(cls, jobs: config.Jobs, host: tuple[int, int] | None = None) -> Self:
        """Read the configuration for this host; what is larger than the budget is cut to it."""
        there = host or (_host_cores(), _host_mib())
        most, memory = jobs.cores or there[0], jobs.memory_mib or there[1]
        # One more than there are: a small job goes beside a large one, which may have them all.
        cores = jobs.cores or most + 1
        limits: dict[str, Limits] = {}
        for name, size in jobs.sizes.items():
            if size.cores > cores or size.memory_mib > memory:
                log.warning("size_cut_to_the_host", size=name, cores=cores, memory_mib=memory)
            limits[name] = Limits(
                min(size.cores or most, cores),
                min(size.memory_mib or memory, memory),
                size.minutes * 60.0,
            )
        return cls(
            cores=cores,
            memory_mib=memory,
            limits=limits,
            types=dict(jobs.types),
            stalled_after=float(jobs.stalled_after_seconds),
            grace=float(jobs.cancel_grace_seconds),
        )

    def size_of(self, task: str, own: str) -> str:
        """Return the size of a kind of job: the configured one, else its own."""
        size = self.types.get(task, own)
        return size if size in self.limits else SMALL


def _host_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _host_mib() -> int:
    """Return our part of the memory of this host, or of the container that we are in."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    for path in map(Path, limits):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < _NO_LIMIT:
            whole = min(whole, int(text))
    return max(1, int(whole * _OURS) // _MIB)
