"""The states of a job as a machine: whatever happens in whatever order, on a real database."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from cvf_app.backends.mongo import Mongo
from cvf_app.errors import Conflict, NotFound
from cvf_app.ids import new_id
from cvf_app.jobs.lease import Lease, LeaseLost
from cvf_app.jobs.model import JobDocument, JobFault, JobId, JobState
from cvf_app.jobs.service import MOST_ATTEMPTS, Jobs
from cvf_app.jobs.store import JobStore
from cvf_app.principal import Principal, Role, UserId
from tests.support import services
from tests.support.rail import SIZES, Slow

T = TypeVar("T")
S = JobState
ADMIN = Principal(user_id=UserId("admin"), username="a", role=Role.DATA_ADMIN)
ENDS = {state for state in JobState if state.ended}
MAY_FOLLOW = {
    S.WAITING: {S.PREPARING, S.RUNNING, S.CANCELLED},
    S.PREPARING: {S.PREPARING, S.RUNNING, S.WAITING, *ENDS},
    S.RUNNING: {S.PREPARING, S.RUNNING, S.WAITING, *ENDS},
    **{end: set() for end in ENDS},
}


SETTINGS = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Bell:
    async def ring(self, job_id: str) -> bool:
        return bool(job_id)


class Machine(RuleBasedStateMachine):
    loop: asyncio.AbstractEventLoop
    store: JobStore
    jobs_known = Bundle("jobs_known")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.at = datetime(2030, 1, 1, tzinfo=UTC)
        self.jobs = Jobs(self.store, Bell(), lambda: self.at, SIZES)
        self.current: dict[JobId, Lease | None] = {}
        self.last: dict[JobId, JobDocument] = {}

    def do(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    @contextmanager
    def held(self, lease: Lease) -> Iterator[None]:
        """See that only who holds a job can write."""
        ours = self.current.get(lease.job.job_id) is lease
        try:
            yield
        except LeaseLost:
            assert not ours
        else:
            assert ours

    @rule(target=jobs_known)
    def enqueue(self) -> JobId:
        job = self.do(self.jobs.enqueue(Slow(path="p"), UserId("u")))
        self.current[job.job_id] = None
        return job.job_id

    @rule(target=leases, job_id=jobs_known)
    def claim(self, job_id: JobId) -> Any:
        lease = self.do(self.jobs.claim(job_id, {"slow"}))
        if lease is None:
            return multiple()
        self.current[job_id] = lease
        return lease

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0]))
    def time_passes(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        with self.held(lease):
            self.do(lease.renew(heed_cancel=False))

    @rule(lease=leases)
    def begin(self, lease: Lease) -> None:
        with self.held(lease):
            self.do(lease.begin())

    @rule(lease=leases, stage=st.sampled_from(["read", "build"]), share=st.floats(0, 1))
    def report(self, lease: Lease, stage: str, share: float) -> None:
        async def report() -> None:
            await lease.report(stage, share)
            await lease.flush()

        try:
            self.do(report())
        except LeaseLost:
            assert self.current.get(lease.job.job_id) is not lease

    @rule(lease=consumes(leases))
    def complete(self, lease: Lease) -> None:
        with self.held(lease):
            self.do(lease.end(None, {}))
            self.current[lease.job.job_id] = None

    @rule(lease=consumes(leases), state=st.sampled_from([S.ERROR, S.CANCELLED]))
    def fail(self, lease: Lease, state: JobState) -> None:
        with self.held(lease):
            fault = JobFault(cause="exit", message="No.") if state is S.ERROR else None
            self.do(lease.will_end(state, fault))
            self.do(lease.end(lease.ending))
            self.current[lease.job.job_id] = None

    @rule(lease=consumes(leases), counts=st.booleans())
    def hand_back(self, lease: Lease, *, counts: bool) -> None:
        with self.held(lease):
            self.do(lease.hand_back("later", seconds=1.0, counts=counts))
            self.current[lease.job.job_id] = None

    @rule(job_id=jobs_known)
    def cancel(self, job_id: JobId) -> None:
        before = self.last[job_id]
        try:
            after = self.do(self.jobs.cancel(job_id))
        except Conflict:
            assert before.state.ended
        else:
            assert not before.state.ended
            assert after.cancel_requested

    @rule(job_id=consumes(jobs_known))
    def delete(self, job_id: JobId) -> None:
        before = self.last[job_id]
        try:
            self.do(self.jobs.delete(job_id, ADMIN))
        except Conflict:
            assert not before.state.ended
        else:
            assert before.state.ended
            with pytest.raises(NotFound):
                self.do(self.jobs.get(job_id))
            del self.current[job_id], self.last[job_id]

    @invariant()
    def holds(self) -> None:
        for job_id in self.current:
            job = self.do(self.jobs.get(job_id))
            states = [entry.state for entry in job.status]
            assert states[0] is S.WAITING
            for earlier, later in pairwise(states):
                assert later in MAY_FOLLOW[earlier] or (earlier is later and not earlier.ended)
            assert job.state is states[-1]
            assert 0 <= job.progress <= 1
            assert 0 <= job.attempts <= MOST_ATTEMPTS
            assert (job.ended_at is not None) is job.state.ended
            assert (job.status[-1].error is None) is (job.state not in {S.ERROR, S.LOST})
            before = self.last.get(job_id)
            if before is not None:
                assert job.status[: len(before.status)] == before.status
                assert not before.state.ended or job == before
            self.last[job_id] = job


@contextmanager
def machinery() -> Iterator[type[Machine]]:
    """Give the machine a loop and a database for all examples: each has jobs of its own."""
    with services.mongodb() as uri, asyncio.Runner() as runner:
        Machine.loop = runner.get_loop()
        mongo = Mongo.open(uri, f"cv3_test_{new_id()[:8]}", 4)
        Machine.store = JobStore(mongo.collection("jobs"))
        runner.run(Machine.store.prepare())
        yield Machine
        runner.run(mongo.drop())
        mongo.close()


class TestStates:
    def test_a_job_goes_only_where_it_may_and_stays_where_it_ends(self) -> None:
        try:
            with machinery() as machine:
                run_state_machine_as_test(machine, settings=SETTINGS)
        except services.Missing as reason:
            pytest.skip(str(reason))
