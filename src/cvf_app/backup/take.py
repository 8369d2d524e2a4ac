"""Taking a backup while the instance runs, in an order that leaves nothing half.

- What refers to other things is copied before what it refers to, since nothing is changed later
  than it is referred to: queries before their answers and those before their details; jobs before
  sources, so that a job that is told to be done has its effect in the copy; users before keys.
- A source is looked at, then its batches, its files with their contents, its folder of segments
  and its reports are copied, then it is looked at again. Everything that a source names stays as
  long as it is named, and never changes. So if it still names the same, the copy is whole, and
  only now it is written down; else what is new is copied too, up to `TRIES` times.
- The key store comes last: keys are added and never replaced, and old versions are retired under
  the same lock only.
- What is in the database and not on the disk is counted: a backup without it is no whole one.
  A source that is being deleted may lack anything; the restored instance ends its deletion.

A change of the schema waits meanwhile, since the lock of the migrations is held. Left out are the
pieces of uploads that are under way, and what belongs to work in progress. Memory stays flat: a
page of documents, a piece of a file, and the digests of what was copied.

The segments of the search engine are copied although they could be built from the subjects: so a
restored instance answers at once.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cvf_app.backends.documents import packed
from cvf_app.backends.mongo import Document, Mongo
from cvf_app.backends.sealed import SealedFolder
from cvf_app.backup import accounts
from cvf_app.backup.records import Manifest, Placed, Writer
from cvf_app.errors import Conflict
from cvf_app.loops import in_thread
from cvf_app.migrations.catalogue import Catalogue
from cvf_app.migrations.model import OWN

DATA, KEYS, ACCOUNTS = "data", "keys", "accounts"
TRIES = 10
ASIDE = "schema_aside"
_PAGE = 200
_TOLD_SECONDS = 2.0
# In this order, and before everything else; see above.
_FIRST = ("jobs", "record_queries", "record_answers", "record_details", "users")
_OF_SOURCES = ("sources", "shares", "subject_batches", "data_files", "files")
_NAMED = ("generation", "folder", "shares", "deleted")
Say = Callable[[str], None]


@dataclass
class _Done:
    """What was copied already."""

    shares: set[str] = field(default_factory=set)
    contents: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


class Taking:
    """One backup being written."""

    def __init__(
        self, mongo: Mongo, data: Path, writer: Writer, say: Say, *, allow_missing: bool = False
    ) -> None:
        """Copy this database and this folder of uploaded files.

        `allow_missing`: what is not on the disk any more is left out.
        """
        self._mongo = mongo
        self._data = data
        self._writer = writer
        self._say = say
        self._allow_missing = allow_missing
        self._lost: set[str] = set()
        self._done = _Done()
        self._count, self._told = 0, time.monotonic()

    async def run(self, keys: Path | None, local: Path | None) -> Manifest:
        """Copy everything and return what it was; the key store of this folder comes last.

        `local`: the folder of a local instance, whose identity provider has the accounts.

        Raises:
            Conflict: a source was changed again and again meanwhile, or files are missing.
        """
        names = sorted(await Catalogue(self._mongo).names() - OWN | {ASIDE})
        for name in (*_FIRST, *(each for each in names if each not in _FIRST)):
            if name in names and name not in _OF_SOURCES:
                await self._collection(name)
        for name in _OF_SOURCES:
            self._writer.collection(name)
        ids = [each["_id"] async for each in self._each("sources", fields={"_id": 1})]
        for number, source_id in enumerate(ids, 1):
            self._say(f"source {number} of {len(ids)}")
            await self._source(source_id)
        await self._other_files()
        self._check_missing()
        if local is not None:
            self._say("accounts")
            with accounts.opened(local) as found:
                for path, content in found:
                    placed = Placed(area=ACCOUNTS, path=path.as_posix())
                    await in_thread(self._writer.file, placed, content)
        if keys is not None:
            self._say("keys")
            await self._key_store(keys)
        return self._writer.close()

    def _check_missing(self) -> None:
        if self._lost and not self._allow_missing:
            raise Conflict(
                f"{len(self._lost)} files or indices that the database names are not in "
                f"{self._data}: is this the right folder (Data.UploadPath), and is it mounted? "
                "What is lost for good is left out with --allow-missing."
            )
        if self._lost:
            self._say(f"left out, since they are missing: {len(self._lost)}")

    async def _collection(self, name: str) -> None:
        self._say(f"collection {name}")
        self._writer.collection(name)
        async for document in self._each(name):
            self._write(name, document)

    async def _source(self, source_id: str) -> None:
        for _ in range(TRIES):
            seen = await self._one("sources", source_id)
            if seen is None:
                return
            await self._batches(source_id, seen)
            data_files = [each async for each in self._each("data_files", {"sourceId": source_id})]
            kept = [await self._one("files", each["_id"]) for each in data_files]
            files = [file for file in kept if file is not None]
            for file in files:
                await self._content(file["sha256"])
            folder = Path("segments", source_id, seen["folder"]) if seen["folder"] else None
            if folder is not None:
                await self._tree(folder)
            again = await self._one("sources", source_id)
            if again is None:
                return
            if all(seen[name] == again[name] for name in _NAMED):
                gone = folder is not None and not (self._data / folder).is_dir()
                if gone and not again["deleted"]:
                    self._lost.add(str(folder))
                await self._write_source(again, data_files, files)
                return
        raise Conflict(
            "A source is being changed all the time, so that no whole copy of it can be made. "
            "Make the backup when its ingests have ended."
        )

    async def _write_source(
        self, source: Document, data_files: list[Document], files: list[Document]
    ) -> None:
        """Write down a source whose copy is whole."""
        self._write("sources", source)
        for data_file in data_files:
            self._write("data_files", data_file)
        for file in files:
            # One that is being deleted loses its files meanwhile: document first, then content.
            if not source["deleted"] or await self._one("files", file["_id"]) is not None:
                self._file(file)
        for report in self._folders(Path("reports", source["_id"])):
            await self._tree(report)

    async def _batches(self, source_id: str, source: Document) -> None:
        for share in (str(each["share"]) for each in source["shares"]):
            if share not in self._done.shares:
                self._done.shares.add(share)
                # Announced as the instance does: what proves useless is cleared up after a restore.
                self._write("shares", {"_id": share, "sourceId": source_id})
                # Named first and fetched one by one: they are large.
                named = await self._mongo.collection("subject_batches").find(
                    {"share": share}, fields={"_id": 1}
                )
                for each in named:
                    batch = await self._one("subject_batches", each["_id"])
                    if batch is not None:
                        self._write("subject_batches", batch)

    async def _other_files(self) -> None:
        async for file in self._each("files"):
            if file["_id"] in self._done.files:
                continue
            await self._content(file["sha256"])
            # Written when it is still there now: its content went by.
            if await self._one("files", file["_id"]) is not None:
                self._file(file)

    def _file(self, file: Document) -> None:
        if file["_id"] not in self._done.files:
            self._done.files.add(file["_id"])
            self._write("files", file)
            if file["ready"] and file["sha256"] not in self._done.contents:
                self._lost.add(str(file["_id"]))

    async def _content(self, sha256: str) -> None:
        if sha256 not in self._done.contents:
            path = Path("files", sha256[:2], sha256)
            with _opened([self._data / path]) as found:
                for _, content in found:
                    self._done.contents.add(sha256)
                    await self._put(path, content)

    async def _tree(self, folder: Path) -> None:
        """Copy a folder that never changes; a part of it that is gone shows in the document."""
        if str(folder) in self._done.folders:
            return
        paths = sorted(each for each in (self._data / folder).rglob("*") if each.is_file())
        # All are opened before any is written: an open file stays when its folder goes.
        with _opened(paths) as found:
            if len(found) == len(paths):
                self._done.folders.add(str(folder))
                for path, content in found:
                    await self._put(path.relative_to(self._data), content)

    def _folders(self, folder: Path) -> list[Path]:
        there = self._data / folder
        found = sorted(there.iterdir()) if there.is_dir() else []
        return [each.relative_to(self._data) for each in found if each.is_dir()]

    async def _key_store(self, folder: Path) -> None:
        with SealedFolder(folder).locked():
            # One after the other: under the lock none goes, and there may be more of them than a
            # process may have open.
            for path in (folder / "master.key", *sorted((folder / "records").iterdir())):
                with path.open("rb") as content:
                    placed = Placed(area=KEYS, path=path.relative_to(folder).as_posix())
                    await in_thread(self._writer.file, placed, content)

    async def _put(self, path: Path, content: BinaryIO) -> None:
        # In a thread: the lock has to be renewed meanwhile.
        await in_thread(self._writer.file, Placed(area=DATA, path=path.as_posix()), content)

    def _write(self, name: str, document: Document) -> None:
        self._writer.document(name, packed(document))
        self._count += 1
        if time.monotonic() - self._told > _TOLD_SECONDS:
            self._say(f"  {self._count} documents so far")
            self._told = time.monotonic()

    async def _one(self, name: str, key: str) -> Document | None:
        return await self._mongo.collection(name).find_one({"_id": key})

    def _each(
        self, name: str, where: Document | None = None, fields: Document | None = None
    ) -> AsyncIterator[Document]:
        """Yield documents in the order in which they are kept: each that stays is seen once.

        No order is asked for: SecantusDB would sort all of them for every page.
        """
        return self._mongo.collection(name).stream(where or {}, fields=fields, batch=_PAGE)


@contextmanager
def _opened(paths: list[Path]) -> Iterator[list[tuple[Path, BinaryIO]]]:
    """Open those of some files that are there."""
    with ExitStack() as stack:
        found: list[tuple[Path, BinaryIO]] = []
        for path in paths:
            try:
                found.append((path, stack.enter_context(path.open("rb"))))
            except FileNotFoundError:
                continue
        yield found
