"""Dry runs: the first subjects and the report of a data file, before anything is kept of it.

Promises: only the head of the file is read, in a child process that has little time; nothing is
written. Who may not know of a data file or a pipeline learns nothing of it.
"""

import asyncio
from typing import TypeVar

import msgspec

from cvf_app.child import ChildExited, ChildKilled
from cvf_app.errors import Conflict, Invalid, NotFound, Unavailable
from cvf_app.files.formats import TABLES
from cvf_app.ids import SourceId
from cvf_app.loops import in_process
from cvf_app.pipelines.check import check
from cvf_app.pipelines.model import FilePipeline, PipelineId, RemapPipeline
from cvf_app.pipelines.preview import Preview, preview
from cvf_app.pipelines.service import Pipelines
from cvf_app.pipelines.take_in import Reading
from cvf_app.sources.model import DataFileId, KeptFile
from cvf_app.sources.service import Sources
from cvf_app.wire import Wire

P = TypeVar("P", FilePipeline, RemapPipeline)
USUAL_ROWS = 1000
MOST_ROWS = 10_000
SECONDS = 20.0
AT_ONCE = 2
_NOTHING = RemapPipeline(pipeline_name="none", directives=())


class DryRunRequest(Wire, frozen=True, kw_only=True):
    """Which file to try, by which pipelines: kept ones, or as they stand here."""

    data_file_id: DataFileId = msgspec.field(name="dataFileID")
    pipeline_id: PipelineId | None = msgspec.field(name="pipelineID", default=None)
    file_pipeline: FilePipeline | None = None
    remap_pipeline_id: PipelineId | None = msgspec.field(name="remapPipelineID", default=None)
    remap_pipeline: RemapPipeline | None = None
    rows: int = USUAL_ROWS


class DryRuns:
    """Tries pipelines on data files."""

    def __init__(self, sources: Sources, pipelines: Pipelines) -> None:
        """Try these pipelines on the files of these sources, a few at a time."""
        self._sources = sources
        self._pipelines = pipelines
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def run(self, source_id: SourceId, asked: DryRunRequest) -> Preview:
        """Return what the head of a data file would give.

        Raises:
            NotFound: there is no such source. Invalid: the file or a pipeline does not fit.
            Conflict: no file pipeline is named, and the file was never ingested by one.
            TimedOut: it took too long. Unavailable: it needed more than there is.
        """
        file = await self._file(source_id, asked.data_file_id)
        if not 1 <= asked.rows <= MOST_ROWS:
            raise Invalid(f"From 1 to {MOST_ROWS} rows are read.", path="$.rows")
        file_pipeline = await self._chosen(
            FilePipeline, asked.pipeline_id, asked.file_pipeline, ("pipelineID", "filePipeline")
        )
        remap_pipeline = await self._chosen(
            RemapPipeline,
            asked.remap_pipeline_id,
            asked.remap_pipeline,
            ("remapPipelineID", "remapPipeline"),
        )
        if file.file_format in TABLES:
            file_pipeline = file_pipeline or file.file_pipeline
            remap_pipeline = remap_pipeline or _NOTHING
            if file_pipeline is None:
                raise Conflict(
                    "This data file was never ingested: name a file pipeline.", path="$.pipelineID"
                )
        declared = await self._sources.store.declarations(source_id)
        task = Reading(
            path=str(self._sources.content(file)),
            file_format=file.file_format,
            filename=file.filename,
            source_id=source_id,
            target="",
            file_pipeline=file_pipeline,
            remap_pipeline=remap_pipeline,
            attributes=declared.attributes,
            mismatch=declared.on_mismatch,
            rows=asked.rows,
        )
        async with self._turn:
            try:
                return await in_process(preview, task, seconds=SECONDS)
            except (ChildKilled, ChildExited) as fault:
                raise Unavailable("The dry run needed more memory than there is.") from fault

    async def _file(self, source_id: SourceId, data_file_id: DataFileId) -> KeptFile:
        await self._sources.require(source_id)
        try:
            file = await self._sources.get_file(data_file_id)
        except NotFound:
            file = None
        if file is None or file.source_id != source_id:
            raise Invalid("This source has no such data file.", path="$.dataFileID")
        return file

    async def _chosen(
        self, kind: type[P], kept: PipelineId | None, given: P | None, names: tuple[str, str]
    ) -> P | None:
        """Return the pipeline that is named or given; not both can be."""
        by_id, inline = names
        if given is not None:
            if kept is not None:
                raise Invalid(f"Either `{by_id}` or `{inline}` is given.", path=f"$.{inline}")
            try:
                return check(given)
            except Invalid as fault:
                where = (fault.path or "$").removeprefix("$")
                raise Invalid(fault.sentence, path=f"$.{inline}{where}") from fault
        if kept is None:
            return None
        try:
            found = await self._pipelines.get(kept)
        except NotFound as fault:
            raise Invalid("There is no such pipeline.", path=f"$.{by_id}") from fault
        if not isinstance(found, kind):
            raise Invalid("This is a pipeline of the other kind.", path=f"$.{by_id}")
        return found
