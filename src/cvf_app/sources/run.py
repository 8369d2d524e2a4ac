"""One attempt at a job of a source: from the claim to the switch to the next generation.

Promises: until `renew` switches the source's document, in one step, the old data answers, whole;
an attempt that fails, is cancelled or dies leaves nothing behind once it is undone or the next one
begins. Every attempt has a name of its own, which stands in the names of all that it writes and in
the source's document; an attempt that was superseded cannot switch. A share that replaces another
of the same data file takes its place among the others, so that subjects merge in the same order.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import msgspec

from cvf_app.engine.append import worn
from cvf_app.engine.marks import among, gathered, unpacked
from cvf_app.engine.segments import Generation
from cvf_app.errors import Conflict, NotFound, Unavailable
from cvf_app.files.place import room, settle
from cvf_app.ids import SourceId, new_id
from cvf_app.jobs.handler import Steps
from cvf_app.loops import in_process, in_thread
from cvf_app.pipelines.model import FilePipeline, RemapPipeline
from cvf_app.pipelines.take_in import Reading, Report, take_in
from cvf_app.sources.batches import Batch, add, cut
from cvf_app.sources.building import Building, Built, build_generation
from cvf_app.sources.change import Change, Fresh
from cvf_app.sources.clearing import retire, tidy
from cvf_app.sources.index import capability_of
from cvf_app.sources.model import (
    Contents,
    DataFileId,
    Declarations,
    IngestReport,
    KeptFile,
    Share,
)
from cvf_app.sources.points import Point, Reached, pass_by
from cvf_app.sources.reports import refusals_of, write_report
from cvf_app.sources.service import Sources
from cvf_app.wire import Wire

A = TypeVar("A", bound=Wire)
R = TypeVar("R", bound=Wire)
T = TypeVar("T")
__all__ = ["Fresh", "Run", "Start"]
Progress = Callable[[float], None]
_READ, _GATHERED, _GROWING, _BUILT, _CLEARED = 0.5, 0.55, 0.75, 0.95, 0.97
_WATCH_SECONDS = 0.5
_IN_FLIGHT = 4
_GONE = "The source was deleted or changed meanwhile; nothing of this run was kept."


@asynccontextmanager
async def _first_fault() -> AsyncIterator[None]:
    """Raise the first fault of a group as itself: the rail knows faults, not groups of them."""
    try:
        yield
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from faults


class Start(Protocol):
    """What runs a pure function of a module outside this process, as `loops.in_process` does."""

    async def __call__(
        self, function: Callable[[A, Progress], R], task: A, progress: Progress | None = None
    ) -> R:
        """Run `function(task, progress)` and return what it returns."""
        ...


class Run:
    """One attempt at one job of a source; made by `begin`."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is one thing that a run has
        self,
        sources: Sources,
        source_id: SourceId,
        name: str,
        steps: Steps,
        start: Start,
        reached: Reached,
    ) -> None:
        """Be an attempt of this name; `begin` claims the source first."""
        self.source_id = source_id
        self.name = name
        self.steps = steps
        self.work = sources.work_folder(source_id) / name
        self.report = self.work / "report"
        self.reached = reached
        self._sources = sources
        self._store = sources.store
        self._start = start

    @classmethod
    async def begin(
        cls,
        sources: Sources,
        source_id: SourceId,
        steps: Steps,
        *,
        start: Start = in_process,
        reached: Reached = pass_by,
    ) -> Self:
        """Become the one attempt that may switch, and clear away what earlier ones left.

        Raises:
            NotFound: the source was deleted.
        """
        run = cls(sources, source_id, new_id(), steps, start, reached)
        if not await sources.store.claim(source_id, run.name):
            raise NotFound("The source of this job was deleted.")
        reached(Point.CLAIMED)
        await tidy(sources, source_id, run.name, reached)
        with room():
            await in_thread(run.report.mkdir, parents=True, exist_ok=True)
        reached(Point.BEGUN)
        return run

    async def read(
        self,
        file: KeptFile,
        file_pipeline: FilePipeline | None,
        remap_pipeline: RemapPipeline | None,
        place: tuple[int, int] = (0, 1),
    ) -> tuple[Report, Fresh]:
        """Turn a data file into a file of subjects; `place` is its number among how many.

        Raises:
            Invalid: the content is not what it should be, or the pipelines do not fit.
        """
        target = self.work / f"{file.data_file_id}.subjects"
        number, many = place
        declared = await self._store.declarations(self.source_id)
        reading = Reading(
            path=str(self._sources.content(file)),
            file_format=file.file_format,
            filename=file.filename,
            source_id=self.source_id,
            file_pipeline=file_pipeline,
            remap_pipeline=remap_pipeline,
            target=str(target),
            refusals=str(refusals_of(self.report, number)),
            cores=self.steps.cores,
            attributes=declared.attributes,
            mismatch=declared.on_mismatch,
        )
        span = (_READ * number / many, _READ * (number + 1) / many)
        report = await self.compute("reading", span, take_in, reading)
        self.reached(Point.READ)
        return report, Fresh(file.data_file_id, target, report.subjects)

    async def gather(self, share: Share, only: Sequence[int] | None = None) -> Path:
        """Write a stored share, or some of its batches, to a file: a JSON document a line."""
        path = self.work / f"{share.data_file_id}.stored"
        with room(), path.open("wb") as file:
            for batch in range(share.batches) if only is None else only:
                await in_thread(add, await self._store.batch(share.share, batch), file)
        self.reached(Point.GATHERED)
        return path

    async def keep(self, fresh: Fresh, told: Progress | None = None) -> Share:
        """Write subjects to the database as a share that does not answer yet."""
        share = f"{self.source_id}/{fresh.data_file_id}/{self.name}"
        await self._store.announce(self.source_id, share)
        self.reached(Point.ANNOUNCED)
        slots = asyncio.Semaphore(_IN_FLIGHT)
        cutting = cut(fresh.path)
        subjects = batches = 0

        async def put(number: int, batch: Batch) -> None:
            try:
                await self._store.put_batch(share, number, batch)
            finally:
                slots.release()
            self.reached(Point.BATCH_KEPT)

        async with _first_fault(), asyncio.TaskGroup() as group:
            while (batch := await in_thread(next, cutting, None)) is not None:
                await slots.acquire()
                group.create_task(put(batches, batch))
                subjects += batch.subjects
                batches += 1
                if told is not None:
                    told(min(1.0, subjects / max(1, fresh.subjects)))
        self.reached(Point.KEPT)
        return Share(
            share=share, data_file_id=fresh.data_file_id, subjects=subjects, batches=batches
        )

    async def compute(
        self, stage: str, span: tuple[float, float], function: Callable[[A, Progress], R], task: A
    ) -> R:
        """Run a pure function of a module outside this process, as one stage of the job."""
        return await self.watched(stage, span, lambda told: self._start(function, task, told))

    async def renew(self, fresh: Sequence[Fresh], declarations: Declarations | None = None) -> int:
        """Build the next generation with the fresh subjects and switch to it; return its count.

        What a source has of the same data files is replaced; files deleted meanwhile drop out.
        New declarations become valid with that switch.

        Raises:
            Conflict: the source was deleted or changed meanwhile.
        """
        _, old = await self._sources.require(self.source_id)
        alive = {
            file.data_file_id
            for file in await self._store.files_of(self.source_id)
            if not file.deleted
        }
        change = Change.of(old, fresh, alive)
        await self.steps.report("gathering", _READ)
        grown = await self._grow(change) if await self._is_small(change) else None
        shares, built = grown or await self._build_anew(change)
        await self.steps.report("switching", _BUILT)
        contents = Contents(
            generation=old.generation + 1,
            folder=change.folder(self.name),
            shares=tuple(shares[each] for each in change.order),
            capability=capability_of(built.capability),
            record_count=built.count,
        )
        if old.folder is not None:
            with room():
                await in_thread(retire, self._sources.segments_folder(self.source_id) / old.folder)
            self.reached(Point.RETIRED)
        if not await self._store.switch(
            self.source_id,
            self.name,
            old.generation,
            contents,
            built.attributes,
            declarations=declarations,
        ):
            raise Conflict(_GONE)
        self.reached(Point.SWITCHED)
        return built.count

    async def tell(self, report: IngestReport) -> None:
        """Keep the report of what was read, with all refusals, in place of one of this job."""
        folder = self._sources.reports_folder(self.source_id) / self.steps.job_id
        await in_thread(write_report, self.report, report)
        await in_thread(self._sources.files.workspace.clear, folder)
        await in_thread(settle, self.report, folder)
        self.reached(Point.REPORTED)

    async def end(self) -> None:
        """Let go of the source and remove what does not answer any more."""
        await self.steps.report("clearing", _CLEARED)
        await self._store.claim(self.source_id, None)
        self.reached(Point.RELEASED)
        await tidy(self._sources, self.source_id, reached=self.reached)
        self.reached(Point.CLEARED)

    async def watched(
        self,
        stage: str,
        span: tuple[float, float],
        begin: Callable[[Progress], Coroutine[Any, Any, T]],
    ) -> T:
        """Do something that tells its progress, and report it as a part of the whole job."""
        done = 0.0

        def told(share: float) -> None:
            nonlocal done
            done = share

        await self.steps.report(stage, span[0])
        work = asyncio.ensure_future(begin(told))  # house: awaited below, whatever happens
        try:
            while not (await asyncio.wait({work}, timeout=_WATCH_SECONDS))[0]:
                await self.steps.report(stage, span[0] + (span[1] - span[0]) * done)
            return work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _is_small(self, change: Change) -> bool:
        """Say whether the old generation is here, fit to grow, and mostly stays."""
        folder = change.old.folder
        if folder is None or not change.is_small:
            return False
        segments = self._sources.segments_folder(self.source_id)
        return await in_thread(_can_grow, segments / folder)

    async def _grow(self, change: Change) -> tuple[dict[DataFileId, Share], Built] | None:
        """Let the old generation grow by what is touched; nothing where the marks are missing."""
        parts: list[bytes] = []
        for share in change.gone:
            async for _, marks in self._store.marks(share.share):
                if marks is None:
                    return None
                parts.append(marks)
        shares = dict(change.staying)
        fresh = list(change.fresh.values())
        await self.watched(
            "building", (_GATHERED, _GROWING), partial(self._keep_all, fresh, shares)
        )
        for each in change.fresh:
            async for _, marks in self._store.marks(shares[each].share):
                parts.append(marks or b"")
        touched = gathered(parts)
        file = self.work / "touched.marks"
        with room():
            await in_thread(file.write_bytes, touched.tobytes())
        inputs: list[Path] = []
        for each in change.order:
            if each in change.fresh:
                inputs.append(change.fresh[each].path)
                continue
            only = [
                number
                async for number, marks in self._store.marks(shares[each].share)
                if marks is None or among(unpacked(marks), touched).any()
            ]
            if only:
                inputs.append(await self.gather(shares[each], sorted(only)))
        task = msgspec.structs.replace(
            self._building(change, inputs, len(touched)),
            old=str(self._sources.segments_folder(self.source_id) / str(change.old.folder)),
            touched=str(file),
        )
        built = await self.watched("building", (_GROWING, _BUILT), partial(self._build, task))
        return shares, built

    async def _build_anew(self, change: Change) -> tuple[dict[DataFileId, Share], Built]:
        """Keep fresh subjects and build segments at the same time: both only read the files."""
        shares = dict(change.staying)
        if not change.order:
            return shares, Built(count=0, capability=(), attributes={})
        inputs = [
            change.fresh[each].path
            if each in change.fresh
            else await self.gather(change.staying[each])
            for each in change.order
        ]
        task = self._building(change, inputs, change.expected)
        fresh = list(change.fresh.values())

        async def both(told: Progress) -> Built:
            kept = done = 0.0

            def tell_kept(share: float) -> None:
                nonlocal kept
                kept = share
                told(min(kept, done))

            def tell_done(share: float) -> None:
                nonlocal done
                done = share
                told(min(kept, done) if fresh else done)

            async with _first_fault(), asyncio.TaskGroup() as group:
                group.create_task(self._keep_all(fresh, shares, tell_kept))
                building = group.create_task(self._build(task, tell_done))
            return building.result()

        return shares, await self.watched("building", (_GATHERED, _BUILT), both)

    async def _keep_all(
        self, fresh: list[Fresh], shares: dict[DataFileId, Share], told: Progress
    ) -> None:
        for number, each in enumerate(fresh):

            def tell(share: float, before: int = number) -> None:
                told((before + share) / len(fresh))

            shares[each.data_file_id] = await self.keep(each, tell)

    async def _build(self, task: Building, told: Progress) -> Built:
        built = await self._start(build_generation, task, told)
        self.reached(Point.BUILT)
        return built

    def _building(self, change: Change, inputs: list[Path], expected: int) -> Building:
        segments = self._sources.segments_folder(self.source_id)
        return Building(
            inputs=tuple(str(path) for path in inputs),
            spill=str(self.work / "joined.sqlite"),
            folder=str(segments / str(change.folder(self.name))),
            expected=expected,
        )


def _can_grow(folder: Path) -> bool:
    try:
        generation = Generation.open(folder)
    except Unavailable:
        return False
    fit = not worn(generation)
    generation.close()
    return fit
