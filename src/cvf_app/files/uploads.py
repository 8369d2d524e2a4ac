"""Taking uploads in: numbered chunks, ranges of bytes, and whole files in one form.

Promises: memory does not grow with a body; nothing half is acknowledged: of a range that breaks
off the bytes that came stay and are told, of anything else that breaks off nothing stays. Name and
first bytes of a file must be those of a format that this instance takes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Protocol
from uuid import UUID, uuid5

from cvf_app import metrics
from cvf_app.clock import Clock
from cvf_app.errors import Conflict, Invalid, NotFound, TimedOut, TooLarge
from cvf_app.files.form import Form, Incoming, boundary
from cvf_app.files.formats import HEAD, FileFormat, check_head, format_of, label, recognise
from cvf_app.files.model import (
    FILES_SCOPE,
    ChunkLabel,
    FileId,
    NewFile,
    RangeLabel,
    StoredFile,
    UploadGrant,
    UploadState,
)
from cvf_app.files.place import Place, Staged
from cvf_app.files.unpack import unpack
from cvf_app.files.upload import Arrived, Upload, check_label, read_label
from cvf_app.files.workspace import Workspace
from cvf_app.files.writing import write
from cvf_app.ids import new_id
from cvf_app.loops import in_thread

LARGEST_CHUNK = 64 * 2**20
LARGEST_FILE = 64 * 2**30
# Of a range so much is safe at once: a kill in the middle of a body costs no more.
RANGE_PIECE = 8 * 2**20
_MOST_PARTS = 32
_NAMESPACE = UUID("5a0f8f0e-6f0b-4d6b-9f0e-2b1f4f4f9c11")


class Keeper(Protocol):
    """Who makes staged bytes a file, and knows the files that there are."""

    async def find(self, file_id: FileId) -> StoredFile | None:
        """Return a file, or nothing."""
        ...

    async def keep(self, staged: Staged, new: NewFile) -> StoredFile:
        """Make staged bytes a file."""
        ...


class Uploads:
    """The uploads of all people."""

    def __init__(
        self,
        place: Place,
        keeper: Keeper,
        clock: Clock,
        formats: tuple[str, ...],
    ) -> None:
        """Stage in the place; the keeper gets what is whole; `formats` are extensions."""
        self._place = place
        self._keeper = keeper
        self._clock = clock
        self._formats = formats
        self._chunk_size = min(place.piece_bytes, LARGEST_CHUNK)

    @property
    def chunk_size(self) -> int:
        """How many bytes we like to be sent at once."""
        return self._chunk_size

    async def state(self, grant: UploadGrant, identifier: str) -> UploadState:
        """Return what has arrived of an upload."""
        arrived = await self._upload(grant, identifier).look()
        done = arrived.finished
        size = (arrived.length or 0) if done is not None else arrived.received
        return UploadState(
            resumable_identifier=identifier,
            chunks=tuple(arrived.chunks),
            received=size,
            chunk_size=self._chunk_size,
            largest_chunk=LARGEST_CHUNK,
            complete=done is not None,
            file_id=None if done is None else FileId(done.file_id),
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
        form = Form(body, boundary(content_type), _MOST_PARTS)
        staged: Staged | None = None
        filename = ""
        try:
            async for file in form.files():
                if staged is not None:
                    raise Invalid("The form has more than one field named file.", path="$.file")
                staged, filename = (
                    await self._place.stage(file.content, LARGEST_CHUNK),
                    file.filename,
                )
            if staged is None:
                raise Invalid("The form has no field named file.", path="$.file")
            metrics.upload_bytes.inc(staged.size)
            chunk = read_label({**query, **form.fields}, filename)
            return await self._keep_chunk(grant, chunk, staged)
        finally:
            if staged is not None:
                await self._place.discard(staged)

    async def take_range(
        self, grant: UploadGrant, asked: RangeLabel, body: AsyncIterator[bytes]
    ) -> StoredFile | None:
        """Keep the bytes of a range; return the file when they were the last that were missing.

        Bytes that came before a body broke off are kept: the state says how many.

        Raises:
            Invalid: a name, a number or the content is not what it should be.
            Conflict: the range does not begin where what is there ends, or the upload is complete.
            TooLarge: the file is larger than we take. TimedOut: the sender fell silent.
            StorageFull: there is no room; nothing of the last piece is kept.
        """
        check_label(asked.identifier, asked.filename)
        name = label(asked.filename)
        kind = format_of(name, self._formats)
        if asked.total > LARGEST_FILE:
            raise TooLarge(f"A file may have at most {LARGEST_FILE} bytes.")
        upload = self._upload(grant, asked.identifier)
        arrived, there = await self._look(grant, upload)
        if there is not None:
            if asked.first is None and there.size == asked.total:
                return there
            raise Conflict("This upload is complete; give another file another identifier.")
        if asked.first is None:
            return None
        await upload.begin_ranges(asked.total, asked.first, arrived)
        arriving = _Arriving(body, asked.last - asked.first + 1)
        at = asked.first
        while not arriving.over:
            staged = await self._place.stage(arriving.piece(RANGE_PIECE), RANGE_PIECE)
            try:
                # Fewer bytes may be the beginning of anything; the whole file is looked at anyway.
                if at == 0 and staged.size >= HEAD:
                    await self._check_first(upload, staged, kind)
                if staged.size:
                    await upload.add_range(staged, at)
                    metrics.upload_bytes.inc(staged.size)
                at += staged.size
            finally:
                await self._place.discard(staged)
        arriving.complain()
        if at < asked.total:
            return None
        names = (await upload.look()).ranges
        return await self._join(grant, upload, name, names, asked.expires_at)

    async def take_form(
        self, form: Form, user: str, expires_at: int | None, spool: Workspace | None = None
    ) -> tuple[StoredFile, ...]:
        """Keep every file of a form, or none when one of them is refused.

        With a workspace to spool them in, zip archives are unpacked: their files are kept.

        Raises:
            Invalid: the form, a name or a content is not what it should be, or there is no file.
            TooLarge: a file is larger than we take. StorageFull: there is no room.
        """
        staged: list[tuple[str, Staged]] = []
        kinds: list[FileFormat] = []
        try:
            async for file in form.files():
                name = label(file.filename)
                if spool is not None and name.lower().endswith(".zip"):
                    kinds += await self._take_apart(file, spool, staged)
                    continue
                kept = await self._place.stage(file.content, LARGEST_FILE)
                metrics.upload_bytes.inc(kept.size)
                staged.append((name, kept))
                kinds.append(await self.kind_of(name, kept))
            if not staged:
                raise Invalid("The form has no field named file.", path="$.file")
            return await self._keep_all(staged, kinds, user, expires_at)
        finally:
            for _, each in staged:
                await self._place.discard(each)

    async def _take_apart(
        self, file: Incoming, spool: Workspace, staged: list[tuple[str, Staged]]
    ) -> list[FileFormat]:
        packed = spool.folder("spool", new_id())
        kinds: list[FileFormat] = []
        try:
            await write(file.content, packed, LARGEST_FILE, self._chunk_size)
            async for name, inside in unpack(packed, self._place):
                staged.append((name, inside))
                try:
                    kinds.append(await self.kind_of(name, inside))
                except Invalid as fault:
                    raise Invalid(f"{name}: {fault.sentence}", path="$.file") from fault
        finally:
            await in_thread(packed.unlink, missing_ok=True)
        return kinds

    async def kind_of(self, name: str, staged: Staged) -> FileFormat:
        """Return what staged bytes are, by content; the name must not contradict it.

        Raises:
            Invalid: it is nothing that is taken here.
        """
        format_of(name, self._formats)
        return await self._place.inspect(
            staged, partial(recognise, name=name, allowed=self._formats)
        )

    async def _keep_all(
        self,
        staged: list[tuple[str, Staged]],
        kinds: list[FileFormat],
        user: str,
        expires_at: int | None,
    ) -> tuple[StoredFile, ...]:
        kept = []
        for (name, each), kind in zip(staged, kinds, strict=True):
            new = NewFile(
                file_id=FileId(new_id()), name=name, type=kind, user=user, expires_at=expires_at
            )
            kept.append(await self._keeper.keep(each, new))
        return tuple(kept)

    def _upload(self, grant: UploadGrant, identifier: str) -> Upload:
        return Upload(self._place, grant.user_id, grant.scope, identifier)

    async def _look(self, grant: UploadGrant, upload: Upload) -> tuple[Arrived, StoredFile | None]:
        """Return what is there of an upload, and what it became.

        One that is over, or whose file is gone, is forgotten.
        """
        arrived = await upload.look()
        done = arrived.finished
        if done is None:
            return arrived, None
        there = await self._keeper.find(FileId(done.file_id))
        if there is not None and (grant.issued_at <= done.at or grant.scope == FILES_SCOPE):
            return arrived, there
        # The same name again, later or after the file was deleted: a new upload.
        await upload.forget()
        return Arrived(frozenset()), None

    async def _keep_chunk(
        self, grant: UploadGrant, chunk: ChunkLabel, staged: Staged
    ) -> StoredFile | None:
        name = label(chunk.filename)
        kind = format_of(name, self._formats)
        upload = self._upload(grant, chunk.identifier)
        arrived, there = await self._look(grant, upload)
        if there is not None:
            if arrived.sent(chunk.number, staged.sha256):
                return there
            raise Conflict("This upload is complete; get a new token to send another file.")
        if chunk.number == 1 and staged.size >= HEAD:
            check_head(staged.head, kind, self._formats)
        arrived = await upload.add_chunk(staged, chunk, arrived)
        if len(arrived.chunks) < chunk.total:
            return None
        return await self._join(grant, upload, name, tuple(arrived.chunks.values()), None)

    async def _check_first(self, upload: Upload, staged: Staged, kind: FileFormat) -> None:
        """Refuse an upload by its first bytes, and forget that it was begun."""
        try:
            check_head(staged.head, kind, self._formats)
        except Invalid:
            await upload.forget()
            raise

    async def _join(
        self,
        grant: UploadGrant,
        upload: Upload,
        name: str,
        pieces: tuple[str, ...],
        expires_at: int | None,
    ) -> StoredFile:
        try:
            whole = await self._place.join(upload.key, pieces, LARGEST_FILE)
        except NotFound as fault:
            # Another process joined the same pieces a moment ago; its answer has the file.
            raise Conflict("This upload is just being completed; ask for its state.") from fault
        try:
            kind = await self.kind_of(name, whole)
            # The same for two that finish the same upload at once, and after a crash in between.
            seed = f"{upload.key}/{grant.issued_at}/{whole.sha256}"
            new = NewFile(
                file_id=FileId(str(uuid5(_NAMESPACE, seed))),
                name=name,
                type=kind,
                user=grant.user_id,
                holders=() if grant.scope == FILES_SCOPE else (f"source/{grant.scope}",),
                expires_at=expires_at,
            )
            file = await self._keeper.keep(whole, new)
        except Invalid:
            await upload.forget()
            raise
        finally:
            await self._place.discard(whole)
        await upload.finish(file.file_id, self._clock().timestamp())
        return file


class _Arriving:
    """The body of a range, cut into pieces; what breaks it off is raised when all is kept."""

    def __init__(self, body: AsyncIterator[bytes], length: int) -> None:
        self.over = False
        self._body = body
        self._left = length
        self._rest = b""
        self._fault: asyncio.CancelledError | TimedOut | Invalid | None = None

    async def piece(self, most: int) -> AsyncIterator[bytes]:
        while most and not self.over:
            if not self._rest:
                self._rest = await self._next()
                continue
            cut = self._rest[:most]
            self._rest = self._rest[most:]
            most -= len(cut)
            yield cut

    def complain(self) -> None:
        if self._fault is not None:
            raise self._fault

    async def _next(self) -> bytes:
        reading: Awaitable[bytes] = anext(self._body)
        try:
            received = await reading
        except StopAsyncIteration:
            self.over = True
            return b""
        except (asyncio.CancelledError, TimedOut) as fault:
            # The sender is gone or silent; what it sent is whole up to here and worth keeping.
            self.over, self._fault = True, fault
            return b""
        if len(received) > self._left:
            received = received[: self._left]
            self.over = not received
            self._fault = Invalid("The body has more bytes than its range says.", path="$")
        self._left -= len(received)
        return received
