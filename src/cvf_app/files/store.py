"""Upload tokens and files in MongoDB; tokens are kept as digests only.

Beside what `StoredFile` shows, a document has `holders`: who needs the file, as `source/<id>` or
`job/<id>`. A file that is held is removed by its holder alone.
"""

from collections.abc import AsyncIterator

from cvf_app.backends.mongo import Collection, Document, Index
from cvf_app.files.model import FileId, StoredFile, UploadGrant
from cvf_app.wire import convert, plain

TOKEN_INDICES = (Index((("expiresAt", 1),)),)
FILE_INDICES = (
    Index((("sha256", 1),)),
    Index((("user", 1),)),
    Index((("expiresAt", 1),)),
)
_NOBODY: list[str] = []


class FileStore:
    """The collections of upload tokens and of files."""

    def __init__(self, tokens: Collection, files: Collection) -> None:
        """Keep them in these collections."""
        self._tokens = tokens
        self._files = files

    async def prepare(self) -> None:
        """Make the indices; when the database is new."""
        await self._tokens.create_indices(TOKEN_INDICES)
        await self._files.create_indices(FILE_INDICES)

    async def add_token(self, digest: str, grant: UploadGrant) -> None:
        """Keep a token under its digest."""
        await self._tokens.insert({**plain(grant), "_id": digest})

    async def find_token(self, digest: str) -> UploadGrant | None:
        """Return what a token allows, or nothing."""
        found = await self._tokens.find_one({"_id": digest}, {"_id": 0})
        return None if found is None else convert(found, UploadGrant)

    async def forget_tokens(self, before: int) -> None:
        """Remove tokens that expired before this moment."""
        await self._tokens.delete_many({"expiresAt": {"$lt": before}})

    async def put(self, file: StoredFile, holders: tuple[str, ...]) -> None:
        """Keep a file's document; keeping it twice is the same."""
        ours = ("fileId", "reserved")
        document = {name: value for name, value in plain(file).items() if name not in ours}
        await self._files.replace(
            {"_id": file.file_id},
            {**document, "_id": file.file_id, "holders": list(holders)},
            upsert=True,
        )

    async def find(self, file_id: FileId) -> StoredFile | None:
        """Return a file, or nothing."""
        found = await self._files.find_one({"_id": file_id})
        return None if found is None else _read(found)

    async def page(self, user: str | None, limit: int, skip: int) -> tuple[StoredFile, ...]:
        """Return the newest files first, of one person or of everybody."""
        where = {} if user is None else {"user": user}
        order = [("uploadedAt", -1), ("_id", 1)]
        found = await self._files.find(where, sort=order, limit=limit, skip=skip)
        return tuple(_read(each) for each in found)

    async def everything(self) -> AsyncIterator[StoredFile]:
        """Yield all files, for a sweep."""
        async for each in self._files.stream({}):
            yield _read(each)

    async def with_content(self, sha256: str) -> tuple[StoredFile, ...]:
        """Return the files with this content."""
        return tuple(_read(each) for each in await self._files.find({"sha256": sha256}))

    async def missing(self, ids: tuple[FileId, ...]) -> frozenset[FileId]:
        """Return those of some files that have no document or whose content is gone."""
        where = {"_id": {"$in": list(ids)}, "ready": True}
        there = await self._files.find(where, fields={"_id": 1})
        return frozenset(ids) - {FileId(each["_id"]) for each in there}

    async def overdue(self, now: int) -> tuple[StoredFile, ...]:
        """Return the files whose time is over and that nobody holds."""
        where = {"expiresAt": {"$lte": now, "$gt": 0}, "holders": _NOBODY}
        return tuple(_read(each) for each in await self._files.find(where))

    async def held(self, kind: str) -> tuple[tuple[FileId, str], ...]:
        """Return the files held by holders of a kind (`source`), each with the holder's id."""
        found = await self._files.find({"holders": {"$ne": _NOBODY}}, fields={"holders": 1})
        return tuple(
            (FileId(each["_id"]), name)
            for each in found
            for begins, _, name in (holder.partition("/") for holder in each["holders"])
            if begins == kind
        )

    async def hold(self, file_id: FileId, holder: str) -> bool:
        """Let somebody hold a file; False when there is none or they held it already."""
        change = {"$addToSet": {"holders": holder}}
        return bool(await self._files.update_one({"_id": file_id}, change))

    async def release(self, file_id: FileId, holder: str) -> None:
        """End what somebody held."""
        await self._files.update_one({"_id": file_id}, {"$pull": {"holders": holder}})

    async def set_ready(self, file_id: FileId, *, ready: bool) -> bool:
        """Write down whether a file's content is there; say whether that is news."""
        where = {"_id": file_id, "ready": not ready}
        return bool(await self._files.update_one(where, {"$set": {"ready": ready}}))

    async def remove(self, file_id: FileId) -> None:
        """Remove a file's document."""
        await self._files.delete_one({"_id": file_id})

    async def remove_free(self, file_id: FileId) -> bool:
        """Remove a file's document if nobody holds it; say whether it was removed."""
        return bool(await self._files.delete_one({"_id": file_id, "holders": _NOBODY}))

    async def uses(self, sha256: str) -> int:
        """Return how many files have this content."""
        return await self._files.count({"sha256": sha256})


def _read(found: Document) -> StoredFile:
    holders = found.pop("holders")
    return convert({"fileId": found.pop("_id"), **found, "reserved": bool(holders)}, StoredFile)
