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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from cvf_app.errors import Conflict, NotFound
from cvf_app.files.place import room
from cvf_app.ids import SourceId, new_id
from cvf_app.jobs.handler import Steps
from cvf_app.loops import in_process, in_thread
from cvf_app.pipelines.model import FilePipeline, RemapPipeline
from cvf_app.pipelines.take_in import Reading, Report, take_in
from cvf_app.sources.batches import add, cut
from cvf_app.sources.building import Building, Built, build_generation
from cvf_app.sources.clearing import retire, tidy
from cvf_app.sources.index import capability_of
from cvf_app.sources.model import Contents, DataFileId, KeptFile, Share
from cvf_app.sources.points import Point, Reached, pass_by
from cvf_app.sources.service import Sources
from cvf_app.wire import Wire

A = TypeVar("A", bound=Wire)
R = TypeVar("R", bound=Wire)
T = TypeVar("T")
Progress = Callable[[float], None]
_READ, _GATHERED, _BUILT, _CLEARED = 0.5, 0.55, 0.95, 0.97
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


@dataclass(frozen=True)
class Fresh:
    """Subjects of a data file that are to take the place of what the source has of it."""

    data_file_id: DataFileId
    path: Path
    subjects: int


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
            await in_thread(run.work.mkdir, parents=True, exist_ok=True)
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
        reading = Reading(
            path=str(self._sources.content(file)),
            file_format=file.file_format,
            filename=file.filename,
            source_id=self.source_id,
            file_pipeline=file_pipeline,
            remap_pipeline=remap_pipeline,
            target=str(target),
        )
        number, many = place
        span = (_READ * number / many, _READ * (number + 1) / many)
        report = await self.watched(
            "reading", span, lambda told: self._start(take_in, reading, told)
        )
        self.reached(Point.READ)
        return report, Fresh(file.data_file_id, target, report.subjects)

    async def gather(self, share: Share) -> Path:
        """Write a stored share to a file of subjects, one JSON document a line."""
        path = self.work / f"{share.data_file_id}.stored"
        with room(), path.open("wb") as file:
            for batch in range(share.batches):
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

        async def put(number: int, data: bytes) -> None:
            try:
                await self._store.put_batch(share, number, data)
            finally:
                slots.release()
            self.reached(Point.BATCH_KEPT)

        async with _first_fault(), asyncio.TaskGroup() as group:
            while (batch := await in_thread(next, cutting, None)) is not None:
                await slots.acquire()
                group.create_task(put(batches, batch[1]))
                subjects += batch[0]
                batches += 1
                if told is not None:
                    told(min(1.0, subjects / max(1, fresh.subjects)))
        self.reached(Point.KEPT)
        return Share(
            share=share, data_file_id=fresh.data_file_id, subjects=subjects, batches=batches
        )

    async def renew(self, fresh: Sequence[Fresh]) -> int:
        """Build the next generation with the fresh subjects and switch to it; return its count.

        What a source has of the same data files is replaced; files deleted meanwhile drop out.

        Raises:
            Conflict: the source was deleted or changed meanwhile.
        """
        _, old = await self._sources.require(self.source_id)
        alive = {
            file.data_file_id
            for file in await self._store.files_of(self.source_id)
            if not file.deleted
        }
        new = {each.data_file_id: each for each in fresh if each.data_file_id in alive}
        before = {share.data_file_id: share for share in old.shares if share.data_file_id in alive}
        order = list(dict.fromkeys((*before, *new)))
        await self.steps.report("gathering", _READ)
        inputs = [
            new[each].path if each in new else await self.gather(before[each]) for each in order
        ]
        folder = f"{old.generation + 1}-{self.name[:8]}" if order else None
        expected = sum((new.get(each) or before[each]).subjects for each in order)
        kept, built = await self._keep_and_build(list(new.values()), inputs, expected, folder)
        await self.steps.report("switching", _BUILT)
        contents = Contents(
            generation=old.generation + 1,
            folder=folder,
            shares=tuple(kept.get(each) or before[each] for each in order),
            capability=capability_of(built.capability),
            record_count=built.count,
        )
        if old.folder is not None:
            with room():
                await in_thread(retire, self._sources.segments_folder(self.source_id) / old.folder)
            self.reached(Point.RETIRED)
        if not await self._store.switch(
            self.source_id, self.name, old.generation, contents, built.attributes
        ):
            raise Conflict(_GONE)
        self.reached(Point.SWITCHED)
        return built.count

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

    async def _keep_and_build(
        self, fresh: list[Fresh], inputs: list[Path], expected: int, folder: str | None
    ) -> tuple[dict[DataFileId, Share], Built]:
        """Keep fresh subjects and build segments at the same time: both only read the files."""
        shares: dict[DataFileId, Share] = {}
        built = Built(count=0, capability=(), attributes={})
        parts: dict[str, float] = dict.fromkeys(
            ("build", *(each.data_file_id for each in fresh)), 0.0
        )

        async def keep(tell: Callable[[str, float], None]) -> None:
            for each in fresh:
                name = each.data_file_id
                shares[name] = await self.keep(each, partial(tell, name))

        async def build(tell: Callable[[str, float], None]) -> None:
            nonlocal built
            if folder is None:
                return
            task = Building(
                inputs=tuple(str(path) for path in inputs),
                spill=str(self.work / "joined.sqlite"),
                folder=str(self._sources.segments_folder(self.source_id) / folder),
                expected=expected,
            )
            built = await self._start(build_generation, task, partial(tell, "build"))
            self.reached(Point.BUILT)

        async def both(told: Progress) -> None:
            def tell(part: str, share: float) -> None:
                parts[part] = share
                told(sum(parts.values()) / len(parts))

            async with _first_fault(), asyncio.TaskGroup() as group:
                group.create_task(keep(tell))
                group.create_task(build(tell))

        await self.watched("building", (_GATHERED, _BUILT), both)
        return shares, built
