"""The form of a place that is a folder of this machine.

Contents stand in `files/<two digits>/<digest>`, what is staged in `files/<id>.part`, pieces in
`uploads/<upload>/`, what is being removed in `aside/`. Written beside, synced, renamed. Several
processes may use one folder; a crash leaves at most files that `tidy` removes.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from cvf_app.errors import NotFound, TooLarge
from cvf_app.files.formats import HEAD
from cvf_app.files.place import LEFTOVER_SECONDS, Kept, Staged, checked, room, settle
from cvf_app.files.workspace import Workspace, older
from cvf_app.files.writing import write
from cvf_app.ids import new_id
from cvf_app.loops import in_thread

T = TypeVar("T")
_LISTED_AT_ONCE = 1000
_GONE = "The content of this file is no longer here."


class Folder:
    """Contents and pieces in a folder."""

    def __init__(self, root: Path, piece_bytes: int = 2**20) -> None:
        """Keep everything under `root`; files are read and written `piece_bytes` at a time."""
        self.root = root
        self.piece_bytes = piece_bytes
        self.watched = root / "files"
        self._contents = root / "files"
        self._workspace = Workspace(root)

    # What comes in

    async def stage(self, content: AsyncIterator[bytes], limit: int) -> Staged:
        """Write down what comes in; nothing stays when it breaks off.

        Raises:
            TooLarge: it has more bytes than `limit`. StorageFull: there is no room.
        """
        return await write(content, self._staged(f"{new_id()}.part"), limit, self.piece_bytes)

    async def inspect(self, staged: Staged, look: Callable[[BinaryIO], T]) -> T:
        """Let a function that may wait look at staged bytes as at an open file."""
        return await in_thread(_inspected, self._staged(staged.token), look)

    async def keep(self, staged: Staged) -> None:
        """Make staged bytes a content, now the youngest even if an equal one is there.

        Raises:
            NotFound: what was staged is gone.
        """
        await in_thread(_keep, self._staged(staged.token), self._path(staged.sha256))

    async def discard(self, staged: Staged) -> None:
        """Let staged bytes go; nothing happens when they became something."""
        await in_thread(self._staged(staged.token).unlink, missing_ok=True)

    # Contents

    async def stream(
        self, sha256: str, first: int = 0, last: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a content, or its bytes from `first` to `last` (both included), piece by piece.

        Raises:
            NotFound: there is none.
        """
        file = await in_thread(_opened, self._path(sha256), first)
        try:
            left = None if last is None else last - first + 1
            while left is None or left > 0:
                wanted = self.piece_bytes if left is None else min(self.piece_bytes, left)
                piece = await in_thread(file.read, wanted)
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece
        finally:
            file.close()

    async def exists(self, sha256: str) -> bool:
        """Say whether there is such a content."""
        return await in_thread(self._path(sha256).is_file)

    async def size(self, sha256: str) -> int:
        """Return the number of bytes of a content.

        Raises:
            NotFound: there is none.
        """
        path = await in_thread(self.path, sha256)
        return (await in_thread(path.stat)).st_size

    async def remove(self, sha256: str, wanted: Callable[[], Awaitable[bool]]) -> None:
        """Take a content aside, and let it go unless it is wanted after all; twice is once."""
        path = self._path(sha256)
        # A name of its own: two may remove equal content at once.
        aside = self.root / "aside" / f"{sha256}.{new_id()}"
        if not await in_thread(_moved, path, aside):
            return
        if await wanted():
            await in_thread(_moved, aside, path)
        else:
            await in_thread(aside.unlink, missing_ok=True)

    async def contents(self) -> AsyncIterator[Kept]:
        """Yield every content."""
        listing = self._listing()
        while found := await in_thread(_next, listing):
            for kept in found:
                yield kept

    def path(self, sha256: str) -> Path:
        """Return where a content stands; waits for the disk.

        Raises:
            NotFound: there is none.
        """
        path = self._path(sha256)
        if not path.is_file():
            raise NotFound(_GONE)
        return path

    # Pieces of uploads

    async def keep_piece(self, staged: Staged, upload: str, name: str) -> None:
        """Make staged bytes a piece of an upload, in place of one of that name."""
        target = self._workspace.folder("uploads", upload, name)
        await in_thread(settle, self._staged(staged.token), target)

    async def mark(self, upload: str, name: str) -> None:
        """Put an empty piece into an upload; twice is once."""
        await in_thread(_mark, self._workspace.folder("uploads", upload, name))

    async def pieces(self, upload: str) -> frozenset[str]:
        """Return the names of the pieces of an upload."""
        return await in_thread(_names, self._workspace.folder("uploads", upload))

    async def join(self, upload: str, names: Sequence[str], limit: int) -> Staged:
        """Stage the joined bytes of some pieces, which stay.

        Raises:
            NotFound: a piece is gone. TooLarge: they have more bytes than `limit`.
        """
        parts = [self._workspace.folder("uploads", upload, name) for name in names]
        target = self._staged(f"{new_id()}.part")
        joining = in_thread(_join, parts, target, limit, self.piece_bytes)
        try:
            return await joining
        except asyncio.CancelledError:
            # The thread goes on; what it writes is old enough for `tidy` one day.
            await in_thread(target.unlink, missing_ok=True)
            raise

    async def drop_piece(self, upload: str, name: str) -> None:
        """Remove a piece; twice is once."""
        await in_thread(self._workspace.folder("uploads", upload, name).unlink, missing_ok=True)

    async def drop(self, upload: str) -> None:
        """Remove an upload with all its pieces, at once; twice is once."""
        await in_thread(self._workspace.clear, self._workspace.folder("uploads", upload))

    async def uploads(self) -> Mapping[str, float]:
        """Return the ids of all uploads, with the seconds since each was last added to."""
        return await in_thread(_ages, self._workspace.folder("uploads"))

    async def reachable(self) -> bool:
        """Say whether the folder is there; one that was never written to is not."""
        return await in_thread(self._contents.is_dir)

    async def tidy(self, age: float = LEFTOVER_SECONDS) -> None:
        """Remove what crashes left staged, and put back what they left half removed."""
        await in_thread(self._tidy, age)

    def _tidy(self, age: float) -> None:
        for part in self._contents.glob("*.part"):
            if older(part, age):
                part.unlink(missing_ok=True)
        for aside in (self.root / "aside").glob("*"):
            # Whether it is still wanted was never found out: the sweep asks again.
            if older(aside, age):
                _moved(aside, self._path(aside.name.partition(".")[0]))
        self._workspace.empty_bin(age)

    def _listing(self) -> Iterator[Kept]:
        now = time.time()
        for path in self._contents.glob("??/*"):
            try:
                told = path.stat()
            except FileNotFoundError:
                continue
            yield Kept(path.name, told.st_size, now - told.st_mtime)

    def _staged(self, token: str) -> Path:
        return self._contents / token

    def _path(self, sha256: str) -> Path:
        return self._contents / checked(sha256)[:2] / sha256


def _inspected(path: Path, look: Callable[[BinaryIO], T]) -> T:
    with path.open("rb") as file:
        return look(file)


def _keep(partial: Path, target: Path) -> None:
    try:
        os.utime(partial)
        settle(partial, target)
    except FileNotFoundError as fault:
        raise NotFound("What was sent is no longer here.") from fault


def _mark(target: Path) -> None:
    with room():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def _join(parts: Sequence[Path], target: Path, limit: int, piece_bytes: int) -> Staged:
    digest = hashlib.sha256()
    size, head, done = 0, b"", False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with room(), target.open("wb") as out:
            for part in parts:
                for piece in _read(part, piece_bytes):
                    size += len(piece)
                    if size > limit:
                        raise TooLarge(f"A file may have at most {limit} bytes.")
                    if len(head) < HEAD:
                        head = (head + piece)[:HEAD]
                    digest.update(piece)
                    out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        done = True
    except FileNotFoundError as fault:
        raise NotFound("A piece of this upload is gone.") from fault
    finally:
        if not done:
            target.unlink(missing_ok=True)
    return Staged(target.name, size, digest.hexdigest(), head)


def _read(path: Path, piece_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(piece_bytes):
            yield piece


def _opened(path: Path, first: int) -> BinaryIO:
    try:
        file = path.open("rb")
    except FileNotFoundError as fault:
        raise NotFound(_GONE) from fault
    file.seek(first)
    return file


def _moved(path: Path, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.replace(target)
    except FileNotFoundError:
        return False
    return True


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - names alone, of very many
    except FileNotFoundError:
        return frozenset()


def _ages(folder: Path) -> dict[str, float]:
    now = time.time()
    return {path.name: now - path.stat().st_mtime for path in folder.glob("*")}


def _next(listing: Iterator[Kept]) -> list[Kept]:
    return list(islice(listing, _LISTED_AT_ONCE))
