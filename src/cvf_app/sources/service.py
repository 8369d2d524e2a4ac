"""Sources: the catalogue, who may know what of it, data files, and the generation that answers."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from cvf_app import metrics
from cvf_app.clock import epoch, now
from cvf_app.engine.segments import Generation
from cvf_app.errors import Conflict, Invalid, NotFound, Unavailable
from cvf_app.files.formats import recognise_at
from cvf_app.files.model import FileId, StoredFile
from cvf_app.files.service import Files
from cvf_app.groups.model import Depth
from cvf_app.groups.service import Groups
from cvf_app.ids import SourceId, new_id
from cvf_app.jobs.model import JobId
from cvf_app.jobs.service import Jobs
from cvf_app.loops import in_thread
from cvf_app.networks.service import Networks
from cvf_app.principal import Principal, Role, UserId
from cvf_app.sources.index import eav_index, renamed
from cvf_app.sources.model import (
    Contents,
    DataFile,
    DataFileId,
    EavIndex,
    InternalSource,
    KeptFile,
    NewSource,
    RecordIndex,
    Reindex,
    Source,
    SourceChange,
)
from cvf_app.sources.store import SourceStore
from cvf_app.wire import plain

SYSTEM = UserId("system")
RETIRED_SECONDS = 120
_UNATTACHED_SECONDS = 24 * 3600
_MOST_OPEN = 256
_NAME_TRIES = 5
_STOP_SECONDS = 10.0
_NO_SOURCE = "There is no such source."
_SEE_ALL = (Role.DATA_ADMIN, Role.DEVELOPER)
log = structlog.get_logger("cv3.sources")


def job_key(source_id: SourceId) -> str:
    """Return the key under which at most one job works on a source."""
    return f"source/{source_id}"


class Sources:
    """The sources of this instance."""

    def __init__(
        self, store: SourceStore, files: Files, jobs: Jobs, groups: Groups, networks: Networks
    ) -> None:
        """Keep sources in the store; plain users see them through groups of the own network."""
        self.store = store
        self.files = files
        self._jobs = jobs
        self._groups = groups
        self._networks = networks
        self._open: OrderedDict[SourceId, Generation] = OrderedDict()

    # The catalogue

    async def list_sources(self, asker: Principal) -> tuple[Source, ...]:
        """Return the sources that the asker may know of, each with as much as they may know."""
        if asker.role in _SEE_ALL:
            return tuple([await self._whole(*found) for found in await self.store.find_all(None)])
        depths = await self._depths(asker)
        seen = await self.store.find_all(tuple(depths))
        return tuple(
            _outline(source, contents, depths[source.source_id]) for source, contents in seen
        )

    async def get(self, source_id: SourceId, asker: Principal) -> Source:
        """Return a source with as much as the asker may know.

        Raises:
            NotFound: there is none, or it is not theirs to know of.
        """
        if asker.role in _SEE_ALL:
            return await self._whole(*await self.require(source_id))
        depths = await self._depths(asker)
        found = await self.store.find(source_id) if source_id in depths else None
        if found is None:
            raise NotFound(_NO_SOURCE)
        return _outline(*found, depths[source_id])

    async def views(self, source_id: SourceId) -> Callable[[Principal], Source | None]:
        """Return how a source looks to whom: what `get` would answer each of them.

        Raises:
            NotFound: there is none.
        """
        found = await self.require(source_id)
        whole = await self._whole(*found)
        depths = await self.watchers(source_id)
        outlines = {depth: _outline(*found, depth) for depth in set(depths.values())}

        def view(asker: Principal) -> Source | None:
            if asker.role in _SEE_ALL:
                return whole
            depth = depths.get(asker.user_id)
            return None if depth is None else outlines[depth]

        return view

    async def watchers(self, source_id: SourceId) -> dict[UserId, Depth]:
        """Return the plain users who may know of a source, and how much."""
        return await self._groups.watchers(source_id, (await self._networks.own()).network_id)

    async def show_file(self, data_file_id: DataFileId) -> DataFile:
        """Return a data file as `list_files` shows it.

        Raises:
            NotFound: there is none.
        """
        file = await self.get_file(data_file_id)
        _, contents = await self.require(file.source_id)
        missing = await self.files.missing((FileId(file.data_file_id),))
        return _shown(file, {share.data_file_id for share in contents.shares}, missing)

    async def get_many(self, source_ids: tuple[SourceId, ...]) -> tuple[Source, ...]:
        """Return those of the sources that exist; unknown ids are passed over."""
        return tuple(source for source, _ in await self.store.find_all(source_ids))

    async def require(self, source_id: SourceId) -> tuple[Source, Contents]:
        """Return a source and its contents.

        Raises:
            NotFound: there is none.
        """
        found = await self.store.find(source_id)
        if found is None:
            raise NotFound(_NO_SOURCE)
        return found

    async def create(self, new: NewSource, asker: Principal) -> Source:
        """Make a source.

        Raises:
            Conflict: its name or id is taken. Invalid: its id is no UUID.
        """
        source = InternalSource(
            source_id=_id(new.source_id),
            source_name=new.source_name,
            display_name=new.display_name,
            source_description=new.source_description,
            owner=new.owner,
            owner_email=new.owner_email,
            online=new.online,
        )
        try:
            await self.store.insert(source)
        except Conflict as fault:
            raise Conflict(
                "There is a source with this name or id already.", path="$.sourceName"
            ) from fault
        return await self.get(source.source_id, asker)

    async def update(self, source_id: SourceId, change: SourceChange, asker: Principal) -> Source:
        """Merge changes into a source; its id cannot change.

        Raises:
            NotFound: there is none. Conflict: the new name is taken. Invalid: the id would change.
        """
        await self.require(source_id)
        if change.source_id is not None and change.source_id != source_id:
            raise Invalid("sourceId cannot change.", path="$.sourceId")
        given = plain(msgspec.structs.replace(change, source_id=None, record_index=None))
        details = {name: value for name, value in given.items() if name != "sourceType"}
        if details:
            try:
                await self.store.change(source_id, details)
            except Conflict as fault:
                raise Conflict(
                    "There is a source with this name already.", path="$.sourceName"
                ) from fault
        return await self.get(source_id, asker)

    async def delete(self, source_id: SourceId) -> None:
        """Delete a source with its job, subjects, files, segments and places in groups; repeatable.

        Raises:
            NotFound: there is none.
        """
        if not await self.store.bury(source_id):
            raise NotFound(_NO_SOURCE)
        job_id = await self.store.job_of(source_id)
        if job_id is not None:
            await self._stop(JobId(job_id))
        await self.finish_deletion(source_id)

    async def finish_deletion(self, source_id: SourceId) -> None:
        """Remove everything of a buried source; its own document goes last."""
        await self._groups.forget_source(source_id)
        self._open.pop(source_id, None)
        for _, share in await self.store.announced(source_id):
            await self.store.remove_share(share)
        for file in await self.store.files_of(source_id):
            await self.remove_file(file)
        for kind in (self.segments_folder, self.work_folder, self.reports_folder):
            await in_thread(self.files.workspace.clear, kind(source_id))
        await self.store.remove(source_id)

    # What answers

    async def open_generation(self, source_id: SourceId) -> Generation | None:
        """Return the generation that answers for a source now, or nothing when it is empty.

        It stays readable while somebody holds it, also when the source has switched meanwhile.

        Raises:
            Unavailable: it is not on this machine; building it anew was begun.
        """
        found = await self.store.find(source_id)
        if found is None or found[1].folder is None:
            return None
        folder = self.segments_folder(source_id) / found[1].folder
        held = self._open.get(source_id)
        if held is not None and held.folder == folder:
            self._open.move_to_end(source_id)
            metrics.count_cache("segments", hits=1)
            return held
        metrics.count_cache("segments", misses=1)
        try:
            opened = await in_thread(_opened, folder)
        except Unavailable:
            log.warning("segments_missing", source_id=source_id, folder=str(folder))
            await self._jobs.enqueue(Reindex(source_id=source_id), SYSTEM, key=job_key(source_id))
            raise
        # What is replaced or pushed out is not closed here: somebody may be reading it, and
        # its files are let go with the last reference.
        self._open[source_id] = opened
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return opened

    async def measure(self) -> None:
        """Set the gauges of sources by status and of all their subjects."""
        found = await self.store.find_all(None)
        for online in (True, False):
            count = sum(1 for source, _ in found if source.online is online)
            metrics.sources.labels("online" if online else "offline").set(count)
        metrics.subjects.set(sum(contents.record_count for _, contents in found))

    async def eav_index(self, source_id: SourceId) -> EavIndex:
        """Return a source's attributes and values with their display names.

        Raises:
            NotFound: there is none.
        """
        await self.require(source_id)
        mappings, names, _ = await self.store.mappings(source_id)
        return eav_index(mappings, names)

    async def rename(self, source_id: SourceId, change: EavIndex) -> EavIndex:
        """Change display names of a source's index.

        Raises:
            NotFound: there is none. Invalid: the change names what is not there.
        """
        await self.require(source_id)
        for _ in range(_NAME_TRIES):
            mappings, names, version = await self.store.mappings(source_id)
            new = renamed(eav_index(mappings, names), names, change)
            if await self.store.set_names(source_id, new, version):
                return eav_index(mappings, new)
        raise Conflict("Others are changing these names at the same time; try again.")

    async def suggest_names(self, source_id: SourceId, attributes: dict[str, str]) -> None:
        """Give attributes display names where they have none."""
        for _ in range(_NAME_TRIES):
            _, names, version = await self.store.mappings(source_id)
            both = msgspec.structs.replace(names, attributes={**attributes, **names.attributes})
            if both == names or await self.store.set_names(source_id, both, version):
                return

    # Data files

    async def attach(self, source_id: SourceId, file: StoredFile) -> DataFileId:
        """Make an uploaded file a data file of a source; twice is once."""
        data_file_id = DataFileId(file.file_id)
        if await self.store.find_file(data_file_id) is None:
            kept = KeptFile(
                data_file_id=data_file_id,
                filename=file.name,
                file_format=await in_thread(recognise_at, self.files.path(file.sha256), file.name),
                source_id=source_id,
                size=file.size,
                sha256=file.sha256,
                uploaded_at=file.uploaded_at,
            )
            await self.store.put_file(kept)
        return data_file_id

    async def list_files(self, source_id: SourceId) -> tuple[DataFile, ...]:
        """Return the data files of a source.

        Raises:
            NotFound: there is no such source.
        """
        _, contents = await self.require(source_id)
        live = {share.data_file_id for share in contents.shares}
        kept = await self.store.files_of(source_id)
        missing = await self.files.missing(tuple(FileId(file.data_file_id) for file in kept))
        return tuple(_shown(file, live, missing) for file in kept if not file.deleted)

    async def get_file(self, data_file_id: DataFileId) -> KeptFile:
        """Return a data file.

        Raises:
            NotFound: there is none.
        """
        file = await self.store.find_file(data_file_id)
        if file is None or file.deleted:
            raise NotFound("There is no such data file.")
        return file

    async def remove_file(self, file: KeptFile) -> None:
        """Remove a data file and its content; repeatable."""
        await self.files.delete(FileId(file.data_file_id))
        await self.store.remove_file(file.data_file_id)

    async def is_missing(self, file: KeptFile) -> bool:
        """Say whether the content of a data file is gone, as when it was removed by hand."""
        return bool(await self.files.missing((FileId(file.data_file_id),)))

    async def agree_files(self) -> None:
        """Let go of files that came for a source and never became its data files."""
        for file_id, _ in await self.files.held("source"):
            file = await self.files.find(file_id)
            if file is None or epoch(now()) - file.uploaded_at < _UNATTACHED_SECONDS:
                continue
            if await self.store.find_file(DataFileId(file_id)) is None:
                log.warning("upload_never_attached", file_id=file_id)
                await self.files.delete(file_id)

    async def columns(self) -> tuple[str, ...]:
        """Return the names of all columns of ingested tables."""
        files = await self.store.files_of(None)
        return tuple(
            sorted({column for file in files if not file.deleted for column in file.columns})
        )

    def content(self, file: KeptFile) -> Path:
        """Return where a data file's content stands.

        Raises:
            NotFound: it is gone.
        """
        return self.files.path(file.sha256)

    # Folders

    def segments_folder(self, source_id: SourceId) -> Path:
        """Return where the generations of a source stand."""
        return self.files.workspace.folder("segments", source_id)

    def work_folder(self, source_id: SourceId) -> Path:
        """Return where attempts at a source's jobs keep their temporary files."""
        return self.files.workspace.folder("work", source_id)

    def reports_folder(self, source_id: SourceId) -> Path:
        """Return where the reports of a source's jobs stand."""
        return self.files.workspace.folder("reports", source_id)

    async def _depths(self, asker: Principal) -> dict[SourceId, Depth]:
        own = await self._networks.own()
        return await self._groups.depth_of(asker.user_id, own.network_id)

    async def _stop(self, job_id: JobId) -> None:
        try:
            await self._jobs.cancel(job_id)
            # It gets the time to stop, so that nothing is taken away under its hands.
            async with asyncio.timeout(_STOP_SECONDS):
                async for _ in self._jobs.watch(job_id):
                    pass
        except TimeoutError:
            log.warning("job_slow_to_stop", job_id=job_id)
        except (NotFound, Conflict) as fault:
            log.debug("job_over", job_id=job_id, cause=fault.sentence)

    async def _whole(self, source: InternalSource, contents: Contents) -> Source:
        mappings, names, _ = await self.store.mappings(source.source_id)
        index = RecordIndex(
            capability=contents.capability,
            eav_index=eav_index(mappings, names),
            record_count=contents.record_count,
        )
        return msgspec.structs.replace(source, record_index=index)


def _shown(file: KeptFile, live: set[DataFileId], missing: frozenset[FileId]) -> DataFile:
    return DataFile(
        data_file_id=file.data_file_id,
        filename=file.filename,
        file_format=file.file_format,
        is_processed=file.data_file_id in live,
        source_id=file.source_id,
        size=file.size,
        sha256=file.sha256,
        missing=FileId(file.data_file_id) in missing,
    )


def _outline(source: InternalSource, contents: Contents, depth: Depth) -> Source:
    """Show a source to a plain user: no values, the count only where it may be told."""
    counts = depth.rank >= Depth.COUNT.rank
    index = RecordIndex(
        capability=contents.capability, record_count=contents.record_count if counts else None
    )
    return msgspec.structs.replace(source, record_index=index)


def _opened(folder: Path) -> Generation:
    generation = Generation.open(folder)
    # Mapped now and not at the first question: the folder may be removed in between.
    _ = generation.segments
    return generation


def _id(given: SourceId | None) -> SourceId:
    if given is None:
        return SourceId(new_id())
    try:
        return SourceId(str(UUID(given)))
    except ValueError as fault:
        raise Invalid("A source's id is a UUID.", path="$.sourceId") from fault
