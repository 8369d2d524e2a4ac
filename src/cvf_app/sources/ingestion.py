"""Data in: the runs that bring a source from one generation to the next, and what undoes them.

Promises: until the one switch of the source's document the old data answers, whole; a run that
fails, is cancelled or dies leaves nothing behind once it is undone or the next one begins. Every
attempt has a name of its own, which stands in the names of all that it writes and in the source's
document; an attempt that was superseded cannot switch. At most one job works on a source.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cvf_app.errors import Conflict, Invalid, NotFound
from cvf_app.files.formats import TABLES
from cvf_app.files.place import room
from cvf_app.ids import SourceId, new_id
from cvf_app.jobs.handler import Steps
from cvf_app.loops import in_process, in_thread
from cvf_app.pipelines.model import FilePipeline, RemapPipeline
from cvf_app.pipelines.service import Pipelines
from cvf_app.pipelines.take_in import Reading, Report, take_in
from cvf_app.sources.batches import add, cut
from cvf_app.sources.building import Building, Built, build_generation
from cvf_app.sources.index import capability_of
from cvf_app.sources.model import Contents, DataFileId, Ingest, KeptFile, Reindex, Remap, Share
from cvf_app.sources.sample import columns_of
from cvf_app.sources.service import RETIRED_SECONDS, Sources
from cvf_app.wire import plain

T = TypeVar("T")
Progress = Callable[[float], None]
STAGES = ("reading", "keeping", "gathering", "building", "switching", "clearing")
"""The stages of a run, in order; a kill in any of them is tested."""
MOST_REFUSALS = 100
# An ingest reads a whole table to find its faults, and keeps no cell of it.
_NOTHING = RemapPipeline(pipeline_name="none", directives=())
_READ, _KEPT, _GATHERED, _BUILT = 0.45, 0.55, 0.62, 0.95
_WATCH_SECONDS = 0.5
_GONE = "The source was deleted or changed meanwhile; nothing of this run was kept."


@dataclass(frozen=True)
class Run:
    """One attempt at one job of a source."""

    source_id: SourceId
    name: str
    work: Path
    steps: Steps


class Ingestion:
    """The handlers of the jobs that change what a source holds."""

    def __init__(self, sources: Sources, pipelines: Pipelines) -> None:
        """Change these sources by these pipelines."""
        self._sources = sources
        self._store = sources.store
        self._place = sources.files.place
        self._pipelines = pipelines

    async def ingest(self, job: Ingest, steps: Steps) -> dict[str, Any]:
        """Read data files: phenopackets become subjects, tables are checked and recorded."""
        run = await self._begin(job.source_id, steps)
        pipeline = await self._file_pipeline(job)
        files = [await self._sources.get_file(each) for each in job.data_file_ids]
        reports: list[tuple[KeptFile, Report]] = []
        shares: list[tuple[Share, Path]] = []
        for number, file in enumerate(files):
            table = file.file_format in TABLES
            used = pipeline if table else None
            mapping = _NOTHING if table else None
            report, target = await self._read(run, file, used, mapping, (number, len(files)))
            reports.append((file, report))
            if table:
                await self._record(file, pipeline)
            else:
                shares.append(await self._keep(run, file, target))
        if shares:
            await self._renew(run, shares)
            await self._name(run, reports)
        await self._end(run)
        return _result(reports)

    async def remap(self, job: Remap, steps: Steps) -> dict[str, Any]:
        """Turn recorded tables into subjects by a remap pipeline."""
        run = await self._begin(job.source_id, steps)
        pipeline = await self._pipelines.get(job.pipeline_id)
        if not isinstance(pipeline, RemapPipeline):
            raise Invalid("A remap needs a remap pipeline.", path="$.pipelineID")
        files = [await self._sources.get_file(each) for each in job.data_file_ids]
        reports: list[tuple[KeptFile, Report]] = []
        shares: list[tuple[Share, Path]] = []
        for number, file in enumerate(files):
            place = (number, len(files))
            report, target = await self._read(run, file, file.file_pipeline, pipeline, place)
            reports.append((file, report))
            shares.append(await self._keep(run, file, target))
        await self._renew(run, shares)
        await self._name(run, reports)
        await self._end(run)
        return _result(reports)

    async def reindex(self, job: Reindex, steps: Steps) -> dict[str, Any]:
        """Build a new generation from the stored subjects."""
        run = await self._begin(job.source_id, steps)
        count = await self._renew(run, [])
        await self._end(run)
        return {"subjects": count}

    async def undo(self, job: Ingest | Remap | Reindex) -> None:
        """Remove what unfinished attempts at a source left; what answers is not touched."""
        await self._store.claim(job.source_id, None)
        await self.tidy(job.source_id)

    async def tidy(self, source_id: SourceId, runner: str | None = None) -> None:
        """Remove all that does not answer, unless an attempt other than `runner` is at work."""
        # Listed before the document is read: what a newer run writes is not in the list.
        shares = [share for _, share in await self._store.announced(source_id)]
        segments = self._sources.segments_folder(source_id)
        folders = await in_thread(_folders, segments)
        works = await in_thread(_folders, self._sources.work_folder(source_id))
        state = await self._store.state(source_id)
        working, contents = state if state is not None else (None, Contents())
        if working is not None and working != runner:
            return
        live = {share.share for share in contents.shares}
        for share in shares:
            if share not in live:
                await self._store.remove_share(share)
        for folder in (*folders, *works):
            if folder.parent != segments or (
                folder.name != contents.folder and await in_thread(_over, folder)
            ):
                await in_thread(self._place.clear, folder)
        used = {share.data_file_id for share in contents.shares}
        for file in await self._store.files_of(source_id):
            if file.deleted and file.data_file_id not in used:
                await self._sources.remove_file(file)

    async def _begin(self, source_id: SourceId, steps: Steps) -> Run:
        """Become the one attempt that may switch, and clear away what earlier ones left."""
        name = new_id()
        if not await self._store.claim(source_id, name):
            raise NotFound("The source of this job was deleted.")
        await self.tidy(source_id, name)
        work = self._sources.work_folder(source_id) / name
        with room():
            await in_thread(work.mkdir, parents=True, exist_ok=True)
        return Run(source_id, name, work, steps)

    async def _end(self, run: Run) -> None:
        await run.steps.report("clearing", _BUILT + 0.02)
        await self._store.claim(run.source_id, None)
        await self.tidy(run.source_id)

    async def _file_pipeline(self, job: Ingest) -> FilePipeline | None:
        if job.pipeline_id is None:
            return None
        pipeline = await self._pipelines.get(job.pipeline_id)
        if not isinstance(pipeline, FilePipeline):
            raise Invalid("An ingest needs a file pipeline.", path="$.pipelineID")
        return pipeline

    async def _read(
        self,
        run: Run,
        file: KeptFile,
        file_pipeline: FilePipeline | None,
        remap_pipeline: RemapPipeline | None,
        place: tuple[int, int],
    ) -> tuple[Report, Path]:
        target = run.work / f"{file.data_file_id}.subjects"
        reading = Reading(
            path=str(self._sources.content(file)),
            file_format=file.file_format,
            filename=file.filename,
            source_id=run.source_id,
            file_pipeline=file_pipeline,
            remap_pipeline=remap_pipeline,
            target=str(target),
        )
        number, many = place
        span = (_READ * number / many, _READ * (number + 1) / many)
        report = await _watched(run.steps, "reading", span, partial(in_process, take_in, reading))
        return report, target

    async def _record(self, file: KeptFile, pipeline: FilePipeline | None) -> None:
        columns = await in_thread(
            columns_of, self._sources.content(file), file.file_format, pipeline
        )
        fresh = await self._sources.get_file(file.data_file_id)
        await self._store.put_file(
            msgspec.structs.replace(fresh, file_pipeline=pipeline, columns=columns)
        )

    async def _keep(self, run: Run, file: KeptFile, target: Path) -> tuple[Share, Path]:
        """Write a file's subjects to the database as a share that does not answer yet."""
        share = f"{run.source_id}/{file.data_file_id}/{run.name}"
        await self._store.announce(run.source_id, share)
        await run.steps.report("keeping", _READ)
        subjects = batches = 0
        cutting = cut(target)
        while (batch := await in_thread(next, cutting, None)) is not None:
            subjects += batch[0]
            await self._store.put_batch(share, batches, batch[1])
            batches += 1
            await run.steps.report("keeping", _READ + (_KEPT - _READ) * batches / (batches + 20))
        kept = Share(
            share=share, data_file_id=file.data_file_id, subjects=subjects, batches=batches
        )
        return kept, target

    async def _renew(self, run: Run, new: list[tuple[Share, Path]]) -> int:
        """Build the next generation from the shares that stay and the new ones; switch to it."""
        _, old = await self._sources.require(run.source_id)
        replaced = {share.data_file_id for share, _ in new}
        alive = {
            file.data_file_id
            for file in await self._store.files_of(run.source_id)
            if not file.deleted
        }
        staying = [
            share
            for share in old.shares
            if share.data_file_id in alive and share.data_file_id not in replaced
        ]
        inputs = [await self._gather(run, share, number) for number, share in enumerate(staying)]
        shares = (*staying, *(share for share, _ in new if share.data_file_id in alive))
        inputs += [path for share, path in new if share.data_file_id in alive]
        folder = f"{old.generation + 1}-{run.name[:8]}" if shares else None
        built = Built(count=0, capability=(), attributes={})
        if folder is not None:
            built = await self._build(run, inputs, sum(share.subjects for share in shares), folder)
        await run.steps.report("switching", _BUILT)
        contents = Contents(
            generation=old.generation + 1,
            folder=folder,
            shares=shares,
            capability=capability_of(built.capability),
            record_count=built.count,
        )
        if old.folder is not None:
            with room():
                await in_thread(_retire, self._sources.segments_folder(run.source_id) / old.folder)
        switched = await self._store.switch(
            run.source_id, run.name, old.generation, contents, built.attributes
        )
        if not switched:
            raise Conflict(_GONE)
        return built.count

    async def _name(self, run: Run, reports: list[tuple[KeptFile, Report]]) -> None:
        """Show attributes whose keys had to be changed as they are written in the file."""
        for _, report in reports:
            if report.display_names:
                await self._sources.suggest_names(run.source_id, report.display_names)

    async def _gather(self, run: Run, share: Share, number: int) -> Path:
        """Write a stored share to a file of subjects."""
        path = run.work / f"{number}.stored"
        with room(), path.open("wb") as file:
            for batch in range(share.batches):
                await run.steps.report(
                    "gathering", _KEPT + (_GATHERED - _KEPT) * batch / share.batches
                )
                await in_thread(add, await self._store.batch(share.share, batch), file)
        return path

    async def _build(self, run: Run, inputs: list[Path], expected: int, folder: str) -> Built:
        task = Building(
            inputs=tuple(str(path) for path in inputs),
            spill=str(run.work / "joined.sqlite"),
            folder=str(self._sources.segments_folder(run.source_id) / folder),
            expected=expected,
        )
        span = (_GATHERED, _BUILT)
        return await _watched(
            run.steps, "building", span, partial(in_process, build_generation, task)
        )


async def _watched(
    steps: Steps,
    stage: str,
    span: tuple[float, float],
    begin: Callable[[Progress], Coroutine[Any, Any, T]],
) -> T:
    """Do something that tells its progress, and report it as a part of the whole job."""
    done = 0.0

    def told(share: float) -> None:
        nonlocal done
        done = share

    await steps.report(stage, span[0])
    work = asyncio.ensure_future(begin(told))  # house: awaited below, whatever happens
    try:
        while not (await asyncio.wait({work}, timeout=_WATCH_SECONDS))[0]:
            await steps.report(stage, span[0] + (span[1] - span[0]) * done)
        return work.result()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _retire(folder: Path) -> None:
    """Mark a generation's folder as replaced: for a while somebody may still open it."""
    if folder.is_dir():
        (folder / "retired").touch()


def _over(folder: Path) -> bool:
    """Say whether nobody opens a folder any more: it never answered, or not for a while."""
    try:
        return (folder / "retired").stat().st_mtime < time.time() - RETIRED_SECONDS
    except FileNotFoundError:
        return True


def _result(reports: list[tuple[KeptFile, Report]]) -> dict[str, Any]:
    """Return what a run found, for the job: totals, and the first refusals of all files."""
    unmatched: dict[str, int] = {}
    refusals: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    for file, report in reports:
        for name, count in report.unmatched.items():
            unmatched[name] = unmatched.get(name, 0) + count
        refusals += [{**plain(each), "filename": file.filename} for each in report.refusals]
        counts = {"rows": report.rows, "subjects": report.subjects, "refused": report.refused}
        files.append({"dataFileId": file.data_file_id, "filename": file.filename, **counts})
    totals = {name: sum(each[name] for each in files) for name in ("rows", "subjects", "refused")}
    return {**totals, "refusals": refusals[:MOST_REFUSALS], "unmatched": unmatched, "files": files}


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
