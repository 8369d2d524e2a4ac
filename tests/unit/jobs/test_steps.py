"""What a handler has of its job, on a workload that plays scripts."""

import asyncio
from typing import Any

import pytest

from cvf_app.errors import Invalid
from cvf_app.jobs.model import JobDocument, JobId, JobState
from cvf_app.jobs.steps import AttemptSteps
from cvf_app.jobs.workload import Limits
from cvf_app.principal import UserId
from tests.support.toil import Toil, toil
from tests.support.workload_memory import Script, Scripted

SCRIPTS = {
    "": Script(answer={"result": {"number": 7}}, shares=(0.5, 1.0), printed="said\n"),
    "invalid": Script(answer={"error": "Invalid", "sentence": "No.", "path": "$"}, printed="no\n"),
    "endless": Script(endless=True),
}


class Held:
    """What steps need of a lease."""

    def __init__(self) -> None:
        self.job = JobDocument(
            job_id=JobId("job"),
            task="t",
            args={},
            user_id=UserId("u"),
            size="small",
            proc=2,
            mem=64,
            state=JobState.RUNNING,
            progress=0.0,
            attempts=3,
            created_at=0,
        )
        self.job_id = self.job.job_id
        self.attempt = 3
        self.output = ""
        self.enforcement = ""

    async def bounded(self, enforcement: str) -> None:
        self.enforcement = enforcement


@pytest.fixture
def made() -> tuple[Any, Scripted, AttemptSteps]:
    lease: Any = Held()
    workload = Scripted(lambda order: SCRIPTS[order.call.task.get("how", "")])
    return lease, workload, AttemptSteps(lease, workload, Limits(2, 64, 60.0))


class TestRun:
    async def test_work_runs_within_the_limits_of_its_job(self, made: Any) -> None:
        lease, workload, steps = made
        seen: list[float] = []
        answer = await steps.run(toil, Toil(mib=3), seen.append)
        assert answer.number == 7
        assert seen == [0.5, 1.0]
        (order,) = workload.orders
        assert (order.job_id, order.limits.cores, order.limits.memory_mib) == ("job", 2, 64)
        assert 60 < order.limits.seconds <= 65
        assert (order.call.function, order.call.task) == ("toil", {"mib": 3})
        assert (steps.cores, steps.attempt, lease.enforcement) == (2, 3, "a script")

    async def test_the_output_of_one_piece_follows_that_of_another(self, made: Any) -> None:
        lease, _, steps = made
        await steps.run(toil, Toil())
        with pytest.raises(Invalid):
            await steps.run(toil, Toil(how="invalid"))
        assert lease.output == "said\nno\n"

    async def test_pieces_go_one_after_the_other(self, made: Any) -> None:
        _, workload, steps = made
        first = asyncio.ensure_future(steps.run(toil, Toil(how="endless")))
        second = asyncio.ensure_future(steps.run(toil, Toil()))
        await asyncio.sleep(0.05)
        assert len(workload.orders) == 1
        first.cancel()
        assert (await second).number == 7
        assert first.cancelled()
        assert await workload.list() == ()
