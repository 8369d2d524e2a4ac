"""The nightly look for what does not agree: documents, files, keys, indices and jobs.

Promises: it changes nothing; each kind that is found is one alarm that names it, with the first
few by id and never by a name that could tell of a person. What another process is changing in the
same moment is looked at again before it counts as found. One process does it each night, and
another one goes on where that dies.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

import structlog

from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.errors import NotFound, Unavailable
from cvf_app.files.model import FileId
from cvf_app.ids import SourceId
from cvf_app.jobs.model import JobId
from cvf_app.jobs.service import Jobs
from cvf_app.sources.model import Contents, DataFileId
from cvf_app.sources.service import Sources
from cvf_app.upkeep.model import Disorder, Finding
from cvf_app.upkeep.store import UpkeepStore
from cvf_app.users.alerts import Alerts
from cvf_app.users.service import Users

FROM_HOUR = 2
MOST_EXAMPLES = 10
_LEASE = timedelta(hours=1)
STUCK_AFTER = timedelta(days=1)
ABANDONED_AFTER = timedelta(minutes=15)
log = structlog.get_logger("cv3.upkeep")


class Inspection:
    """Looks for inconsistency."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is another thing to look at
        self,
        store: UpkeepStore,
        users: Users,
        keys: KeyStore,
        sources: Sources,
        jobs: Jobs,
        alerts: Alerts,
        clock: Clock,
    ) -> None:
        """Look at these, and tell through `alerts`."""
        self._store = store
        self._users = users
        self._keys = keys
        self._sources = sources
        self._jobs = jobs
        self._alerts = alerts
        self._clock = clock

    async def nightly(self) -> None:
        """Inspect once a day, after two o'clock (UTC); called again and again."""
        now = self._clock()
        day = now.date().isoformat()
        until = (now + _LEASE).timestamp()
        if now.hour < FROM_HOUR or not await self._store.begin(day, now.timestamp(), until):
            return
        await self.run()
        await self._store.end(day)

    async def run(self) -> tuple[Finding, ...]:
        """Look at everything now, tell the administrators, and return what was found.

        Raises:
            Unavailable: the database or the key store does not answer.
        """
        looks: dict[Disorder, Callable[[], Awaitable[Collection[str]]]] = {
            Disorder.FILES_MISSING: self._files_missing,
            Disorder.FILES_OF_NOBODY: self._files_of_nobody,
            Disorder.USERS_WITHOUT_KEYS: self._users.without_keys,
            Disorder.KEYS_WITHOUT_USERS: self._keys_without_users,
            Disorder.COUNTS_DISAGREE: self._counts_disagree,
            Disorder.JOBS_STUCK: self._jobs_stuck,
        }
        findings = []
        for disorder, look in looks.items():
            if found := sorted(await look()):
                findings.append(
                    Finding(
                        kind=disorder.value,
                        explanation=disorder.explanation,
                        count=len(found),
                        examples=tuple(found[:MOST_EXAMPLES]),
                    )
                )
                await self._tell(disorder, found)
        log.info("inspected", findings={each.kind: each.count for each in findings})
        return tuple(findings)

    async def _tell(self, disorder: Disorder, found: list[str]) -> None:
        facts = {
            "explanation": f"{disorder.explanation} How many: {len(found)}.",
            "details": "\n".join(found[:MOST_EXAMPLES]),
            "advice": disorder.advice,
        }
        await self._alerts.raise_alarm(f"inspection: {disorder.value}", facts)

    async def _files_missing(self) -> set[str]:
        await self._sources.files.sweep()
        gone = await self._sources.files.missing(await self._data_files())
        # A data file that was deleted while we looked is gone as it should be.
        return set(gone & set(await self._data_files())) if gone else set()

    async def _data_files(self) -> tuple[FileId, ...]:
        files = await self._sources.store.files_of(None)
        return tuple(FileId(file.data_file_id) for file in files if not file.deleted)

    async def _files_of_nobody(self) -> set[str]:
        files, store = self._sources.files, self._sources.store
        held = [(file_id, SourceId(name)) for file_id, name in await files.held("source")]
        held += [(FileId(file.data_file_id), file.source_id) for file in await store.files_of(None)]
        working = await files.held("job")
        # Asked for after the files: a source is there before its files, and goes after them.
        known = {source.source_id for source, _ in await store.find_all(None)}
        known |= set(await store.buried())
        found = {file_id for file_id, source_id in held if source_id not in known}
        found |= {file_id for file_id, job_id in working if await self._is_over(JobId(job_id))}
        return {file_id for file_id in found if await self._is_there(file_id)}

    async def _is_there(self, file_id: FileId) -> bool:
        if await self._sources.files.find(file_id) is not None:
            return True
        return await self._sources.store.find_file(DataFileId(file_id)) is not None

    async def _keys_without_users(self) -> tuple[str, ...]:
        """Return a word for each such key: a key store does not tell whose it is."""
        more = min([await self._more_keys() for _ in range(2)])
        return tuple(f"key {number + 1}" for number in range(more))

    async def _more_keys(self) -> int:
        there = await self._keys.count_user_keys()
        return 0 if there is None else max(0, there - await self._users.count_with_keys())

    async def _counts_disagree(self) -> set[str]:
        return {
            source.source_id
            for source, contents in await self._sources.store.find_all(None)
            if await self._disagrees(source.source_id, contents)
        }

    async def _disagrees(self, source_id: SourceId, contents: Contents) -> bool:
        try:
            generation = await self._sources.open_generation(source_id)
        except Unavailable as fault:
            # It is being built anew, which that call began.
            log.info("index_missing", source_id=source_id, reason=fault.sentence)
            return False
        wrong = (0 if generation is None else generation.count) != contents.record_count
        for share in contents.shares:
            batches = [number async for number, _ in self._sources.store.marks(share.share)]
            wrong = wrong or len(batches) < share.batches
        again = await self._sources.store.state(source_id)
        return wrong and again is not None and again[1] == contents

    async def _jobs_stuck(self) -> tuple[str, ...]:
        now = self._clock()
        return await self._jobs.stuck(now - STUCK_AFTER, now - ABANDONED_AFTER)

    async def _is_over(self, job_id: JobId) -> bool:
        try:
            return (await self._jobs.get(job_id)).state.ended
        except NotFound:
            return True
