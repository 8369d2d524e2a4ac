"""What people ask of a source's contents: each request is checked at once and becomes a job."""

import msgspec

from cvf_app.errors import Conflict, Invalid, NotFound
from cvf_app.files.formats import TABLES
from cvf_app.ids import SourceId, id_of, new_id
from cvf_app.jobs.model import JobDocument, JobId
from cvf_app.jobs.service import Jobs
from cvf_app.jobs.sizes import LARGE, SMALL
from cvf_app.pipelines.model import FilePipeline, Pipeline, PipelineId, RemapPipeline
from cvf_app.pipelines.service import Pipelines
from cvf_app.principal import UserId
from cvf_app.sources.ingestion import Ingestion, checked_ids
from cvf_app.sources.model import (
    DataFileId,
    Ingest,
    IngestRequest,
    KeptFile,
    Reindex,
    Remap,
    RemapRequest,
    Retype,
)
from cvf_app.sources.reports import Reports
from cvf_app.sources.service import SYSTEM, Sources, job_key

# As much as several processes are worth the start of; see `pipelines/take_in.py`.
LARGE_BYTES = 4 * 2**20
LARGE_SUBJECTS = 20_000
_BUSY = "A job is at work on this source already; wait for its end or cancel it."


class Requests:
    """Ingests, remaps, new indices and deletions of data files."""

    def __init__(
        self, sources: Sources, pipelines: Pipelines, jobs: Jobs, ingestion: Ingestion
    ) -> None:
        """Check against the sources and pipelines; give the work to the jobs."""
        self._sources = sources
        self._store = sources.store
        self._pipelines = pipelines
        self._jobs = jobs
        self._ingestion = ingestion
        self.reports = Reports(sources, jobs)

    async def ingest(
        self,
        source_id: SourceId,
        asked: IngestRequest,
        user_id: UserId,
        idempotency: str | None = None,
    ) -> JobDocument:
        """Begin to read data files.

        Raises:
            NotFound: there is no such source. Invalid: a file or pipeline does not fit.
            Conflict: a job is at work on the source.
        """
        files = await self._files(source_id, asked.data_file_ids)
        tables = any(file.file_format in TABLES for file in files)
        if asked.remap_pipeline_id is not None:
            await self._check_remap(asked.remap_pipeline_id, "$.remapPipelineID")
            if not tables:
                raise Invalid(
                    "Only tables are remapped; these files need no remap pipeline.",
                    path="$.remapPipelineID",
                )
        if asked.pipeline_id is not None:
            pipeline = await self._pipeline(asked.pipeline_id, "$.pipelineID")
            if not isinstance(pipeline, FilePipeline):
                raise Invalid(
                    "An ingest needs a file pipeline; this is a remap pipeline.",
                    path="$.pipelineID",
                )
        elif tables:
            raise Invalid(
                "A table needs a file pipeline that says how to read it.", path="$.pipelineID"
            )
        return await self._begin(
            Ingest(
                source_id=source_id,
                pipeline_id=asked.pipeline_id,
                remap_pipeline_id=asked.remap_pipeline_id,
                data_file_ids=asked.data_file_ids,
                request_id=_request_id(user_id, idempotency),
            ),
            user_id,
            idempotency,
        )

    async def remap(
        self,
        source_id: SourceId,
        asked: RemapRequest,
        user_id: UserId,
        idempotency: str | None = None,
    ) -> JobDocument:
        """Begin to turn read data files into subjects.

        Raises:
            NotFound: there is no such source. Invalid: a file or pipeline does not fit.
            Conflict: a job is at work on the source, or a file was never ingested.
        """
        files = await self._files(source_id, asked.data_file_ids)
        await self._check_remap(asked.pipeline_id, "$.pipelineID")
        for place, file in enumerate(files):
            path = f"$.dataFileIDs[{place}]"
            if file.file_format not in TABLES:
                raise Invalid(
                    "Only tables are remapped; an ingest is enough for this file.", path=path
                )
            if file.file_pipeline is None:
                raise Conflict(
                    "This data file was never ingested: ingest it by a file pipeline first.",
                    path=path,
                )
        return await self._begin(
            Remap(
                source_id=source_id,
                pipeline_id=asked.pipeline_id,
                data_file_ids=asked.data_file_ids,
                request_id=_request_id(user_id, idempotency),
            ),
            user_id,
            idempotency,
        )

    async def reindex(
        self, source_id: SourceId, user_id: UserId, idempotency: str | None = None
    ) -> JobDocument:
        """Begin to build a new generation from the stored subjects.

        Raises:
            NotFound: there is no such source. Conflict: a job is at work on it.
        """
        await self._sources.require(source_id)
        job = Reindex(source_id=source_id, request_id=_request_id(user_id, idempotency))
        return await self._begin(job, user_id, idempotency)

    async def retype(self, job: Retype, user_id: UserId) -> JobDocument:
        """Begin to change declared attributes, or to check a change.

        Raises:
            Conflict: a job is at work on the source.
        """
        return await self._begin(job, user_id)

    async def delete_file(self, data_file_id: DataFileId, user_id: UserId) -> JobDocument | None:
        """Delete a data file; a job takes its subjects out of what answers, if it has any.

        Raises:
            NotFound: there is none. Conflict: a job is at work on its source.
        """
        file = await self._sources.get_file(data_file_id)
        if await self._busy(file.source_id):
            raise Conflict(_BUSY)
        _, contents = await self._sources.require(file.source_id)
        if all(share.data_file_id != data_file_id for share in contents.shares):
            await self._sources.remove_file(file)
            return None
        await self._store.put_file(msgspec.structs.replace(file, deleted=True))
        try:
            return await self.reindex(file.source_id, user_id)
        except Conflict:
            await self._store.put_file(file)
            raise

    async def clean_up(self) -> None:
        """Finish what crashes left undone: at every start and now and then; repeatable."""
        await self._sources.files.clean_up()
        await self.reports.clean_up()
        known = {source.source_id for source, _ in await self._store.find_all(None)}
        for source_id in await self._store.buried():
            await self._sources.finish_deletion(source_id)
        there = {source_id for source_id, _ in await self._store.announced(None)}
        for source_id in known | there:
            if not await self._busy(source_id):
                await self._ingestion.tidy(source_id)
        for file in await self._store.files_of(None):
            # Marked, and then we died before its job was there.
            if file.deleted and file.source_id in known:
                job = Reindex(source_id=file.source_id)
                await self._jobs.enqueue(job, SYSTEM, key=job_key(file.source_id))

    async def agree(self) -> None:
        """Bring files, their contents and data files back in step; repeatable."""
        await self._sources.files.sweep()
        await self._sources.agree_files()

    async def _files(
        self, source_id: SourceId, data_file_ids: tuple[DataFileId, ...]
    ) -> list[KeptFile]:
        await self._sources.require(source_id)
        files: list[KeptFile] = []
        for place, each in enumerate(checked_ids(data_file_ids)):
            file = await self._store.find_file(each)
            if file is None or file.deleted or file.source_id != source_id:
                raise Invalid("This source has no such data file.", path=f"$.dataFileIDs[{place}]")
            if await self._sources.is_missing(file):
                raise Conflict(
                    f"The content of {file.filename} is missing: somebody removed it from the "
                    "disk. Upload the file again.",
                    path=f"$.dataFileIDs[{place}]",
                )
            files.append(file)
        return files

    async def _check_remap(self, pipeline_id: PipelineId, path: str) -> None:
        if not isinstance(await self._pipeline(pipeline_id, path), RemapPipeline):
            raise Invalid("A remap needs a remap pipeline; this is a file pipeline.", path=path)

    async def _pipeline(self, pipeline_id: PipelineId, path: str) -> Pipeline:
        try:
            return await self._pipelines.get(pipeline_id)
        except NotFound as fault:
            raise Invalid("There is no such pipeline.", path=path) from fault

    async def _busy(self, source_id: SourceId) -> bool:
        job_id = await self._store.job_of(source_id)
        if job_id is None:
            return False
        try:
            return not (await self._jobs.get(JobId(job_id))).state.ended
        except NotFound:
            return False

    async def _is_large(self, job: Ingest | Remap | Reindex | Retype) -> bool:
        """Say whether a job has much to read."""
        if isinstance(job, Reindex | Retype):
            _, contents = await self._sources.require(job.source_id)
            return contents.record_count > LARGE_SUBJECTS
        files = [await self._sources.get_file(each) for each in job.data_file_ids]
        return sum(file.size for file in files) > LARGE_BYTES

    async def _begin(
        self,
        job: Ingest | Remap | Reindex | Retype,
        user_id: UserId,
        idempotency: str | None = None,
    ) -> JobDocument:
        """Give a job to the rail, unless another is at work on the source."""
        document = await self._jobs.enqueue(
            job,
            user_id,
            key=job_key(job.source_id),
            idempotency=idempotency,
            size=LARGE if await self._is_large(job) else SMALL,
        )
        if document.args.get("requestId") != job.request_id:
            raise Conflict(_BUSY)
        await self._store.set_job(job.source_id, document.job_id)
        return document


def _request_id(user_id: UserId, idempotency: str | None) -> str:
    """Return a new id, or the same one for each request that a user sends with one key."""
    return new_id() if idempotency is None else id_of(user_id, idempotency)
