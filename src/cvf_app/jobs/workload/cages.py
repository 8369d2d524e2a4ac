"""Limits on a child process with all that it starts: by cgroups where we may, else by rlimits.

`Cages.open` looks once, at the start, for the strongest form that this host gives us: a folder of
cgroup v2 or v1 below our own that we may write to, so that a container's or a unit's own limits
hold for our children too. Where there is none, each process gets RLIMIT_DATA (RLIMIT_AS would
count what is only reserved) and a set of cores, and a watcher looks at the memory of the whole
tree. A cgroup that a killed worker left is removed by the next cage that anybody makes.
"""

import errno
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from cvf_app.ids import new_id
from cvf_app.jobs.workload import Limits, tree

MIB = 2**20
NICENESS = 10
# Questions go first: work gets the time that nobody else wants. Niceness and SCHED_IDLE (sched(7))
# count only among the members of a group, so the group as a whole is idle too (Linux from 5.15),
# or weighs as little as it can.
_LIGHTEST_1 = {"cpu.shares": "2", "cpu.idle": "1"}
_LIGHTEST_2 = {"cpu.weight": "1", "cpu.idle": "1"}
_PERIOD = 100_000
_PREFIX = "cv3-"
# Missing where the kernel does not count swap.
_WHERE_THERE = frozenset(
    {"memory.swap.max", "memory.memsw.limit_in_bytes", "memory.oom.group", "cpu.idle"}
)
_REMOVE_SECONDS = 3.0
_PAUSE_SECONDS = 0.02
log = structlog.get_logger("cv3.jobs")


class Cage(Protocol):
    """The bounds of one child."""

    def place(self, pid: int) -> None:
        """Put a process inside that has started nothing yet."""
        ...

    def over(self) -> bool:
        """Say whether the memory was not enough."""
        ...

    def close(self) -> None:
        """Kill whatever is inside still and leave nothing behind."""
        ...


@dataclass(frozen=True)
class Cages:
    """The form that holds on this host: its name for people, and how a cage is made."""

    enforcement: str
    make: Callable[[Limits], Cage]

    @classmethod
    def open(
        cls, root: Path = Path("/sys/fs/cgroup"), ours: Path = Path("/proc/self/cgroup")
    ) -> "Cages":
        """Find the strongest form; the log says which."""
        found = _version_2(root, ours) or _version_1(root, ours)
        if found is None:
            found = cls("rlimits" if hasattr(resource, "prlimit") else "time alone", Rlimits)
        log.info("limits_hold_by", form=found.enforcement)
        return found


class Rlimits:
    """Bounds without cgroups: rlimits on each process, and a look at the tree's memory."""

    def __init__(self, limits: Limits) -> None:
        """Know the limits."""
        self._limits = limits
        self._leader = 0

    def place(self, pid: int) -> None:
        """Set rlimits and cores, which all that it starts inherits."""
        self._leader = pid
        _nice(pid)
        _tie(pid, self._limits.cores)
        if hasattr(resource, "prlimit"):
            most = self._limits.memory_mib * MIB
            resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))

    def over(self) -> bool:
        """Say whether the tree holds more than it may."""
        most = self._limits.memory_mib * MIB
        return tree.memory(tree.members(self._leader), most) > most

    def close(self) -> None:
        """Kill what is left of the tree."""
        if self._leader:
            tree.kill(pid for pid in tree.members(self._leader) if pid != os.getpid())


class Cgroup:
    """Bounds by folders of cgroup v1 or v2; several in v1, one for each controller."""

    def __init__(
        self,
        limits: Limits,
        folders: tuple[Path, ...],
        values: dict[str, str],
        *,
        counter: str,
        ties: bool,
    ) -> None:
        """Make the folders and write the limits; `counter` tells of processes killed for memory."""
        self._limits = limits
        self._folders = folders
        self._counter = folders[0] / counter
        self._ties = ties
        self._over = False
        try:
            for folder in folders:
                folder.mkdir()
            for name, value in values.items():
                folder = folders[0] if name.startswith("memory") else folders[-1]
                if name not in _WHERE_THERE or (folder / name).exists():
                    (folder / name).write_text(value)
        except OSError:
            self.close()
            raise

    def place(self, pid: int) -> None:
        """Move a process in; what it starts is born inside."""
        _nice(pid)
        if self._ties:
            _tie(pid, self._limits.cores)
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def over(self) -> bool:
        """Say whether the kernel has killed something in here for its memory; also when closed."""
        try:
            self._over = self._over or self._killed() > 0
        except OSError as fault:
            # Another thread is removing the folder (ENODEV while it goes): what it saw counts.
            if fault.errno not in {errno.ENOENT, errno.ENODEV}:
                raise
        return self._over

    def close(self) -> None:
        """Kill what is inside and remove the folders."""
        self.over()
        for folder in self._folders:
            _remove(folder)

    def _killed(self) -> int:
        for line in self._counter.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0


def _version_2(root: Path, ours: Path) -> Cages | None:
    """Find a folder of cgroup v2 (kernel: admin-guide/cgroup-v2) that we may share out.

    Its rule "no internal processes" keeps us from sharing out the one we are in ourselves unless
    it is the root, so the one above is tried too: systemd gives it to us with `Delegate=yes`
    and `DelegateSubgroup=`.
    """
    own = _own(ours).get("")
    if own is None or not (root / "cgroup.controllers").exists():
        return None
    here = root / own.lstrip("/")
    for base in (here, here.parent):
        if not base.is_relative_to(root):
            continue
        try:
            (base / "cgroup.subtree_control").write_text("+memory +cpu")
            form = _Version2(base)
            form(Limits(1, 64, 1.0)).close()
        except OSError as fault:
            log.debug("no_cgroup", folder=str(base), cause=repr(fault))
            continue
        return Cages("cgroup v2", form)
    return None


def _version_1(root: Path, ours: Path) -> Cages | None:
    """Find the folders of cgroup v1 (kernel: admin-guide/cgroup-v1) below our own."""
    own = _own(ours)
    if "memory" not in own:
        return None
    # In a container the path may be the host's and the mount show our own folder as its root.
    bases = {
        name: next(
            (
                base
                for base in (root / name / own.get(name, "/").lstrip("/"), root / name)
                if base.is_dir() and os.access(base, os.W_OK)
            ),
            None,
        )
        for name in ("memory", "cpu")
    }
    memory, cpu = bases["memory"], bases["cpu"]
    for cores in (cpu, None) if cpu is not None else (None,):
        if memory is None:
            return None
        form = _Version1(memory, cores)
        try:
            form(Limits(1, 64, 1.0)).close()
        except OSError as fault:
            log.debug("no_cgroup", folder=str(memory), cause=repr(fault))
            continue
        return Cages("cgroup v1", form)
    return None


@dataclass(frozen=True)
class _Version2:
    base: Path

    def __call__(self, limits: Limits) -> Cgroup:
        _forget(self.base)
        values = {
            "memory.max": str(limits.memory_mib * MIB),
            "memory.swap.max": "0",
            "memory.oom.group": "1",
            "cpu.max": f"{limits.cores * _PERIOD} {_PERIOD}",
            **_LIGHTEST_2,
        }
        folders = (self.base / _name(),)
        return Cgroup(limits, folders, values, counter="memory.events", ties=False)


@dataclass(frozen=True)
class _Version1:
    memory: Path
    cpu: Path | None

    def __call__(self, limits: Limits) -> Cgroup:
        name, most = _name(), str(limits.memory_mib * MIB)
        bases = tuple(base for base in (self.memory, self.cpu) if base is not None)
        for base in bases:
            _forget(base)
        # The second must not be below the first, so it comes after it.
        values = {"memory.limit_in_bytes": most, "memory.memsw.limit_in_bytes": most}
        if self.cpu is not None:
            values |= _LIGHTEST_1
            values["cpu.cfs_period_us"] = str(_PERIOD)
            values["cpu.cfs_quota_us"] = str(limits.cores * _PERIOD)
        folders = tuple(base / name for base in bases)
        return Cgroup(limits, folders, values, counter="memory.oom_control", ties=self.cpu is None)


def _own(ours: Path) -> dict[str, str]:
    """Read /proc/self/cgroup: the path of each controller; of v2 under the empty name."""
    try:
        lines = ours.read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        _, names, path = line.split(":", 2)
        found |= dict.fromkeys(names.split(","), path)
    return found


def _name() -> str:
    """Name a folder after us, so that others can tell whether we live."""
    us = tree.process(os.getpid())
    return f"{_PREFIX}{os.getpid()}-{us.started if us else 0}-{new_id()[:8]}"


def _forget(base: Path) -> None:
    """Remove what workers left that are not any more."""
    for folder in _ours(base):
        _, pid, started, _ = folder.name.split("-")
        owner = tree.process(int(pid))
        if owner is None or owner.started != int(started):
            log.warning("cgroup_left_over", folder=folder.name)
            _remove(folder)


def _ours(base: Path) -> Iterator[Path]:
    for folder in base.glob(f"{_PREFIX}*-*-*"):
        parts = folder.name.split("-")
        if len(parts) == 4 and parts[1].isdigit() and parts[2].isdigit():  # noqa: PLR2004 - `_name`
            yield folder


def _remove(folder: Path) -> None:
    """Kill what is inside and remove a folder; the kernel needs a moment after the last end."""
    until = time.monotonic() + _REMOVE_SECONDS
    while folder.exists():
        with suppress(OSError):
            tree.kill(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
        with suppress(OSError):
            folder.rmdir()
            return
        if time.monotonic() > until:
            log.error("cgroup_stays", folder=str(folder))
            return
        time.sleep(_PAUSE_SECONDS)


def _nice(pid: int) -> None:
    os.setpriority(os.PRIO_PROCESS, pid, max(NICENESS, os.getpriority(os.PRIO_PROCESS, pid)))
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def _tie(pid: int, cores: int) -> None:
    """Let a process use so many cores; which ones is left to chance."""
    if hasattr(os, "sched_setaffinity"):
        there = sorted(os.sched_getaffinity(pid))
        os.sched_setaffinity(pid, random.sample(there, min(cores, len(there))))
