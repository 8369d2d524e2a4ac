"""The job rail on a real database and a real Redis: workers die, Redis forgets, jobs still end."""

import asyncio
import pickletools
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from quart import Quart
from redis.asyncio import Redis as Client

from cvf_app.errors import Conflict, NotFound
from cvf_app.jobs.model import JobId, JobState
from cvf_app.jobs.routes import bp
from cvf_app.jobs.service import Jobs
from cvf_app.parts import provide
from cvf_app.principal import Principal, Role, UserId
from cvf_app.web.access import check_access
from cvf_app.web.errors import install
from tests.support import services
from tests.support.rail import Failing, Rail, Slow, opened

ROOT = Path(__file__).parents[2]
USER = UserId("user-1")


@pytest.fixture
async def node(
    mongo_uri: str, redis_program: services.Program, tmp_path: Path
) -> AsyncIterator[Rail]:
    async with opened(mongo_uri, redis_program.url, tmp_path) as rail:
        yield rail


class TestRunning:
    async def test_a_job_runs_soon_tells_its_progress_and_ends_complete(self, node: Rail) -> None:
        async with node.working():
            await asyncio.sleep(1)
            began = time.monotonic()
            job = await node.jobs.enqueue(Slow(path=str(node.notes), seconds=2, steps=20), USER)
            assert job.state is JobState.WAITING
            await node.until(job, 5, lambda found: found.state is JobState.RUNNING)
            print(f"from enqueue to begin: {time.monotonic() - began:.3f} s")
            seen = [each async for each in node.jobs.watch(job.job_id)]
        ended = seen[-1]
        assert ended.state is JobState.COMPLETE
        assert ended.result == {"attempt": 1}
        assert ended.progress == 1.0
        began_as = [entry.state for entry in ended.status][:3]
        assert began_as == [JobState.WAITING, JobState.PREPARING, JobState.RUNNING]
        fractions = [each.progress for each in seen]
        assert fractions == sorted(fractions)
        # 20 reports in 2 s, at most two writes a second, beside start and end.
        assert 5 <= len(ended.status) <= 10

    async def test_a_key_names_one_open_job(self, node: Rail) -> None:
        first = await node.jobs.enqueue(Slow(path=str(node.notes)), USER, key="k")
        many = await asyncio.gather(
            *(node.jobs.enqueue(Slow(path=str(node.notes)), USER, key="k") for _ in range(10))
        )
        assert {each.job_id for each in many} == {first.job_id}
        async with node.working():
            await node.until(first, 5)
        later = await node.jobs.enqueue(Slow(path=str(node.notes)), USER, key="k")
        assert later.job_id != first.job_id

    async def test_people_see_their_own_and_data_admins_all(self, node: Rail) -> None:
        job = await node.jobs.enqueue(Slow(path=str(node.notes)), USER)
        mine = Principal(user_id=USER, username="a", role=Role.USER)
        other = Principal(user_id=UserId("user-2"), username="b", role=Role.USER)
        admin = Principal(user_id=UserId("user-3"), username="c", role=Role.DATA_ADMIN)
        assert await node.jobs.list_jobs(mine, limit=10, skip=0) == (job,)
        assert await node.jobs.list_jobs(admin, limit=10, skip=0) == (job,)
        assert await node.jobs.list_jobs(other, limit=10, skip=0) == ()
        for call in (node.jobs.get, node.jobs.cancel):
            with pytest.raises(NotFound):
                await call(job.job_id, other)
        with pytest.raises(NotFound):
            await node.jobs.get(JobId("none"), admin)


class TestFailing:
    @pytest.mark.parametrize(
        ("how", "cause"),
        [
            ("invalid", "input"),
            ("exit", "exit"),
            ("kill", "signal"),
            ("timeout", "timeout"),
            ("limit", "limit"),
            ("surprise", "exception"),
        ],
    )
    async def test_each_cause_has_its_word_and_is_undone(
        self, node: Rail, how: str, cause: str
    ) -> None:
        async with node.working():
            job = await node.jobs.enqueue(Failing(path=str(node.notes), how=how), USER)
            ended = await node.until(job, 15)
        assert ended.state is JobState.ERROR
        error = ended.status[-1].error
        assert error is not None
        assert error.cause == cause
        assert "Traceback" not in error.message
        assert "ZeroDivision" not in error.message
        assert node.lines() == ["begin 1", "undo"]

    async def test_what_is_unavailable_is_tried_again(self, node: Rail) -> None:
        async with node.working():
            job = await node.jobs.enqueue(Failing(path=str(node.notes), how="silence"), USER)
            await node.until(job, 12, lambda found: found.attempts == 2)
            await node.jobs.cancel(job.job_id)
            ended = await node.until(job, 12)
        assert ended.state is JobState.CANCELLED
        assert node.lines() == ["begin 1", "begin 2", "undo"]


class TestCancelling:
    async def test_a_waiting_job_ends_at_once(self, node: Rail) -> None:
        job = await node.jobs.enqueue(Slow(path=str(node.notes)), USER)
        assert (await node.jobs.cancel(job.job_id)).state is JobState.CANCELLED
        with pytest.raises(Conflict):
            await node.jobs.cancel(job.job_id)
        async with node.working():
            await asyncio.sleep(3)
        assert node.lines() == []

    async def test_a_running_job_is_stopped_and_undone(self, node: Rail) -> None:
        async with node.working():
            job = await node.jobs.enqueue(Slow(path=str(node.notes), seconds=60), USER)
            await node.until(job, 5, lambda found: found.stage == "step 0")
            began = time.monotonic()
            await node.jobs.cancel(job.job_id)
            ended = await node.until(job, 5)
            took = time.monotonic() - began
        assert ended.state is JobState.CANCELLED
        assert ended.status[-1].state is JobState.CANCELLED
        assert node.lines()[1:] == ["undo"]
        assert took < 2
        print(f"cancel: {took:.3f} s")


class TestDying:
    async def test_a_killed_workers_job_is_taken_over(self, node: Rail) -> None:
        first, second = await node.process(), None
        try:
            job = await node.jobs.enqueue(Slow(path=str(node.notes), seconds=3), USER)
            await node.until(job, 15, lambda found: found.stage == "step 0")
            second = await node.process()
            await asyncio.sleep(1)
            began = time.monotonic()
            victim = int(node.lines()[0].split()[2])
            assert victim == first.pid
            first.send_signal(signal.SIGKILL)
            await node.until(job, 15, lambda found: found.attempts == 2)
            print(f"taken over after {time.monotonic() - began:.1f} s")
            assert time.monotonic() - began < 12
            ended = await node.until(job, 10)
        finally:
            for process in (first, second):
                if process is not None and process.returncode is None:
                    process.kill()
                if process is not None:
                    await process.wait()
        assert ended.state is JobState.COMPLETE
        assert [line.split()[0] for line in node.lines()] == ["begin", "begin", "done"]
        assert {entry.attempt for entry in ended.status} == {0, 1, 2}

    async def test_a_worker_that_ends_hands_its_job_back_at_once(self, node: Rail) -> None:
        async with node.working():
            job = await node.jobs.enqueue(Slow(path=str(node.notes), seconds=60), USER)
            await node.until(job, 5, lambda found: found.stage == "step 0")
        assert (await node.jobs.get(job.job_id)).state is JobState.WAITING
        # It had begun, so a cancel is not its end yet: somebody has to undo it.
        assert (await node.jobs.cancel(job.job_id)).state is JobState.WAITING
        async with node.working():
            ended = await node.until(job, 6)
        assert ended.state is JobState.CANCELLED
        assert node.lines()[-1] == "undo"

    async def test_a_job_that_kills_its_workers_is_lost_and_undone(self, node: Rail) -> None:
        job = await node.jobs.enqueue(Slow(path=str(node.notes)), USER)
        for _ in range(5):
            assert await node.jobs.claim(job.job_id, {"slow"}) is not None
            lapsed = {"$set": {"leaseUntil": 1.0}}
            await node.store._jobs.update_one({"_id": job.job_id}, lapsed)  # noqa: SLF001 - time
        async with node.working():
            ended = await node.until(job, 6)
        assert ended.state is JobState.LOST
        assert node.lines() == ["undo"]

    async def test_an_old_runner_can_write_nothing(self, node: Rail) -> None:
        job = await node.jobs.enqueue(Slow(path=str(node.notes)), USER)
        old = await node.jobs.claim(job.job_id, {"slow"})
        assert old is not None
        assert await node.jobs.claim(job.job_id, {"slow"}) is None
        lapsed = {"$set": {"leaseUntil": 1.0}}
        await node.store._jobs.update_one({"_id": job.job_id}, lapsed)  # noqa: SLF001 - time
        new = await node.jobs.claim(job.job_id, {"slow"})
        assert new is not None
        before = await node.jobs.get(job.job_id)
        for write in (old.renew(heed_cancel=True), old.report("x", 0.5), old.end(None, {})):
            with pytest.raises(Exception, match=r"^$") as caught:
                await write
            assert type(caught.value).__name__ == "LeaseLost"
        assert await node.jobs.get(job.job_id) == before
        await new.end(None, {"by": "new"})
        assert (await node.jobs.get(job.job_id)).result == {"by": "new"}


class TestRedis:
    async def test_only_ids_travel_and_nothing_is_pickled(
        self, node: Rail, redis_program: services.Program
    ) -> None:
        secret = "a-very-secret-argument"
        job = await node.jobs.enqueue(Slow(path=secret), USER)
        async with Client.from_url(redis_program.url) as client:
            keys = [key async for key in client.scan_iter(f"*{node.database}*")]
            dumps = b""
            for key in keys:
                kind = await client.type(key)
                if kind == b"stream":
                    for _, fields in await client.xrange(key):
                        for value in fields.values():
                            dumps += value + b"\n"
                            _assert_no_pickle(value)
                elif kind == b"hash":
                    for value in (await client.hgetall(key)).values():
                        dumps += value + b"\n"
                        _assert_no_pickle(value)
        assert job.job_id.encode() in dumps
        assert secret.encode() not in dumps

    async def test_jobs_are_found_when_redis_forgot_them(
        self, node: Rail, redis_program: services.Program
    ) -> None:
        jobs = [await node.jobs.enqueue(Slow(path=str(node.notes)), USER) for _ in range(20)]
        async with Client.from_url(redis_program.url) as client:
            await client.flushall()
        began = time.monotonic()
        async with node.working():
            await node.until(jobs[-1], 15)
            for job in jobs:
                await node.until(job, 15)
            print(f"20 forgotten jobs done after {time.monotonic() - began:.1f} s")
            # And in mid-work: the doorbell comes back.
            async with Client.from_url(redis_program.url) as client:
                await client.flushall()
            later = await node.jobs.enqueue(Slow(path=str(node.notes)), USER)
            await node.until(later, 15)
        assert sum(line.startswith("done") for line in node.lines()) == 21

    async def test_jobs_are_taken_in_and_run_while_redis_is_down(
        self, node: Rail, redis_program: services.Program
    ) -> None:
        async with node.working():
            await asyncio.sleep(0.5)
            redis_program.kill()
            try:
                began = time.monotonic()
                job = await node.jobs.enqueue(Slow(path=str(node.notes)), USER)
                assert time.monotonic() - began < 4
                print(f"enqueue without redis: {time.monotonic() - began:.2f} s")
                ended = await node.until(job, 15)
                assert ended.state is JobState.COMPLETE
            finally:
                redis_program.start()
            again = await node.jobs.enqueue(Slow(path=str(node.notes)), USER)
            await node.until(again, 15)


class TestRoutes:
    async def test_jobs_are_listed_watched_and_cancelled_over_http(self, node: Rail) -> None:
        people = {
            "mine": Principal(user_id=USER, username="a", role=Role.USER),
            "other": Principal(user_id=UserId("user-2"), username="b", role=Role.USER),
        }

        async def authenticate(token: str) -> Principal:
            return people[token]

        app = Quart("test")
        app.register_blueprint(bp)
        install(app)
        check_access(app)
        provide(app, {Jobs: node.jobs})
        app.extensions["cv3_authenticate"] = authenticate
        mine, other = ({"Authorization": f"Bearer {name}"} for name in people)
        job = await node.jobs.enqueue(Slow(path=str(node.notes), seconds=60), USER)
        at = f"/jobs/{job.job_id}"
        client = app.test_client()
        assert (await client.get(at)).status_code == 401
        assert (await client.get(at, headers=other)).status_code == 404
        assert (await client.get(f"{at}/events", headers=other)).status_code == 404
        assert await (await client.get("/jobs/", headers=other)).get_json() == []
        (listed,) = await (await client.get("/jobs/?limit=5", headers=mine)).get_json()
        assert listed["jobId"] == job.job_id
        assert (await client.get("/jobs/?limit=0", headers=mine)).status_code == 400
        async with node.working():
            await node.until(job, 5, lambda found: found.stage == "step 0")
            watching = asyncio.create_task(client.get(f"{at}/events", headers=mine))
            await asyncio.sleep(0.2)
            assert (await client.put(f"{at}/cancel", headers=mine)).status_code == 200
            events = (await (await watching).get_data(as_text=True)).strip().split("\n\n")
        assert len(events) >= 2
        assert all(each.startswith("event: status\ndata: {") for each in events)
        assert '"state":"cancelled"' in events[-1]
        assert (await client.put(f"{at}/cancel", headers=mine)).status_code == 409


def _assert_no_pickle(value: bytes) -> None:
    try:
        opcodes = list(pickletools.genops(value))
    except ValueError:
        return
    assert not any(opcode.name == "PROTO" for opcode, _, _ in opcodes), value
