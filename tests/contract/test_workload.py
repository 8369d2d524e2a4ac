"""What every form of workload promises: one suite, run over each form there is.

A form joins by one more entry in `FORMS`: a function from a grace in seconds to the form. Orders
call `tests.support.toil.toil`; a form that runs nothing plays the script of the same name.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvf_app.child import ChildExited, ChildKilled, ChildRaised, LimitReached, call_of, result_of
from cvf_app.clock import now
from cvf_app.errors import Invalid, NotFound, TimedOut
from cvf_app.jobs.workload import Limits, Order, Placement, WorkCancelled, Workload
from cvf_app.jobs.workload.cages import Cages, Rlimits
from cvf_app.jobs.workload.process import Processes
from tests.support.toil import Toil, Toiled, toil
from tests.support.workload_memory import Script, Scripted

SHARES = (0.25, 0.5, 0.75, 1.0)
PRINTED = "printed\ncomplained\n"
SCRIPTS = {
    "": Script(answer={"result": {"number": 10}}, shares=SHARES, printed=PRINTED),
    "invalid": Script(
        answer={"error": "Invalid", "sentence": "Line 3 has no subject.", "path": "$[2]"}
    ),
    "surprise": Script(answer={"raised": "ZeroDivisionError", "where": []}),
    "exit": Script(raises=ChildExited(3)),
    "kill": Script(raises=ChildKilled(9)),
    "memory": Script(raises=LimitReached()),
    "tree": Script(raises=LimitReached()),
    "endless": Script(endless=True, printed=PRINTED),
    "stubborn": Script(endless=True, printed=PRINTED),
}
FORMS: dict[str, Callable[[float], Workload]] = {
    "process": lambda grace: Processes(now, grace=grace),
    "process, rlimits": lambda grace: Processes(now, Cages("rlimits", Rlimits), grace=grace),
    "memory": lambda _: Scripted(lambda order: SCRIPTS[order.call.task.get("how", "")]),
}


@pytest.fixture(params=list(FORMS))
async def workload(request: pytest.FixtureRequest) -> Any:
    form = FORMS[request.param](1.0)
    yield form
    assert await form.list() == ()


def order(how: str = "", *, mib: int = 0, seconds: float = 60.0, memory: int = 256) -> Order:
    return Order("job-1", call_of(toil, Toil(how=how, mib=mib)), Limits(1, memory, seconds))


async def done(workload: Workload, placement: Placement) -> Toiled:
    return result_of(toil, await workload.outcome(placement))


async def printed(workload: Workload, placement: Placement) -> None:
    async with asyncio.timeout(20):
        while "complained" not in await workload.tail(placement):  # noqa: ASYNC110 - a child writes it
            await asyncio.sleep(0.02)


class TestWorkload:
    async def test_it_says_how_limits_hold(self, workload: Workload) -> None:
        assert workload.enforcement

    async def test_work_is_listed_tells_its_progress_and_answers(self, workload: Workload) -> None:
        placement = await workload.start(order())
        assert placement.job_id == "job-1"
        assert placement.started_at <= now().timestamp()
        assert await workload.list() == (placement,)
        seen: list[float] = []
        answer = await workload.outcome(placement, seen.append)
        assert result_of(toil, answer).number == 10
        assert tuple(seen) == SHARES
        assert await workload.list() == ()

    async def test_an_outcome_is_told_once(self, workload: Workload) -> None:
        placement = await workload.start(order())
        await workload.outcome(placement)
        with pytest.raises(NotFound):
            await workload.outcome(placement)

    async def test_many_run_at_once(self, workload: Workload) -> None:
        placements = [await workload.start(order()) for _ in range(3)]
        assert set(await workload.list()) == set(placements)
        assert len({each.placement_id for each in placements}) == 3
        for placement in placements:
            assert (await done(workload, placement)).number == 10

    async def test_what_is_printed_can_be_read_in_the_run_and_after_it(
        self, workload: Workload
    ) -> None:
        placement = await workload.start(order("endless"))
        await printed(workload, placement)
        await workload.cancel(placement)
        with pytest.raises(WorkCancelled):
            await workload.outcome(placement)
        assert "complained" in await workload.tail(placement)

    @pytest.mark.parametrize(
        ("how", "kind", "attributes"),
        [
            ("invalid", Invalid, {"sentence": "Line 3 has no subject.", "path": "$[2]"}),
            ("surprise", ChildRaised, {"args": ("ZeroDivisionError",)}),
            ("exit", ChildExited, {"status": 3}),
            ("kill", ChildKilled, {"number": 9}),
        ],
    )
    async def test_each_failure_arrives_as_itself(
        self, workload: Workload, how: str, kind: type[Exception], attributes: dict[str, Any]
    ) -> None:
        placement = await workload.start(order(how))
        with pytest.raises(kind) as caught:
            await done(workload, placement)
        assert {name: getattr(caught.value, name) for name in attributes} == attributes

    @pytest.mark.parametrize("how", ["memory", "tree"])
    async def test_too_much_memory_is_a_limit(self, workload: Workload, how: str) -> None:
        placement = await workload.start(order(how, mib=400, memory=192))
        with pytest.raises(LimitReached):
            await done(workload, placement)

    async def test_too_much_time_is_a_time_out(self, workload: Workload) -> None:
        placement = await workload.start(order("endless", seconds=1.0))
        with pytest.raises(TimedOut):
            await workload.outcome(placement)

    @pytest.mark.parametrize("how", ["endless", "stubborn"])
    async def test_a_cancel_ends_the_work(self, workload: Workload, how: str) -> None:
        placement = await workload.start(order(how))
        await printed(workload, placement)
        waiting = asyncio.ensure_future(workload.outcome(placement))
        await asyncio.sleep(0.1)
        await workload.cancel(placement)
        await workload.cancel(placement)
        with pytest.raises(WorkCancelled):
            await waiting

    async def test_a_cancel_after_the_end_changes_nothing(self, workload: Workload) -> None:
        placement = await workload.start(order())
        await workload.outcome(placement)
        await workload.cancel(placement)

    async def test_a_cancelled_waiter_ends_the_work(self, workload: Workload) -> None:
        placement = await workload.start(order("endless"))
        waiting = asyncio.ensure_future(workload.outcome(placement))
        await asyncio.sleep(0.1)
        await printed(workload, placement)
        waiting.cancel()
        await asyncio.wait({waiting}, timeout=20)
        assert waiting.cancelled()
        assert await workload.list() == ()


@pytest.fixture(params=["here", "rlimits"])
def processes(request: pytest.FixtureRequest) -> Processes:
    cages = Cages.open() if request.param == "here" else Cages("rlimits", Rlimits)
    return Processes(now, cages, grace=1.0)


def left() -> list[Path]:
    return list(Path("/sys/fs/cgroup").rglob(f"cv3-{os.getpid()}-*"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestProcesses:
    async def test_no_cgroup_is_left_behind(self, processes: Processes) -> None:
        for how in ("", "kill", "surprise"):
            placement = await processes.start(order(how))
            await asyncio.gather(processes.outcome(placement), return_exceptions=True)
        assert left() == []

    async def test_what_a_dead_child_started_is_killed(
        self, processes: Processes, tmp_path: Path
    ) -> None:
        path = tmp_path / "pid"
        call = call_of(toil, Toil(how="forked", path=str(path)))
        placement = await processes.start(Order("job", call, Limits(1, 256, 60)))
        with pytest.raises(ChildKilled):
            await processes.outcome(placement)
        async with asyncio.timeout(5):
            while alive(int(path.read_text())):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    async def test_cores_are_limited(self, processes: Processes) -> None:
        placement = await processes.start(order("busy"))
        used = (await done(processes, placement)).number
        print(f"{processes.enforcement}: {used} ms of CPU time in 2 s on one core")
        assert used < 2600

    async def test_only_the_end_of_much_output_is_kept(self, processes: Processes) -> None:
        placement = await processes.start(order("flood"))
        await processes.outcome(placement)
        tail = await processes.tail(placement)
        assert tail.endswith("line 199999\n")
        assert tail.startswith("line ")
        assert len(tail) <= 16 * 1024
