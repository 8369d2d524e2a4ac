"""Files that may be packed with gzip or bgzip (RFC 1952; SAM specification 4.1), read as a stream.

Promises: flat memory; every member of a file of several is read; a file that is damaged or cut
off is never taken for a shorter one. Bombs are stopped by the ratio and by the total while they
unpack. The ratio is wide, since a VCF of rare variants shrinks several hundred times.
"""

import io
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from cvf_app.files.formats import GZIP
from cvf_app.pipelines.model import Unreadable

LARGEST_TOTAL = 256 * 2**30
LARGEST_RATIO = 800
HARMLESS = 64 * 2**20
_PIECE = 256 * 2**10
_GZIP_WINDOW = 31
Advance = Callable[[int], None]


class Opened(NamedTuple):
    """A stream of plain bytes, and whom its reader tells of every number of bytes read."""

    stream: BinaryIO
    advance: Advance


def opened(file: BinaryIO, advance: Advance) -> Opened:
    """Return the content of a file from its beginning, unpacked where it is packed.

    `advance` hears of the bytes of the file itself. Reading may raise `Unreadable`.
    """
    file.seek(0)
    head = file.read(len(GZIP))
    file.seek(0)
    if head != GZIP:
        return Opened(file, advance)
    return Opened(io.BufferedReader(_Unpacking(file, advance), _PIECE), _ignore)


class _Unpacking(io.RawIOBase):
    """The unpacked bytes of a gzip file with any number of members."""

    def __init__(self, file: BinaryIO, advance: Advance) -> None:
        self._file = file
        self._advance = advance
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._packed = b""
        self._begun = False
        self._read = 0
        self._given = 0

    def readable(self) -> bool:
        """Say that this can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - the type of buffers came with 3.12
        """Fill a buffer; 0 is the end.

        Raises:
            Unreadable: the file is damaged, cut off, or a bomb.
        """
        view = memoryview(buffer).cast("B")
        while True:
            if not self._packed and not self._refill():
                return 0
            try:
                found = self._member.decompress(self._packed, len(view))
            except zlib.error as fault:
                raise Unreadable(f"The gzip file is damaged: {fault}.") from fault
            if self._member.eof:
                # What follows is another member, or zeros that fill the last block of a tape.
                self._packed = self._member.unused_data.lstrip(b"\0")
                self._member = zlib.decompressobj(_GZIP_WINDOW)
                self._begun = False
            else:
                self._packed = self._member.unconsumed_tail
                self._begun = True
            if found:
                self._check(len(found))
                view[: len(found)] = found
                return len(found)

    def _refill(self) -> bool:
        self._packed = self._file.read(_PIECE)
        if not self._begun:
            self._packed = self._packed.lstrip(b"\0")
        self._read += len(self._packed)
        self._advance(len(self._packed))
        if not self._packed and self._begun:
            raise Unreadable("The gzip file is cut off: its end is missing.")
        return bool(self._packed)

    def _check(self, size: int) -> None:
        self._given += size
        far = self._given > HARMLESS and self._given > LARGEST_RATIO * self._read
        if far or self._given > LARGEST_TOTAL:
            raise Unreadable("The gzip file swells far beyond its size: a bomb.")


def _ignore(_: int) -> None:
    """Hear of progress that is counted elsewhere."""
