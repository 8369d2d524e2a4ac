"""Files: upload tokens, chunks coming in, whole files kept and let go.

A file's document is written after its content is on the disk and removed before it, so that a
document never points at nothing because of a crash.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid5

from cvf_app.clock import Clock, epoch
from cvf_app.errors import Conflict, Forbidden, Invalid, NotFound
from cvf_app.files.form import LARGEST_CHUNK, Form, boundary, receive
from cvf_app.files.formats import HEAD, check_head, format_of, label, recognise
from cvf_app.files.model import ChunkLabel, FileId, StoredFile, UploadGrant, UploadState
from cvf_app.files.place import Place
from cvf_app.files.store import FileStore
from cvf_app.files.upload import Upload, read_label, sweep
from cvf_app.loops import in_thread
from cvf_app.principal import UserId

TOKEN_SECONDS = 3600
CHUNK_SIZE = 4 * 2**20
LARGEST_FILE = 64 * 2**30
_NAMESPACE = UUID("5a0f8f0e-6f0b-4d6b-9f0e-2b1f4f4f9c11")


class Files:
    """Every file from outside."""

    def __init__(
        self, store: FileStore, place: Place, clock: Clock, formats: tuple[str, ...]
    ) -> None:
        """Keep documents in the store, contents in the place; `formats` are extensions."""
        self._store = store
        self._clock = clock
        self._formats = formats
        self.place = place

    async def issue_token(self, user_id: UserId, scope: str) -> str:
        """Return a token with which one person may upload into one scope for an hour."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        grant = UploadGrant(
            user_id=user_id,
            scope=scope,
            issued_at=now.timestamp(),
            expires_at=epoch(now) + TOKEN_SECONDS,
        )
        await self._store.add_token(_digest(token), grant)
        return token

    async def check_token(self, token: str, user_id: UserId, scope: str) -> UploadGrant:
        """Return what a token allows.

        Raises:
            Forbidden: it is none, has expired, or was made for another person or scope.
        """
        grant = await self._store.find_token(_digest(token)) if token else None
        if grant is None or grant.user_id != user_id or grant.scope != scope:
            raise Forbidden(
                "This upload needs a token for this source: get one at "
                "/sources/upload-token?sourceId=… and send it as X-Upload-Token."
            )
        if grant.expires_at <= epoch(self._clock()):
            raise Forbidden(
                "The upload token has expired: get a new one; what has arrived is kept."
            )
        return grant

    async def state(self, grant: UploadGrant, identifier: str) -> UploadState:
        """Return which chunks of an upload have arrived."""
        upload = self._upload(grant, identifier)
        chunks = await in_thread(upload.chunks)
        finished = await in_thread(upload.finished)
        return UploadState(
            resumable_identifier=identifier,
            chunks=tuple(chunks),
            chunk_size=CHUNK_SIZE,
            largest_chunk=LARGEST_CHUNK,
            complete=finished is not None,
        )

    async def take_chunk(
        self,
        grant: UploadGrant,
        content_type: str,
        body: AsyncIterator[bytes],
        query: dict[str, str],
    ) -> StoredFile | None:
        """Keep a chunk and return the file when it was the last that was missing.

        Raises:
            Invalid: the form, a field or the file's content is not what it should be.
            Conflict: the chunk was sent before with other content.
            TooLarge: the chunk or the file is larger than we take.
            StorageFull: there is no room; nothing of this chunk is kept.
        """
        mark = boundary(content_type)
        incoming = self._upload(grant, "incoming").temporary()
        try:
            form = await receive(body, mark, incoming)
            chunk = read_label({**query, **form.fields}, form.filename)
            return await self._keep(grant, chunk, form, incoming)
        finally:
            incoming.unlink(missing_ok=True)

    async def get(self, file_id: FileId) -> StoredFile:
        """Return a file.

        Raises:
            NotFound: there is none.
        """
        found = await self._store.find(file_id)
        if found is None:
            raise NotFound("There is no such file.")
        return found

    def path(self, file: StoredFile) -> Path:
        """Return where a file's content stands.

        Raises:
            NotFound: the content is gone.
        """
        return self.place.path(file.sha256)

    async def delete(self, file_id: FileId) -> None:
        """Remove a file, and its content when no other file has the same; twice is once."""
        file = await self._store.find(file_id)
        if file is None:
            return
        await self._store.remove(file_id)
        if await self._store.uses(file.sha256) == 0:
            await in_thread(self.place.remove, file.sha256)

    async def clean_up(self) -> None:
        """Remove expired tokens and abandoned uploads."""
        await self._store.forget_tokens(epoch(self._clock()))
        await in_thread(sweep, self.place)

    def _upload(self, grant: UploadGrant, identifier: str) -> Upload:
        return Upload(self.place, grant.user_id, grant.scope, identifier)

    async def _keep(
        self, grant: UploadGrant, chunk: ChunkLabel, form: Form, incoming: Path
    ) -> StoredFile | None:
        name = label(chunk.filename)
        kind = format_of(name, self._formats)
        upload = self._upload(grant, chunk.identifier)
        done = await in_thread(upload.finished)
        if done is not None:
            there = await self._store.find(FileId(done.file_id))
            if there is not None and grant.issued_at <= done.at:
                if await in_thread(upload.sent, chunk.number, form.sha256):
                    return there
                raise Conflict("This upload is complete; get a new token to send another file.")
            # The same name again, later or after the file was deleted: a new upload.
            await in_thread(upload.forget)
        if chunk.number == 1:
            check_head(await in_thread(_head, incoming), kind, self._formats)
        if not await in_thread(upload.add, incoming, chunk, form.sha256):
            return None

        def check(whole: BinaryIO) -> None:
            recognise(whole, name, self._formats)

        try:
            parts = list((await in_thread(upload.chunks)).values())
            sha256, size = await in_thread(self.place.join, parts, LARGEST_FILE, check)
        except FileNotFoundError as fault:
            # Another process joined the same chunks a moment ago; its answer has the file.
            raise Conflict("This upload is just being completed; ask for its state.") from fault
        except Invalid:
            await in_thread(upload.forget)
            raise
        return await self._complete(grant, upload, name, sha256, size)

    async def _complete(
        self, grant: UploadGrant, upload: Upload, name: str, sha256: str, size: int
    ) -> StoredFile:
        now = self._clock()
        file = StoredFile(
            # The same for two that finish the same upload at once, and after a crash in between.
            file_id=FileId(str(uuid5(_NAMESPACE, f"{upload.key}/{grant.issued_at}/{sha256}"))),
            name=name,
            size=size,
            sha256=sha256,
            user_id=grant.user_id,
            uploaded_at=epoch(now),
        )
        await self._store.put(file)
        await in_thread(upload.finish, file.file_id, now.timestamp())
        return file


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)
