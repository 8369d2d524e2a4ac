"""Files: whole files with their documents, who may see them, and how both stay in step.

A file's document is written after its content is in the place and removed before it, so that a
document never points at nothing because of a crash. What falls out of step all the same (content
removed by hand, a crash between two steps) `sweep` brings back: a plain file without content is
forgotten, a held one (a data file, one that a job works with) is marked and told, content without
a document is removed after a while.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from cvf_app.clock import Clock, epoch
from cvf_app.errors import Conflict, Forbidden, Invalid, NotFound
from cvf_app.files.bundle import bundle
from cvf_app.files.model import FileId, NewFile, RangeLabel, StoredFile, UploadGrant, UploadState
from cvf_app.files.place import LEFTOVER_SECONDS, Place, Staged
from cvf_app.files.store import FileStore
from cvf_app.files.upload import sweep
from cvf_app.files.uploads import Uploads
from cvf_app.files.workspace import Workspace
from cvf_app.loops import in_thread
from cvf_app.principal import Principal, Role, UserId

TOKEN_SECONDS = 3600
SECOND_LOOK_SECONDS = 1.0
MOST_BUNDLED = 1000
_NO_FILE = "There is no such file."
_SEE_ALL = (Role.DATA_ADMIN, Role.DEVELOPER)
log = structlog.get_logger("cv3.files")


class Files:
    """Every file from outside or made by a job."""

    def __init__(
        self,
        store: FileStore,
        place: Place,
        workspace: Workspace,
        clock: Clock,
        formats: tuple[str, ...],
    ) -> None:
        """Keep documents in the store, contents in the place; `formats` are extensions.

        `workspace` is where work on this machine is done.
        """
        self._store = store
        self._place = place
        self._clock = clock
        self.workspace = workspace
        self.uploads = Uploads(place, self, clock, formats)

    # Uploads

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
        """Return what has arrived of an upload."""
        return await self.uploads.state(grant, identifier)

    async def take_chunk(
        self,
        grant: UploadGrant,
        content_type: str,
        body: AsyncIterator[bytes],
        query: dict[str, str],
    ) -> StoredFile | None:
        """Keep a chunk and return the file when it was the last that was missing.

        Raises:
            CafeVariomeError: as `Uploads.take_chunk`.
        """
        return await self.uploads.take_chunk(grant, content_type, body, query)

    async def take_range(
        self, grant: UploadGrant, asked: RangeLabel, body: AsyncIterator[bytes]
    ) -> StoredFile | None:
        """Keep the bytes of a range; return the file when they were the last that were missing.

        Raises:
            CafeVariomeError: as `Uploads.take_range`.
        """
        self.check_expiry(asked.expires_at)
        return await self.uploads.take_range(grant, asked, body)

    def check_expiry(self, expires_at: int | None) -> None:
        """Refuse a moment that is over.

        Raises:
            Invalid: it is.
        """
        if expires_at is not None and expires_at <= epoch(self._clock()):
            raise Invalid("The moment until which to keep a file is over.", path="$.expiresAt")

    # Files for people

    async def page(self, asker: Principal, *, limit: int, skip: int) -> tuple[StoredFile, ...]:
        """Return files, newest first: one's own; all of them for those who manage data."""
        user = None if asker.role in _SEE_ALL else str(asker.user_id)
        return await self._store.page(user, limit, skip)

    async def show(self, file_id: FileId, asker: Principal) -> StoredFile:
        """Return a file that the asker may see: their own, or any for those who manage data.

        Raises:
            NotFound: there is none, its time is over, or it is not theirs to know of.
        """
        file = await self.get(file_id)
        if asker.role not in _SEE_ALL and file.user != asker.user_id:
            raise NotFound(_NO_FILE)
        return file

    async def read(self, file: StoredFile, first: int = 0) -> AsyncIterator[bytes]:
        """Return the bytes of a file from `first` on.

        Raises:
            NotFound: its content is gone.
        """
        await self._place.size(file.sha256)
        return self._place.stream(file.sha256, first)

    async def read_range(self, file: StoredFile, first: int, last: int) -> AsyncIterator[bytes]:
        """Return the bytes of a file from `first` to `last`, both included.

        Raises:
            NotFound: its content is gone.
        """
        await self._place.size(file.sha256)
        return self._place.stream(file.sha256, first, last)

    async def bundle(self, ids: tuple[FileId, ...], asker: Principal) -> AsyncIterator[bytes]:
        """Return several files as one zip, which is made while it is read.

        Raises:
            Invalid: no or too many files are named. NotFound: one is none of theirs, or gone.
        """
        if not 0 < len(ids) <= MOST_BUNDLED:
            raise Invalid(f"Name from 1 to {MOST_BUNDLED} files.", path="$.id")
        files = [await self.show(each, asker) for each in dict.fromkeys(ids)]
        for file in files:
            await self._place.size(file.sha256)
        return bundle([(file.name, self._place.stream(file.sha256)) for file in files])

    async def withdraw(self, file_id: FileId, asker: Principal) -> None:
        """Remove a file for a person.

        Raises:
            NotFound: as `show`. Conflict: a job works with it, or a source has it as a data file.
        """
        file = await self.show(file_id, asker)
        if not await self._store.remove_free(file_id):
            raise Conflict(
                "This file is in use: a source has it as a data file, or a job works with it. "
                "Delete the data file, or wait for the job."
            )
        await self._let_go(file.sha256)

    # Files for other features

    async def keep(self, staged: Staged, new: NewFile) -> StoredFile:
        """Make staged bytes a file.

        Raises:
            Conflict: equal content was removed in the same moment; send it again.
        """
        file = StoredFile(
            file_id=new.file_id,
            name=new.name,
            type=new.type,
            size=staged.size,
            sha256=staged.sha256,
            user=new.user,
            uploaded_at=epoch(self._clock()),
            expires_at=new.expires_at,
            ready=True,
            reserved=bool(new.holders),
        )
        await self._place.keep(staged)
        await self._store.put(file, new.holders)
        # Whoever removes the last equal file looks for us after it took the content aside: if
        # that was before our document was there, we find out here.
        if not await self._place.exists(staged.sha256):
            await self._store.remove(file.file_id)
            raise Conflict("Equal content was deleted in this moment; send the file again.")
        return file

    async def find(self, file_id: FileId) -> StoredFile | None:
        """Return a file, or nothing; one whose time is over is none."""
        file = await self._store.find(file_id)
        if file is None or (self._is_over(file) and not file.reserved):
            return None
        return file

    async def get(self, file_id: FileId) -> StoredFile:
        """Return a file.

        Raises:
            NotFound: there is none, or its time is over.
        """
        found = await self.find(file_id)
        if found is None:
            raise NotFound(_NO_FILE)
        return found

    def path(self, sha256: str) -> Path:
        """Return a file of this machine with a content; waits for the disk.

        Raises:
            NotFound: the content is gone.
        """
        return self._place.path(sha256)

    async def hold(self, file_id: FileId, holder: str) -> None:
        """Let a holder (`job/<id>`, `source/<id>`) need a file: nobody else removes it then.

        Raises:
            NotFound: there is none.
        """
        await self._store.hold(file_id, holder)
        if await self._store.find(file_id) is None:
            raise NotFound(_NO_FILE)

    async def release(self, file_id: FileId, holder: str) -> None:
        """End what a holder needed; twice is once."""
        await self._store.release(file_id, holder)

    async def held(self, kind: str) -> tuple[tuple[FileId, str], ...]:
        """Return the files that holders of a kind (`source`) need, each with the holder's id."""
        return await self._store.held(kind)

    async def missing(self, ids: tuple[FileId, ...]) -> frozenset[FileId]:
        """Return those of some files whose content or document is gone."""
        return await self._store.missing(ids) if ids else frozenset()

    async def delete(self, file_id: FileId) -> None:
        """Remove a file whoever holds it; for its holder. Twice is once."""
        file = await self._store.find(file_id)
        if file is None:
            return
        await self._store.remove(file_id)
        await self._let_go(file.sha256)

    # In step

    async def expire(self) -> None:
        """Remove the files whose time is over and that nobody holds."""
        for file in await self._store.overdue(epoch(self._clock())):
            if await self._store.remove_free(file.file_id):
                log.info("file_expired", file_id=file.file_id)
                await self._let_go(file.sha256)

    async def clean_up(self) -> None:
        """Remove expired tokens and abandoned uploads."""
        await self._store.forget_tokens(epoch(self._clock()))
        await sweep(self._place)

    async def sweep(self, grace: float = LEFTOVER_SECONDS) -> None:
        """Bring documents and contents back in step; at a start, and now and then.

        Content without a document is removed when it is older than `grace`: before, its document
        may be about to be written.
        """
        if not await self._place.reachable():
            if await self._store.page(None, 1, 0):
                log.warning("place_out_of_reach")
            return
        await in_thread(self.workspace.empty_bin, grace)
        await self._place.tidy(grace)
        lost = [file async for file in self._store.everything() if not await self._is_there(file)]
        await self._face(lost)
        async for kept in self._place.contents():
            if kept.age >= grace and not await self._used(kept.sha256):
                log.info("content_without_a_document", sha256=kept.sha256, size=kept.size)
                await self._let_go(kept.sha256)

    async def look(self, sha256: str) -> None:
        """Bring the files with one content in step, as when somebody was seen removing it."""
        if not await self._place.reachable():
            return
        files = await self._store.with_content(sha256)
        await self._face([file for file in files if not await self._is_there(file)])

    async def _is_there(self, file: StoredFile) -> bool:
        there = await self._place.exists(file.sha256)
        if there and not file.ready and await self._store.set_ready(file.file_id, ready=True):
            log.info("content_is_back", file_id=file.file_id)
        return there

    async def _face(self, lost: list[StoredFile]) -> None:
        """Forget files without content, and mark those that somebody holds."""
        if not lost:
            return
        # A removal that is called off puts the content back a moment later.
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        for file in lost:
            if await self._is_there(file):
                continue
            if await self._store.remove_free(file.file_id):
                log.warning("file_gone", file_id=file.file_id)
            elif await self._store.set_ready(file.file_id, ready=False):
                log.warning("held_file_is_missing", file_id=file.file_id)

    async def _let_go(self, sha256: str) -> None:
        if not await self._used(sha256):
            await self._place.remove(sha256, lambda: self._used(sha256))

    async def _used(self, sha256: str) -> bool:
        return await self._store.uses(sha256) > 0

    def _is_over(self, file: StoredFile) -> bool:
        return file.expires_at is not None and file.expires_at <= epoch(self._clock())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
