"""Child processes: they answer, tell how far they are, are ended, and do not outlive us."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from cvf_app.child import Child, ChildExited, ChildKilled, ChildRaised
from cvf_app.errors import Invalid, TimedOut
from cvf_app.in_child import Call
from cvf_app.jobs.workload import tree
from cvf_app.loops import in_process, in_thread
from tests.support.rail import Answer, Order, look, toil

ROOT = Path(__file__).parents[2]
WORK = (
    "cvf_app.pipelines.attributes",
    "cvf_app.pipelines.preview",
    "cvf_app.pipelines.take_in",
    "cvf_app.sources.building",
    "cvf_app.sources.converting",
)
PARENT = """
import asyncio
from cvf_app.loops import in_process
from tests.support.rail import Order, toil
asyncio.run(in_process(toil, Order(seconds=60, pid_file={path!r})))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def written(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def pid_in(path: Path) -> int:
    async with asyncio.timeout(10):
        while not written(path):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    return int(written(path))


async def gone(pid: int, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while alive(pid):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


class TestInProcess:
    async def test_a_child_answers_and_tells_its_progress(self) -> None:
        seen: list[float] = []
        began = time.monotonic()
        answer = await in_process(toil, Order(), seen.append)
        print(f"a child process takes {time.monotonic() - began:.2f} s")
        assert answer.pid != os.getpid()
        assert seen == [0.25, 0.5, 0.75, 1.0]

    async def test_our_errors_arrive_as_themselves(self) -> None:
        with pytest.raises(Invalid) as caught:
            await in_process(toil, Order(how="invalid"))
        assert caught.value.sentence == "Line 3 has no subject."
        assert caught.value.path == "$[2]"

    async def test_other_ends_are_named(self) -> None:
        with pytest.raises(ChildRaised, match="ZeroDivisionError"):
            await in_process(toil, Order(how="surprise"))
        with pytest.raises(ChildExited) as exited:
            await in_process(toil, Order(how="exit"))
        assert exited.value.status == 3
        with pytest.raises(ChildKilled) as killed:
            await in_process(toil, Order(how="kill"))
        assert killed.value.number == signal.SIGKILL
        with pytest.raises(TimedOut):
            await in_process(toil, Order(seconds=60), seconds=0.5)

    @pytest.mark.parametrize(("how", "seconds"), [("", 2), ("stubborn", 8)])
    async def test_a_cancel_ends_the_child(self, tmp_path: Path, how: str, seconds: float) -> None:
        path = tmp_path / "pid"
        order = Order(seconds=60, how=how, pid_file=str(path))
        running = asyncio.create_task(in_process(toil, order))
        pid = await pid_in(path)
        await asyncio.sleep(0.3)
        running.cancel()
        await asyncio.wait({running}, timeout=seconds)
        assert running.cancelled()
        await gone(pid, 1)

    async def test_a_child_and_its_server_die_with_their_user(self, tmp_path: Path) -> None:
        path = tmp_path / "pid"
        parent = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PARENT.format(path=str(path)),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )
        child = tree.process(await pid_in(path))
        assert child is not None
        parent.kill()
        await parent.wait()
        await gone(child.pid, 3)
        await gone(child.parent, 3)


class TestForkServer:
    async def test_a_killed_server_takes_its_children_along_and_another_comes(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "pid"
        order = Order(seconds=60, how="stubborn", pid_file=str(path))
        running = asyncio.create_task(in_process(toil, order))
        child = tree.process(await pid_in(path))
        assert child is not None
        os.kill(child.parent, signal.SIGKILL)
        with pytest.raises(ChildKilled):
            await asyncio.wait_for(running, 5)
        await gone(child.pid, 1)
        first = await in_process(toil, Order())
        second = await in_process(toil, Order())
        assert len({child.pid, first.pid, second.pid}) == 3

    async def test_children_side_by_side_end_each_with_its_own_status(self) -> None:
        hows = ["exit", "", "kill", "invalid"] * 8
        made = (in_process(toil, Order(how=how, seconds=0.2)) for how in hows)
        ends = await asyncio.gather(*made, return_exceptions=True)
        kinds = {"exit": ChildExited, "": Answer, "kill": ChildKilled, "invalid": Invalid}
        assert [type(end) for end in ends] == [kinds[how] for how in hows]

    async def test_a_module_that_cannot_be_loaded_ends_its_own_child_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        child = await Child.start("broken")
        try:
            await child.order(Call(module="broken", function="anything", task={}))
            with pytest.raises(ChildExited):
                await child.answer()
        finally:
            await child.end(1)
        assert (await in_process(toil, Order())).pid

    async def test_a_child_has_nothing_open_but_what_it_speaks_by(self) -> None:
        busy = [asyncio.create_task(in_process(toil, Order(seconds=2))) for _ in range(3)]
        opened = await in_process(look, Order())
        await asyncio.gather(*busy)
        # What it reads, writes and complains to, its own copy of the second, and the folder read.
        assert len(opened.descriptors) == 5

    async def test_nothing_that_the_work_of_jobs_loads_starts_a_thread(self) -> None:
        for module in WORK:
            child = await Child.start(module)
            found = tree.process(child.pid)
            await child.end(1)
        assert found is not None
        assert threads(found.parent) == 1


class TestInThread:
    async def test_a_thread_returns_what_the_function_returns(self) -> None:
        assert await in_thread(pow, 2, 10) == 1024
