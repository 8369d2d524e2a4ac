"""What a running handler has of its job: the lease, and the way to run work within its limits."""

import asyncio
from collections.abc import Callable
from time import monotonic

from cvf_app.child import A, Progress, R, call_of, result_of
from cvf_app.jobs.lease import Lease
from cvf_app.jobs.model import JobId
from cvf_app.jobs.workload import Limits, Order, Placement, Workload
from cvf_app.jobs.workload.tail import text_of

# The attempt as a whole is timed by the worker; the work itself a little later, as a safeguard.
_LATER_SECONDS = 5.0


class AttemptSteps:
    """The `Steps` of one attempt; see `handler.py`."""

    def __init__(self, lease: Lease, workload: Workload, limits: Limits) -> None:
        """Run the work of the lease's job by this workload within these limits."""
        self._lease = lease
        self._workload = workload
        self._limits = limits
        self._until = monotonic() + limits.seconds + _LATER_SECONDS
        self._before = ""
        # A job has its limits once, so its pieces of work go one after the other.
        self._turn = asyncio.Lock()
        self._placement: Placement | None = None

    @property
    def job_id(self) -> JobId:
        """The id of the job."""
        return self._lease.job_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._lease.attempt

    @property
    def cores(self) -> int:
        """The cores that this job may use."""
        return self._limits.cores

    async def report(self, stage: str, fraction: float) -> None:
        """Say what is being done and how far the whole job is."""
        await self._lease.report(stage, fraction)

    async def run(
        self, function: Callable[[A, Progress], R], task: A, progress: Progress | None = None
    ) -> R:
        """Run a function as this job's work; see `handler.Steps`."""
        call = call_of(function, task)
        async with self._turn:
            await self._lease.bounded(self._workload.enforcement)
            left = self._until - monotonic()
            limits = Limits(self._limits.cores, self._limits.memory_mib, left)
            placement = await self._workload.start(Order(self._lease.job_id, call, limits))
            self._placement = placement
            try:
                answer = await self._workload.outcome(placement, progress)
            finally:
                await self.listen()
                self._placement = None
                self._before = self._lease.output
        return result_of(function, answer)

    async def listen(self) -> None:
        """Take the end of what the work has printed into the lease, which writes it."""
        if self._placement is not None:
            printed = self._before + await self._workload.tail(self._placement)
            self._lease.output = text_of(printed.encode())
