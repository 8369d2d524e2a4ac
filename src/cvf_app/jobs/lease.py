"""The right to run one job for a while: every write of a runner is made under it.

Promises: after the lease went to somebody else no write of the old runner has an effect (each one
names the lease in its filter). The moment of lapse is told by the clocks of the hosts, which may
differ by a few seconds less than `LEASE_SECONDS`.
"""

import asyncio
from typing import Any

from cvf_app.clock import Clock, epoch
from cvf_app.jobs.model import JobDocument, JobFault, JobId, JobState, StatusEntry
from cvf_app.jobs.store import JobStore

LEASE_SECONDS = 8.0
RENEW_SECONDS = 0.75
WRITE_SECONDS = 0.5
NOTABLE = 0.1


class LeaseLost(Exception):
    """Somebody else runs the job now, or nobody does; stop without a word."""


class Lease:
    """One worker's hold on one job."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a claim has found
        self,
        store: JobStore,
        clock: Clock,
        job: JobDocument,
        name: str,
        ending: StatusEntry | None,
        seconds: float = LEASE_SECONDS,
    ) -> None:
        """Hold what `Jobs.claim` has claimed; each renewal is good for so many seconds."""
        self._store = store
        self._clock = clock
        self._name = name
        self.job = job
        self.ending = ending
        self.seconds = seconds
        self.output = ""
        self._output = ""
        self._enforcement = ""
        self._stage = job.stage
        self._fraction = job.progress
        self._written = (self._stage, self._fraction)
        self._noted = (self._stage, self._fraction)
        self._last_write = 0.0

    @property
    def job_id(self) -> JobId:
        """The id of the job."""
        return self.job.job_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.job.attempts

    async def begin(self) -> None:
        """Say that the job runs now.

        Raises:
            LeaseLost: the job is not ours any more.
        """
        entry = self._entry(JobState.RUNNING)
        if not await self._store.begin(self.job.job_id, self._name, entry):
            raise LeaseLost

    async def bounded(self, enforcement: str) -> None:
        """Say how the limits of the job's work are made to hold.

        Raises:
            LeaseLost: the job is not ours any more.
        """
        if enforcement != self._enforcement:
            self._enforcement = enforcement
            await self._note(enforcement=enforcement)

    async def report(self, stage: str, fraction: float) -> None:
        """Say what is being done and how far the job is; written at most twice a second."""
        self._stage = stage
        self._fraction = min(1.0, max(0.0, fraction))
        await asyncio.sleep(0)
        if asyncio.get_running_loop().time() - self._last_write >= WRITE_SECONDS:
            await self.flush()

    async def flush(self) -> None:
        """Write the newest report and output if they have not been written.

        Raises:
            LeaseLost: the job is not ours any more.
        """
        await self._tell_output()
        newest = (self._stage, self._fraction)
        if newest == self._written:
            return
        self._last_write = asyncio.get_running_loop().time()
        noted = newest[0] != self._noted[0] or newest[1] >= self._noted[1] + NOTABLE
        entry = self._entry(JobState.RUNNING) if noted else None
        if not await self._store.progress(self.job.job_id, self._name, *newest, entry):
            raise LeaseLost
        self._written = newest
        if noted:
            self._noted = newest

    async def renew(self, *, heed_cancel: bool) -> bool:
        """Prolong the lease; say False when a cancel was asked for (and is heeded).

        Raises:
            LeaseLost: the job is not ours any more.
        """
        until = self._clock().timestamp() + self.seconds
        if await self._store.renew(self.job.job_id, self._name, until, heed_cancel=heed_cancel):
            return True
        if heed_cancel and await self._store.renew(
            self.job.job_id, self._name, until + 0.001, heed_cancel=False
        ):
            return False
        raise LeaseLost

    async def will_end(self, state: JobState, fault: JobFault | None) -> None:
        """Write down how the job will end, so that whoever takes over only undoes it.

        Raises:
            LeaseLost: the job is not ours any more.
        """
        await self._tell_output()
        self.ending = self._entry(state, stage=self._stage, fault=fault)
        if not await self._store.set_ending(self.job.job_id, self._name, self.ending):
            raise LeaseLost

    async def end(self, entry: StatusEntry | None, result: dict[str, Any] | None = None) -> None:
        """End the job, as complete unless an entry says otherwise.

        Raises:
            LeaseLost: the job is not ours any more.
        """
        await self._tell_output()
        if entry is None:
            self._fraction = 1.0
            entry = self._entry(JobState.COMPLETE, stage="complete")
        if not await self._store.end(self.job.job_id, self._name, entry, result):
            raise LeaseLost

    async def hand_back(self, stage: str, *, seconds: float, counts: bool) -> None:
        """Let the job wait again for so many seconds; an attempt that does not count is given back.

        Raises:
            LeaseLost: the job is not ours any more.
        """
        attempts = self.attempt if counts else self.attempt - 1
        begin = self._clock().timestamp() + seconds
        entry = self._entry(JobState.WAITING, stage=stage)
        if not await self._store.hand_back(self.job.job_id, self._name, attempts, begin, entry):
            raise LeaseLost

    async def _tell_output(self) -> None:
        if self.output != self._output:
            await self._note(output=self.output)
            self._output = self.output

    async def _note(self, **noted: str) -> None:
        if not await self._store.note(self.job.job_id, self._name, **noted):
            raise LeaseLost

    def _entry(
        self, state: JobState, *, stage: str | None = None, fault: JobFault | None = None
    ) -> StatusEntry:
        return StatusEntry(
            state=state,
            stage=self._stage if stage is None else stage,
            progress=self._fraction,
            timestamp=epoch(self._clock()),
            attempt=self.attempt,
            error=fault,
        )
