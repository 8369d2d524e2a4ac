"""Upload tokens and files in MongoDB; tokens are kept as digests only."""

from cvf_app.backends.mongo import Collection, Index
from cvf_app.files.model import FileId, StoredFile, UploadGrant
from cvf_app.wire import convert, plain

TOKEN_INDICES = (Index((("expiresAt", 1),)),)
FILE_INDICES = (Index((("sha256", 1),)),)


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

    async def put(self, file: StoredFile) -> None:
        """Keep a file's document; keeping it twice is the same."""
        document = {name: value for name, value in plain(file).items() if name != "fileId"}
        await self._files.replace(
            {"_id": file.file_id}, {**document, "_id": file.file_id}, upsert=True
        )

    async def find(self, file_id: FileId) -> StoredFile | None:
        """Return a file, or nothing."""
        found = await self._files.find_one({"_id": file_id})
        if found is None:
            return None
        return convert({"fileId": found.pop("_id"), **found}, StoredFile)

    async def remove(self, file_id: FileId) -> None:
        """Remove a file's document."""
        await self._files.delete_one({"_id": file_id})

    async def uses(self, sha256: str) -> int:
        """Return how many files have this content."""
        return await self._files.count({"sha256": sha256})
