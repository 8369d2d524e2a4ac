"""Jobs within limits on a real rail: causes, output, budgets, keys of requests, who sees what."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client

from cvf_app.backends.redis import Redis
from cvf_app.clock import now
from cvf_app.errors import Conflict, NotFound
from cvf_app.jobs.model import JobDocument, JobState
from cvf_app.jobs.resources import Hosts
from cvf_app.jobs.routes import bp
from cvf_app.jobs.service import ONCE_SECONDS, Jobs
from cvf_app.jobs.workload import tree
from cvf_app.metrics import exposition
from cvf_app.parts import provide
from cvf_app.principal import Principal, Role, UserId
from cvf_app.web.access import check_access
from cvf_app.web.errors import install
from tests.support import services
from tests.support.rail import SIZES, Brief, Heavy, Rail, Slow, Work, ledger, opened

USER = UserId("user-1")
MINE = Principal(user_id=USER, username="a", role=Role.USER)
OTHER = Principal(user_id=UserId("user-2"), username="b", role=Role.USER)
ADMIN = Principal(user_id=UserId("user-3"), username="c", role=Role.DATA_ADMIN)
PEOPLE = {"mine": MINE, "other": OTHER, "admin": ADMIN}


@pytest.fixture
async def node(
    mongo_uri: str, redis_program: services.Program, tmp_path: Path
) -> AsyncIterator[Rail]:
    async with opened(mongo_uri, redis_program.url, tmp_path) as rail:
        yield rail


@pytest.fixture
async def client(node: Rail) -> AsyncIterator[Client]:
    async def authenticate(token: str) -> Principal:
        return PEOPLE[token]

    app = Quart("test")
    app.register_blueprint(bp)
    install(app)
    check_access(app)
    redis = Redis.open(node.redis_url, 4)
    provide(app, {Jobs: node.jobs, Hosts: Hosts(ledger(redis, node.database), SIZES)})
    app.extensions["cv3_authenticate"] = authenticate
    yield app.test_client()
    await redis.close()


async def children(pid: int) -> list[int]:
    """Wait until a process has a child, and return its children."""
    found: list[int] = []
    while not found:
        await asyncio.sleep(0.05)
        found = [one for one in tree.members(pid) if _is_child(one, pid)]
    return found


def _is_child(pid: int, parent: int) -> bool:
    found = tree.process(pid)
    return found is not None and found.parent == parent


def groups_of(pid: int) -> list[Path]:
    """Return the control groups that a process has made."""
    return list(Path("/sys/fs/cgroup").rglob(f"cv3-{pid}-*"))


def who(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def finished(node: Rail, *jobs: Slow | Work) -> list[JobDocument]:
    begun = [await node.jobs.enqueue(job, USER) for job in jobs]
    async with node.working():
        return [await node.until(job, 30) for job in begun]


class TestCauses:
    @pytest.mark.parametrize(
        ("kind", "how", "cause"),
        [
            (Work, "exit", "exit"),
            (Work, "kill", "signal"),
            (Brief, "endless", "timeout"),
            (Work, "memory", "limit"),
            (Work, "surprise", "exception"),
            (Work, "invalid", "input"),
        ],
    )
    async def test_each_is_told_by_its_word_and_undone(
        self, node: Rail, kind: type[Work], how: str, cause: str
    ) -> None:
        (job,) = await finished(node, kind(path=str(node.notes), how=how, mib=600))
        error = job.status[-1].error
        assert job.state is JobState.ERROR
        assert error is not None
        assert error.cause == cause
        assert node.lines() == ["begin 1", "undo"]
        assert "complained" in (await node.jobs.log(job.job_id, MINE)).tail

    async def test_where_it_was_raised_is_told_to_admins_alone(
        self, node: Rail, client: Client
    ) -> None:
        (job,) = await finished(node, Work(path=str(node.notes), how="surprise"))
        errors = {}
        for name in ("mine", "admin"):
            for path in (f"/jobs/{job.job_id}", "/jobs/"):
                answer = await client.get(path, headers=who(name))
                shown = await answer.get_json()
                shown = shown[0] if isinstance(shown, list) else shown
                errors[name, path] = shown["status"][-1]["error"]
            events = await client.get(f"/jobs/{job.job_id}/events", headers=who(name))
            assert ("toil.py" in await events.get_data(as_text=True)) is (name == "admin")
        for (name, _), error in errors.items():
            assert error["cause"] == "exception"
            told = "\n".join(error.get("details", ()))
            assert ("toil.py" in told) is (name == "admin")


class TestWork:
    async def test_a_job_tells_its_size_and_how_its_limits_hold(self, node: Rail) -> None:
        job = await node.jobs.enqueue(Work(path=str(node.notes)), USER)
        (ended,) = await finished(node, Work(path=str(node.notes)))
        assert (job.size, job.proc, job.mem, job.enforcement) == ("small", 1, 256, "")
        assert ended.result == {"number": 10, "shares": [0.25, 0.5, 0.75, 1.0]}
        assert ended.enforcement in {"cgroup v1", "cgroup v2", "rlimits"}

    async def test_a_cancel_ends_the_work_and_a_second_changes_nothing(self, node: Rail) -> None:
        async with node.working():
            job = await node.jobs.enqueue(Work(path=str(node.notes), how="stubborn"), USER)
            async with asyncio.timeout(20):
                while "complained" not in (await node.jobs.log(job.job_id, MINE)).tail:  # noqa: ASYNC110 - others change it
                    await asyncio.sleep(0.1)
            first = await node.jobs.cancel(job.job_id, MINE)
            second = await node.jobs.cancel(job.job_id, MINE)
            assert first.cancel_requested
            assert second.cancel_requested
            assert len(second.status) == len(first.status)
            ended = await node.until(job, 20)
        assert ended.state is JobState.CANCELLED
        assert node.lines() == ["begin 1", "undo"]
        with pytest.raises(Conflict):
            await node.jobs.cancel(job.job_id, MINE)


class TestDying:
    async def test_the_work_of_a_killed_worker_dies_and_another_ends_the_job(
        self, node: Rail
    ) -> None:
        first = await node.process()
        try:
            job = await node.jobs.enqueue(Work(path=str(node.notes), how="endless"), USER)
            await node.until(job, 20, lambda found: found.enforcement != "")
            (child,) = await asyncio.wait_for(children(first.pid), 20)
        finally:
            first.kill()
            await first.wait()
        async with asyncio.timeout(10):
            while tree.process(child) is not None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        async with node.working():
            await node.until(job, 30, lambda found: found.attempts == 2)
            await node.until(job, 20, lambda found: found.state is JobState.RUNNING)
            await node.jobs.cancel(job.job_id)
            ended = await node.until(job, 20)
        assert ended.state is JobState.CANCELLED
        assert node.lines() == ["begin 1", "begin 2", "undo"]
        assert groups_of(first.pid) == []


class TestBudget:
    async def test_a_large_job_has_the_host_alone_and_its_turn(self, node: Rail) -> None:
        slow = [Slow(path=str(node.notes), seconds=0.5) for _ in range(4)]
        first = [await node.jobs.enqueue(job, USER) for job in slow]
        heavy = await node.jobs.enqueue(Heavy(path=str(node.notes), seconds=0.5), USER)
        later = [await node.jobs.enqueue(job, USER) for job in slow * 3]
        async with node.working(slots=8):
            for job in [*first, heavy, *later]:
                await node.until(job, 40)
        lines = [line.partition(" ")[0] for line in node.lines()]
        at = lines.index("heavy")
        assert node.lines()[at] == "heavy begins on 4"
        assert node.lines()[at + 1] == "heavy ends"
        assert lines[:at].count("begin") == lines[:at].count("done")
        # Small jobs that asked before it may go first; the rest wait although there is room.
        assert lines[at:].count("begin") >= 2 * len(slow)

    async def test_two_workers_share_one_host(self, node: Rail) -> None:
        jobs = [Slow(path=str(node.notes), seconds=0.3) for _ in range(12)]
        begun = [await node.jobs.enqueue(job, USER) for job in jobs]
        async with node.working(slots=4), node.working(slots=4):
            for job in begun:
                await node.until(job, 60)
        running = most = 0
        for line in node.lines():
            running += 1 if line.startswith("begin") else -1
            most = max(most, running)
        assert len(node.lines()) == 24
        assert most <= SIZES.cores

    async def test_a_job_whose_bell_was_never_rung_is_swept_up(self, node: Rail) -> None:
        class Silent:
            async def ring(self, job_id: str) -> bool:
                raise AssertionError(job_id)

        jobs = Jobs(node.store, Silent(), now, SIZES)
        with pytest.raises(AssertionError):
            await jobs.enqueue(Slow(path=str(node.notes)), USER)
        (job,) = await node.jobs.list_jobs(MINE, limit=5, skip=0)
        async with node.working():
            assert (await node.until(job, 20)).state is JobState.COMPLETE


class TestIdempotency:
    async def test_the_same_request_returns_the_same_job_also_when_it_has_ended(
        self, node: Rail
    ) -> None:
        wanted = Slow(path=str(node.notes))
        many = await asyncio.gather(
            *(node.jobs.enqueue(wanted, USER, idempotency="k") for _ in range(8))
        )
        assert len({job.job_id for job in many}) == 1
        async with node.working():
            ended = await node.until(many[0], 20)
        again = await node.jobs.enqueue(wanted, USER, key="source", idempotency="k")
        assert again == ended
        assert len(node.lines()) == 2

    async def test_another_request_or_user_does_not(self, node: Rail) -> None:
        job = await node.jobs.enqueue(Slow(path="/dev/null"), USER, idempotency="k")
        with pytest.raises(Conflict, match="Idempotency-Key"):
            await node.jobs.enqueue(Slow(path="/dev/null", steps=2), USER, idempotency="k")
        other = await node.jobs.enqueue(Slow(path="/dev/null"), OTHER.user_id, idempotency="k")
        third = await node.jobs.enqueue(Slow(path="/dev/null"), USER, idempotency="l")
        assert len({job.job_id, other.job_id, third.job_id}) == 3

    async def test_after_a_day_a_key_is_free(self, node: Rail) -> None:
        class Later:
            def __call__(self) -> datetime:
                return datetime.now(UTC) + timedelta(seconds=ONCE_SECONDS)

        first = await node.jobs.enqueue(Slow(path="/dev/null"), USER, idempotency="k")
        later = Jobs(node.store, node.queue, Later(), SIZES)
        second = await later.enqueue(Slow(path="/dev/null"), USER, idempotency="k")
        assert second.job_id != first.job_id
        again = await later.enqueue(Slow(path="/dev/null"), USER, idempotency="k")
        assert again.job_id == second.job_id


class TestRoutes:
    async def test_lists_are_filtered_by_state_and_kind(self, node: Rail, client: Client) -> None:
        await finished(node, Slow(path=str(node.notes)), Work(path=str(node.notes), how="exit"))
        await node.jobs.enqueue(Slow(path=str(node.notes)), OTHER.user_id)

        async def listed(query: str, name: str = "admin") -> list[tuple[str, str]]:
            answer = await client.get(f"/jobs/?{query}", headers=who(name))
            assert answer.status_code == 200
            return sorted((job["task"], job["state"]) for job in await answer.get_json())

        assert await listed("state=complete") == [("slow", "complete")]
        assert await listed("task=slow") == [("slow", "complete"), ("slow", "waiting")]
        assert await listed("task=slow", "mine") == [("slow", "complete")]
        assert await listed("task=work&state=error") == [("work", "error")]
        assert await listed("task=nothing") == []
        answer = await client.get("/jobs/?state=odd", headers=who("mine"))
        assert answer.status_code == 400
        assert (await answer.get_json())["path"] == "$.state"

    async def test_only_ended_jobs_are_deleted_and_only_by_who_may_see_them(
        self, node: Rail, client: Client
    ) -> None:
        (job,) = await finished(node, Work(path=str(node.notes)))
        waiting = await node.jobs.enqueue(Slow(path=str(node.notes)), USER)
        at = f"/jobs/{job.job_id}"
        for path in (at, f"{at}/log"):
            assert (await client.get(path, headers=who("other"))).status_code == 404
        assert (await client.delete(at, headers=who("other"))).status_code == 404
        log = await (await client.get(f"{at}/log", headers=who("mine"))).get_json()
        assert sorted(log["tail"].split()) == ["complained", "printed"]
        assert (await client.delete(at, headers=who("mine"))).status_code == 200
        assert (await client.delete(at, headers=who("mine"))).status_code == 404
        answer = await client.delete(f"/jobs/{waiting.job_id}", headers=who("mine"))
        assert answer.status_code == 409
        with pytest.raises(NotFound):
            await node.jobs.get(job.job_id)

    async def test_ended_jobs_are_deleted_by_a_filter(self, node: Rail, client: Client) -> None:
        path = str(node.notes)
        await finished(node, Work(path=path), Work(path=path, how="exit"), Slow(path=path))
        theirs = await node.jobs.enqueue(Slow(path=path), OTHER.user_id)
        await node.jobs.cancel(theirs.job_id)
        await node.jobs.enqueue(Slow(path=path), USER)

        async def delete(which: str, name: str) -> int:
            answer = await client.delete(f"/jobs/?filter={which}", headers=who(name))
            assert answer.status_code == 200
            return int((await answer.get_json())["deleted"])

        assert await delete("failed", "mine") == 1
        assert await delete("complete", "other") == 0
        assert await delete("complete", "mine") == 2
        assert await delete("ended", "admin") == 1
        (left,) = await node.jobs.list_jobs(ADMIN, limit=9, skip=0)
        assert left.state is JobState.WAITING
        for query in ("", "?filter=", "?filter=all"):
            assert (await client.delete(f"/jobs/{query}", headers=who("mine"))).status_code == 400

    async def test_resources_are_shown(self, node: Rail, client: Client) -> None:
        async with node.working():
            job = await node.jobs.enqueue(Slow(path=str(node.notes), seconds=60), USER)
            await node.until(job, 20, lambda found: found.state is JobState.RUNNING)
            await node.jobs.measure()
            shown = await (await client.get("/jobs/resources", headers=who("mine"))).get_json()
        (host,) = shown["hosts"]
        assert host["running"] == {"small": 1}
        assert host["used"] == {"cores": 1, "memoryMib": 256}
        assert host["limits"] == {"cores": 4, "memoryMib": 4096}
        assert host["available"] == {"cores": 3, "memoryMib": 3840}
        assert host["enforcement"] in {"cgroup v1", "cgroup v2", "rlimits"}
        assert shown["sizes"]["large"] == {"cores": 4, "memoryMib": 1024, "minutes": 10.0}
        assert 'cv3_jobs{state="running",task="slow"} 1.0' in exposition().decode()
        assert "cv3_job_slots" in exposition().decode()
