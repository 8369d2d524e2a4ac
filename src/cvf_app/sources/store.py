"""Sources, their data files and their subjects in MongoDB.

A source is one document, so that one `update_one` switches everything that answers depend on
(`generation`, `folder`, `shares`, `capability`, `recordCount`, `mappings`, `declarations`).
`runner` names the attempt that may switch; a switch by any other changes nothing. Maps whose keys
come from data are kept as compressed JSON, since keys of documents may not hold everything; so
are declarations, which may be many. Subjects stand in batches (`<share>/<n>`), each with the marks
of their ids; a share is announced in `shares` before its first batch is written, so that clean-up
finds what a crash left.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cvf_app.backends.mongo import Collection, Document, Index, Mongo
from cvf_app.errors import Conflict
from cvf_app.ids import SourceId
from cvf_app.metrics import heavy_connections
from cvf_app.sources.batches import Batch
from cvf_app.sources.model import (
    Contents,
    DataFileId,
    Declarations,
    EavIndex,
    InternalSource,
    KeptFile,
    Share,
)
from cvf_app.wire import convert, decode, encode, plain

SOURCES = "sources"
DATA_FILES = "data_files"
SHARES = "shares"
BATCHES = "subject_batches"
INDICES: dict[str, tuple[Index, ...]] = {
    SOURCES: (Index((("sourceName", 1),), unique=True),),
    DATA_FILES: (Index((("sourceId", 1),)),),
    SHARES: (Index((("sourceId", 1),)),),
    BATCHES: (Index((("share", 1),)),),
}
_DETAILS = ("sourceName", "displayName", "sourceDescription", "owner", "ownerEmail", "online")
_LIVE = {"deleted": False}


class SourceStore:
    """The collections of sources, data files, shares and batches of subjects."""

    def __init__(self, mongo: Mongo, heavy: Mongo | None = None, most: int = 4) -> None:
        """Keep them in this database; work with batches has at most so many connections of `heavy`.

        Quick requests have connections of their own and never wait for batches.
        """
        self._all = {name: mongo.collection(name) for name in INDICES}
        self._all[BATCHES] = (heavy or mongo).collection(BATCHES)
        self._gate = asyncio.Semaphore(most)

    async def prepare(self) -> None:
        """Make the indices; when the database is new."""
        for name, indices in INDICES.items():
            await self._all[name].create_indices(indices)

    @property
    def _sources(self) -> Collection:
        return self._all[SOURCES]

    # Sources

    async def insert(self, source: InternalSource) -> None:
        """Keep a new source.

        Raises:
            Conflict: its name or id is taken.
        """
        empty = {**plain_contents(Contents()), "mappings": _packed({}), "names": _packed({})}
        ours = {**empty, "names_version": 0, "runner": None, "jobId": None, "deleted": False}
        await self._sources.insert({**_details(source), **ours, "_id": source.source_id})

    async def change(self, source_id: SourceId, details: Document) -> None:
        """Change published details of a source.

        Raises:
            Conflict: its new name is taken.
        """
        await self._sources.update_one({"_id": source_id, **_LIVE}, {"$set": details})

    async def find(self, source_id: SourceId) -> tuple[InternalSource, Contents] | None:
        """Return a source with its contents, or nothing."""
        found = await self._sources.find_one({"_id": source_id, **_LIVE}, _OUTLINE)
        return None if found is None else _read(found)

    async def find_all(
        self, among: tuple[SourceId, ...] | None
    ) -> tuple[tuple[InternalSource, Contents], ...]:
        """Return all sources, or those among some, by name."""
        where: Document = dict(_LIVE)
        if among is not None:
            where["_id"] = {"$in": list(among)}
        found = await self._sources.find(where, sort=[("sourceName", 1)], fields=_OUTLINE)
        return tuple(_read(each) for each in found)

    async def known(self, ids: tuple[SourceId, ...]) -> frozenset[SourceId]:
        """Return those of some ids that are sources."""
        found = await self._sources.find({"_id": {"$in": list(ids)}, **_LIVE}, fields={"_id": 1})
        return frozenset(SourceId(each["_id"]) for each in found)

    async def job_of(self, source_id: SourceId) -> str | None:
        """Return the id of the last job of a source."""
        found = await self._sources.find_one({"_id": source_id}, {"jobId": 1})
        return None if found is None else found.get("jobId")

    async def set_job(self, source_id: SourceId, job_id: str) -> None:
        """Write down which job works on a source."""
        await self._sources.update_one({"_id": source_id}, {"$set": {"jobId": job_id}})

    async def bury(self, source_id: SourceId) -> bool:
        """Take a source out of sight and free its name; say whether it was in sight."""
        where = {"_id": source_id, **_LIVE}
        gone = {"deleted": True, "runner": None, "sourceName": f"/{source_id}"}
        return bool(await self._sources.update_one(where, {"$set": gone}, hides=True))

    async def buried(self) -> tuple[SourceId, ...]:
        """Return sources whose deletion is not finished."""
        found = await self._sources.find({"deleted": True}, fields={"_id": 1})
        return tuple(SourceId(each["_id"]) for each in found)

    async def remove(self, source_id: SourceId) -> None:
        """Remove a buried source's document."""
        await self._sources.delete_one({"_id": source_id, "deleted": True})

    # The index of attributes

    async def mappings(
        self, source_id: SourceId
    ) -> tuple[dict[str, tuple[str, ...]], EavIndex, int]:
        """Return the values of a source's attributes, their names and the names' version."""
        fields = {"mappings": 1, "names": 1, "names_version": 1}
        found = await self._sources.find_one({"_id": source_id, **_LIVE}, fields)
        if found is None:
            return {}, EavIndex(), 0
        values = decode(zlib.decompress(found["mappings"]), dict[str, tuple[str, ...]])
        names = decode(zlib.decompress(found["names"]), EavIndex)
        return values, names, int(found["names_version"])

    async def set_names(self, source_id: SourceId, names: EavIndex, version: int) -> bool:
        """Keep display names if nobody else changed them since this version."""
        change = {"$set": {"names": _packed(plain(names)), "names_version": version + 1}}
        return bool(
            await self._sources.update_one({"_id": source_id, "names_version": version}, change)
        )

    async def declarations(self, source_id: SourceId) -> Declarations:
        """Return the declared attributes of a source."""
        found = await self._sources.find_one({"_id": source_id, **_LIVE}, {"declarations": 1})
        # A source from before there were declarations has none.
        if found is None or found.get("declarations") is None:
            return Declarations()
        return decode(zlib.decompress(found["declarations"]), Declarations)

    async def declare(self, source_id: SourceId, runner: str, new: Declarations) -> bool:
        """Declare attributes that every stored value fits already, if this attempt may."""
        where = {"_id": source_id, **_LIVE, "runner": runner}
        change = {"$set": {"declarations": _packed(plain(new)), "runner": None}}
        return bool(await self._sources.update_one(where, change))

    # Runs

    async def claim(self, source_id: SourceId, runner: str | None) -> bool:
        """Let one attempt, or none, switch this source from now on."""
        where = {"_id": source_id, **_LIVE, "runner": {"$ne": runner}}
        return bool(await self._sources.update_one(where, {"$set": {"runner": runner}}))

    async def state(self, source_id: SourceId) -> tuple[str | None, Contents] | None:
        """Return which attempt may switch a source and what it holds; nothing when it is gone."""
        found = await self._sources.find_one({"_id": source_id, **_LIVE}, _OUTLINE)
        return None if found is None else (found["runner"], _read(found)[1])

    async def switch(  # noqa: PLR0913 - everything that changes in this one step
        self,
        source_id: SourceId,
        runner: str,
        old_generation: int,
        contents: Contents,
        mappings: dict[str, tuple[str, ...]],
        *,
        declarations: Declarations | None = None,
    ) -> bool:
        """Let the source answer from new contents, if this attempt may and nothing changed."""
        where = {"_id": source_id, **_LIVE, "runner": runner, "generation": old_generation}
        new = {**plain_contents(contents), "mappings": _packed(mappings), "runner": None}
        if declarations is not None:
            new["declarations"] = _packed(plain(declarations))
        return bool(await self._sources.update_one(where, {"$set": new}))

    # Data files

    async def put_file(self, file: KeptFile) -> None:
        """Keep a data file; keeping it twice is the same."""
        packed = {
            "_id": file.data_file_id,
            "sourceId": file.source_id,
            "deleted": file.deleted,
            "file": encode(file),
        }
        await self._all[DATA_FILES].replace(
            {"_id": file.data_file_id}, packed, upsert=True, hides=file.deleted
        )

    async def find_file(self, data_file_id: DataFileId) -> KeptFile | None:
        """Return a data file, or nothing."""
        found = await self._all[DATA_FILES].find_one({"_id": data_file_id})
        return None if found is None else decode(found["file"], KeptFile)

    async def files_of(self, source_id: SourceId | None) -> tuple[KeptFile, ...]:
        """Return the data files of one source, or of all."""
        where = {} if source_id is None else {"sourceId": source_id}
        found = await self._all[DATA_FILES].find(where, sort=[("_id", 1)])
        return tuple(decode(each["file"], KeptFile) for each in found)

    async def remove_file(self, data_file_id: DataFileId) -> None:
        """Remove a data file's document."""
        await self._all[DATA_FILES].delete_one({"_id": data_file_id})

    # Subjects

    async def announce(self, source_id: SourceId, share: str) -> None:
        """Write down that batches of a share are about to be written."""
        await self._all[SHARES].replace(
            {"_id": share}, {"_id": share, "sourceId": source_id}, upsert=True
        )

    async def put_batch(self, share: str, number: int, batch: Batch) -> None:
        """Keep a batch of subjects; keeping it twice is the same."""
        name = f"{share}/{number}"
        document = {"_id": name, "share": share, "marks": batch.marks, "data": batch.data}
        async with self._heavy() as batches:
            await batches.replace({"_id": name}, document, upsert=True)

    async def marks(self, share: str) -> AsyncIterator[tuple[int, bytes | None]]:
        """Yield the number of each batch of a share with the marks of its subjects, if kept."""
        fields = {"marks": 1}
        async with self._heavy() as batches:
            async for found in batches.stream({"share": share}, fields=fields):
                marks = found.get("marks")
                yield int(found["_id"].rpartition("/")[2]), None if marks is None else bytes(marks)

    async def batch(self, share: str, number: int) -> bytes:
        """Return a batch of subjects.

        Raises:
            Conflict: it is gone, as when the source was deleted meanwhile.
        """
        async with self._heavy() as batches:
            found = await batches.find_one({"_id": f"{share}/{number}"})
        if found is None:
            raise Conflict("The subjects of this source were removed meanwhile.")
        return bytes(found["data"])

    async def announced(self, source_id: SourceId | None) -> tuple[tuple[SourceId, str], ...]:
        """Return the shares of one source, or of all, that may have batches."""
        where = {} if source_id is None else {"sourceId": source_id}
        found = await self._all[SHARES].find(where)
        return tuple((SourceId(each["sourceId"]), str(each["_id"])) for each in found)

    async def remove_share(self, share: str) -> None:
        """Remove a share: its batches first, then its name, so that a crash leaves the name."""
        async with self._heavy() as batches:
            await batches.delete_many({"share": share})
        await self._all[SHARES].delete_one({"_id": share})

    @asynccontextmanager
    async def _heavy(self) -> AsyncIterator[Collection]:
        """Give the batches once a connection for heavy work is free."""
        async with self._gate:
            with heavy_connections.track_inprogress():
                yield self._all[BATCHES]


def plain_contents(contents: Contents) -> Document:
    """Write contents as the fields of a source's document, every one of them."""
    return {
        "generation": contents.generation,
        "folder": contents.folder,
        "shares": [_share(share) for share in contents.shares],
        "capability": plain(contents.capability),
        "recordCount": contents.record_count,
    }


_OUTLINE = {"mappings": 0, "names": 0, "declarations": 0}


def _share(share: Share) -> Document:
    written: Document = plain(share)
    return written


def _details(source: InternalSource) -> Document:
    written = plain(source)
    return {name: written.get(name, "") for name in _DETAILS}


def _read(found: Document) -> tuple[InternalSource, Contents]:
    details = {name: found[name] for name in _DETAILS}
    source = convert(
        {"sourceType": "internal", "sourceId": found["_id"], **details}, InternalSource
    )
    names = ("generation", "folder", "shares", "capability", "recordCount")
    return source, convert({name: found[name] for name in names}, Contents)


def _packed(value: Any) -> bytes:  # noqa: ANN401 - anything that JSON can hold
    return zlib.compress(encode(value))
