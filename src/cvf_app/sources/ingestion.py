"""Data in: what each job of a source does, as steps of a `Run`, and what undoes it.

At most one job works on a source. What a run promises stands in `run.py`.
"""

from typing import Any

import msgspec

from cvf_app.errors import Invalid
from cvf_app.files.formats import TABLES
from cvf_app.ids import SourceId
from cvf_app.jobs.handler import Steps
from cvf_app.loops import in_thread
from cvf_app.pipelines.model import FilePipeline, PipelineId, RemapPipeline
from cvf_app.pipelines.service import Pipelines
from cvf_app.pipelines.take_in import Report
from cvf_app.sources.clearing import tidy
from cvf_app.sources.model import DataFileId, Ingest, KeptFile, Reindex, Remap
from cvf_app.sources.points import Point, Reached, pass_by
from cvf_app.sources.reports import report_of
from cvf_app.sources.run import Fresh, Run
from cvf_app.sources.sample import columns_of
from cvf_app.sources.service import Sources
from cvf_app.wire import plain

MOST_REFUSALS = 100
_COUNTS = ("rows", "subjects", "refused", "flagged")
# An ingest reads a whole table to find its faults, and keeps no cell of it.
_NOTHING = RemapPipeline(pipeline_name="none", directives=())


class Ingestion:
    """The handlers of the jobs that change what a source holds."""

    def __init__(self, sources: Sources, pipelines: Pipelines, reached: Reached = pass_by) -> None:
        """Change these sources by these pipelines; every point of a run is told to `reached`."""
        self._sources = sources
        self._store = sources.store
        self._pipelines = pipelines
        self._reached = reached

    @property
    def sources(self) -> Sources:
        """The sources that it changes."""
        return self._sources

    async def begin(self, source_id: SourceId, steps: Steps) -> Run:
        """Begin an attempt at a job of a source.

        Raises:
            NotFound: the source was deleted.
        """
        return await Run.begin(
            self._sources, source_id, steps, start=steps.run, reached=self._reached
        )

    async def ingest(self, job: Ingest, steps: Steps) -> dict[str, Any]:
        """Read data files: phenopackets become subjects, tables are checked and recorded.

        With a remap pipeline tables become subjects too.
        """
        run = await self.begin(job.source_id, steps)
        pipeline = await self._file_pipeline(job)
        by = job.remap_pipeline_id
        remapping = None if by is None else await self._remap_pipeline(by)
        files = [await self._sources.get_file(each) for each in job.data_file_ids]
        reports: list[tuple[KeptFile, Report]] = []
        fresh: list[Fresh] = []
        for number, file in enumerate(files):
            table = file.file_format in TABLES
            used = pipeline if table else None
            mapping = (remapping or _NOTHING) if table else None
            report, subjects = await run.read(file, used, mapping, (number, len(files)))
            reports.append((file, report))
            if table:
                await self._record(file, pipeline)
                run.reached(Point.RECORDED)
            if not table or remapping is not None:
                fresh.append(subjects)
        if fresh:
            await run.renew(fresh)
            await self._name(run, reports)
        return await self._end(run, reports)

    async def remap(self, job: Remap, steps: Steps) -> dict[str, Any]:
        """Turn recorded tables into subjects by a remap pipeline."""
        run = await self.begin(job.source_id, steps)
        pipeline = await self._remap_pipeline(job.pipeline_id)
        files = [await self._sources.get_file(each) for each in job.data_file_ids]
        reports: list[tuple[KeptFile, Report]] = []
        fresh: list[Fresh] = []
        for number, file in enumerate(files):
            place = (number, len(files))
            report, subjects = await run.read(file, file.file_pipeline, pipeline, place)
            reports.append((file, report))
            fresh.append(subjects)
        await run.renew(fresh)
        await self._name(run, reports)
        return await self._end(run, reports)

    async def reindex(self, job: Reindex, steps: Steps) -> dict[str, Any]:
        """Build a new generation from the stored subjects."""
        run = await self.begin(job.source_id, steps)
        count = await run.renew(())
        await run.end()
        return {"subjects": count}

    async def undo(self, job: Ingest | Remap | Reindex) -> None:
        """Remove what unfinished attempts at a source left; what answers is not touched."""
        await self._store.claim(job.source_id, None)
        await self.tidy(job.source_id)

    async def tidy(self, source_id: SourceId) -> None:
        """Remove all that does not answer, unless an attempt is at work."""
        await tidy(self._sources, source_id, reached=self._reached)

    async def _file_pipeline(self, job: Ingest) -> FilePipeline | None:
        if job.pipeline_id is None:
            return None
        pipeline = await self._pipelines.get(job.pipeline_id)
        if not isinstance(pipeline, FilePipeline):
            raise Invalid("An ingest needs a file pipeline.", path="$.pipelineID")
        return pipeline

    async def _remap_pipeline(self, pipeline_id: PipelineId) -> RemapPipeline:
        pipeline = await self._pipelines.get(pipeline_id)
        if not isinstance(pipeline, RemapPipeline):
            raise Invalid("A remap needs a remap pipeline.", path="$.pipelineID")
        return pipeline

    async def _record(self, file: KeptFile, pipeline: FilePipeline | None) -> None:
        columns = await in_thread(
            columns_of, self._sources.content(file), file.file_format, pipeline
        )
        fresh = await self._sources.get_file(file.data_file_id)
        await self._store.put_file(
            msgspec.structs.replace(fresh, file_pipeline=pipeline, columns=columns)
        )

    async def _end(self, run: Run, reports: list[tuple[KeptFile, Report]]) -> dict[str, Any]:
        job_id = run.steps.job_id
        await run.tell(report_of(run.source_id, job_id, reports))
        await run.end()
        return {**_result(reports), "report": f"/sources/{run.source_id}/reports/{job_id}"}

    async def _name(self, run: Run, reports: list[tuple[KeptFile, Report]]) -> None:
        """Show attributes whose keys had to be changed as they are written in the file."""
        for _, report in reports:
            if report.display_names:
                await self._sources.suggest_names(run.source_id, report.display_names)
        run.reached(Point.NAMED)


def _result(reports: list[tuple[KeptFile, Report]]) -> dict[str, Any]:
    """Return what a run found, for the job: totals, and the first refusals of all files."""
    unmatched: dict[str, int] = {}
    refusals: list[dict[str, Any]] = []
    flags: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    for file, report in reports:
        for name, count in report.unmatched.items():
            unmatched[name] = unmatched.get(name, 0) + count
        refusals += [{**plain(each), "filename": file.filename} for each in report.refusals]
        flags += [{**plain(each), "filename": file.filename} for each in report.flags]
        counts = {name: getattr(report, name) for name in _COUNTS}
        files.append({"dataFileId": file.data_file_id, "filename": file.filename, **counts})
    totals = {name: sum(each[name] for each in files) for name in _COUNTS}
    told = {"refusals": refusals[:MOST_REFUSALS], "flags": flags[:MOST_REFUSALS]}
    return {**totals, **told, "unmatched": unmatched, "files": files}


def checked_ids(ids: tuple[DataFileId, ...]) -> tuple[DataFileId, ...]:
    """Return the ids of data files that a run is asked for.

    Raises:
        Invalid: there are none, or one stands there twice.
    """
    if not ids:
        raise Invalid("Name at least one data file.", path="$.dataFileIDs")
    for place, each in enumerate(ids):
        if each in ids[:place]:
            raise Invalid("This data file is named twice.", path=f"$.dataFileIDs[{place}]")
    return ids
