"""Which form of limits a host gives, and what is written into a group: on folders like cgroups."""

import os
import subprocess
from pathlib import Path

import pytest

from cvf_app.jobs.workload import Limits, tree
from cvf_app.jobs.workload.cages import Cages, _forget, _name, _Version1, _Version2

LIMITS = Limits(2, 100, 60.0)
BYTES = str(100 * 2**20)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


class TestForm:
    def test_where_no_group_can_be_made_rlimits_hold(self, tmp_path: Path, own: Path) -> None:
        own.write_text("0::/\n")
        assert Cages.open(tmp_path / "none", own).enforcement == "rlimits"

    def test_a_host_without_groups_has_rlimits(self, tmp_path: Path) -> None:
        assert Cages.open(tmp_path, tmp_path / "missing").enforcement == "rlimits"


class TestGroup:
    def test_version_2_bounds_memory_swap_and_cores(self, tmp_path: Path) -> None:
        cage = _Version2(tmp_path)(LIMITS)
        (folder,) = tmp_path.glob("cv3-*")
        assert (folder / "memory.max").read_text() == BYTES
        assert (folder / "cpu.max").read_text() == "200000 100000"
        with subprocess.Popen(["sleep", "60"]) as sleeper:
            cage.place(sleeper.pid)
            assert (folder / "cgroup.procs").read_text() == str(sleeper.pid)
            assert os.getpriority(os.PRIO_PROCESS, sleeper.pid) == 10
            sleeper.kill()
        (folder / "memory.events").write_text("low 0\noom 1\noom_kill 0\n")
        assert not cage.over()
        (folder / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
        assert cage.over()

    def test_version_1_bounds_memory_and_cores(self, tmp_path: Path) -> None:
        memory, cpu = tmp_path / "memory", tmp_path / "cpu"
        memory.mkdir()
        cpu.mkdir()
        _Version1(memory, cpu)(LIMITS)
        (in_memory,), (in_cpu,) = memory.glob("cv3-*"), cpu.glob("cv3-*")
        assert (in_memory / "memory.limit_in_bytes").read_text() == BYTES
        assert (in_cpu / "cpu.cfs_quota_us").read_text() == "200000"
        assert in_memory.name == in_cpu.name

    def test_only_groups_of_the_dead_are_forgotten(self, tmp_path: Path) -> None:
        living = tmp_path / _name()
        us = tree.process(os.getpid())
        assert us is not None
        # The id of a process is used again; when it began tells the two apart.
        dead = tmp_path / f"cv3-{os.getpid()}-{us.started + 1}-abc"
        strange = tmp_path / "cv3-of-somebody-else"
        for folder in (living, dead, strange):
            folder.mkdir()
        _forget(tmp_path)
        assert not dead.exists()
        assert living.exists()
        assert strange.exists()


class TestTree:
    def test_a_process_is_in_its_own_tree_and_holds_memory(self) -> None:
        assert os.getpid() in tree.members(os.getpid())
        assert tree.memory([os.getpid()], 2**50) > 2**20
        # Shared pages count in part when it is looked at closely.
        assert 0 < tree.memory([os.getpid()], 0) <= tree.memory([os.getpid()], 2**50)

    def test_one_that_is_gone_is_none(self) -> None:
        assert tree.process(2**22 + 1) is None
        assert tree.memory([2**22 + 1], 0) == 0
