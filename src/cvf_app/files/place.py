"""Where contents are kept: what every form of such a place promises.

A content is named by the SHA-256 of its bytes. What comes in is staged first, under a name that
we make, and then becomes a content or a piece of an upload, or is discarded; so a content is there
whole or not at all, and equal content is kept once. `tests/contract/test_place.py` holds every
form to this. Work that needs a folder of this machine has a `Workspace` and no place.
"""

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from cvf_app.errors import StorageFull

T = TypeVar("T")
LEFTOVER_SECONDS = 3600.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DIGEST_LENGTH = 64


@dataclass(frozen=True)
class Staged:
    """Bytes that came in whole and have no name yet; `head` are the first of them."""

    token: str
    size: int
    sha256: str
    head: bytes


@dataclass(frozen=True)
class Kept:
    """A content in the place, and for how many seconds it has been there."""

    sha256: str
    size: int
    age: float


class Place(Protocol):
    """Contents under their digests, and the pieces of uploads that are under way.

    Every method may raise `StorageFull` when it writes and there is no room; nothing partial
    stays then. Ids of uploads and names of pieces are ours; they never come from outside.
    `piece_bytes` is how much is written and read at a time, and what senders are told.
    """

    piece_bytes: int

    async def stage(self, content: AsyncIterator[bytes], limit: int) -> Staged:
        """Write down what comes in; nothing stays when it breaks off.

        Raises:
            TooLarge: it has more bytes than `limit`.
        """
        ...

    async def inspect(self, staged: Staged, look: Callable[[BinaryIO], T]) -> T:
        """Let a function that may wait look at staged bytes as at an open file."""
        ...

    async def keep(self, staged: Staged) -> None:
        """Make staged bytes a content, now the youngest even if an equal one is there.

        Raises:
            NotFound: what was staged is gone.
        """
        ...

    async def discard(self, staged: Staged) -> None:
        """Let staged bytes go; nothing happens when they became something."""
        ...

    def stream(self, sha256: str, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        """Yield a content, or its bytes from `first` to `last` (both included), piece by piece.

        Raises:
            NotFound: there is none.
        """
        ...

    async def exists(self, sha256: str) -> bool:
        """Say whether there is such a content."""
        ...

    async def size(self, sha256: str) -> int:
        """Return the number of bytes of a content.

        Raises:
            NotFound: there is none.
        """
        ...

    async def remove(self, sha256: str, wanted: Callable[[], Awaitable[bool]]) -> None:
        """Take a content aside, and let it go unless it is wanted after all; twice is once."""
        ...

    def contents(self) -> AsyncIterator[Kept]:
        """Yield every content."""
        ...

    async def keep_piece(self, staged: Staged, upload: str, name: str) -> None:
        """Make staged bytes a piece of an upload, in place of one of that name."""
        ...

    async def mark(self, upload: str, name: str) -> None:
        """Put an empty piece into an upload; twice is once."""
        ...

    async def pieces(self, upload: str) -> frozenset[str]:
        """Return the names of the pieces of an upload."""
        ...

    async def join(self, upload: str, names: Sequence[str], limit: int) -> Staged:
        """Stage the joined bytes of some pieces, which stay.

        Raises:
            NotFound: a piece is gone.
            TooLarge: they have more bytes than `limit`.
        """
        ...

    async def drop_piece(self, upload: str, name: str) -> None:
        """Remove a piece; twice is once."""
        ...

    async def drop(self, upload: str) -> None:
        """Remove an upload with all its pieces, at once; twice is once."""
        ...

    async def uploads(self) -> Mapping[str, float]:
        """Return the ids of all uploads, with the seconds since each was last added to."""
        ...

    async def reachable(self) -> bool:
        """Say whether the place is there: an unmounted disk must not look like lost contents."""
        ...

    async def tidy(self, age: float = LEFTOVER_SECONDS) -> None:
        """Remove what crashes left staged or half removed, if older than this many seconds."""
        ...

    def path(self, sha256: str) -> Path:
        """Return a file of this machine with a content, to be read; may wait for the disk.

        A place that is elsewhere fetches it first.

        Raises:
            NotFound: there is none.
        """
        ...


def checked(sha256: str) -> str:
    """Return a digest as it is; anything else is no name of a content.

    Raises:
        ValueError: it is none.
    """
    if len(sha256) != _DIGEST_LENGTH or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError("content is named by 64 hexadecimal digits")
    return sha256


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
