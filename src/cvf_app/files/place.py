"""The folder in which files from outside are kept, each named by the SHA-256 of its content.

Promises: a file is there whole or not at all (written beside, synced, renamed); equal content
is kept once; a full disk becomes `StorageFull` and leaves no partial file. A name that came from
outside never becomes part of a path. The methods wait for the disk: call them in a thread.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cvf_app.errors import NotFound, StorageFull, TooLarge
from cvf_app.ids import new_id

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DIGEST_LENGTH = 64


class Place:
    """A folder with the contents of files, the pieces of uploads, and the work of jobs."""

    def __init__(self, root: Path, piece_bytes: int = 2**20) -> None:
        """Keep everything under `root`; files are read and written `piece_bytes` at a time."""
        self.root = root
        self.piece_bytes = piece_bytes
        self._contents = root / "files"

    def path(self, sha256: str) -> Path:
        """Return where content with this digest stands.

        Raises:
            NotFound: there is none.
        """
        path = self._path(sha256)
        if not path.is_file():
            raise NotFound("The content of this file is no longer here.")
        return path

    def folder(self, kind: str, *names: str) -> Path:
        """Return a folder of ours below the root; `names` are ids that we made."""
        if any(not name or "/" in name or name.startswith(".") for name in names):
            raise ValueError("a name of a folder is an id of ours")
        return self.root.joinpath(kind, *names)

    def join(
        self, parts: Sequence[Path], limit: int, check: Callable[[BinaryIO], None]
    ) -> tuple[str, int]:
        """Keep the joined content of some files and return its SHA-256 and size.

        `check` is given the whole file, still under a temporary name, and may refuse it.

        Raises:
            TooLarge: it has more bytes than `limit`.
            StorageFull: there is no room.
        """
        self._contents.mkdir(parents=True, exist_ok=True)
        partial = self._contents / f"{new_id()}.part"
        digest = hashlib.sha256()
        size = 0
        try:
            with room(), partial.open("wb") as out:
                for part in parts:
                    for piece in pieces(part, self.piece_bytes):
                        size += len(piece)
                        if size > limit:
                            raise TooLarge(f"A file may have at most {limit} bytes.")
                        digest.update(piece)
                        out.write(piece)
                out.flush()
                os.fsync(out.fileno())
            with partial.open("rb") as whole:
                check(whole)
            settle(partial, self._path(digest.hexdigest()))
        finally:
            partial.unlink(missing_ok=True)
        return digest.hexdigest(), size

    def remove(self, sha256: str) -> None:
        """Remove content; nothing happens when it is gone already."""
        self._path(sha256).unlink(missing_ok=True)

    def clear(self, folder: Path) -> None:
        """Remove a folder below the root with all that is in it; it vanishes at once."""
        if not folder.is_relative_to(self.root) or folder == self.root:
            raise ValueError("only folders of the place are cleared")
        bin_ = self.root / "bin" / new_id()
        bin_.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(bin_)
        except FileNotFoundError:
            return
        shutil.rmtree(bin_, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a crash left: partial files and half-removed folders; at a start only."""
        for partial in self._contents.glob("*.part"):
            partial.unlink(missing_ok=True)
        shutil.rmtree(self.root / "bin", ignore_errors=True)

    def _path(self, sha256: str) -> Path:
        if len(sha256) != _DIGEST_LENGTH or not set(sha256) <= set("0123456789abcdef"):
            raise ValueError("content is named by 64 hexadecimal digits")
        return self._contents / sha256[:2] / sha256


@contextmanager
def room() -> Iterator[None]:
    """Turn a disk without room into `StorageFull`; other faults of the disk pass as they are."""
    try:
        yield
    except OSError as fault:
        if fault.errno in _FULL:
            raise StorageFull("There is no room left on the disk; nothing was kept.") from fault
        raise


def settle(partial: Path, target: Path) -> None:
    """Give a synced file its name so that it survives a power cut."""
    with room():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def pieces(path: Path, piece_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file, so many at a time."""
    with path.open("rb") as file:
        while piece := file.read(piece_bytes):
            yield piece
