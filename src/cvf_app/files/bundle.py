"""Several files as one zip that is made while it is read (APPNOTE.TXT, 4.3.9: data descriptors).

Promises: memory holds one piece; contents are stored as they are; equal names get a number.
"""

import zipfile
from collections.abc import AsyncIterator, Iterable
from io import RawIOBase
from pathlib import PurePosixPath

from cvf_app.loops import in_thread


async def bundle(files: Iterable[tuple[str, AsyncIterator[bytes]]]) -> AsyncIterator[bytes]:
    """Yield the bytes of a zip with these names and contents."""
    sink = _Sink()
    taken: set[str] = set()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(_free(name, taken))
            with archive.open(entry, "w", force_zip64=True) as inside:
                async for piece in content:
                    # The checksum takes a while; the disk does not come into it.
                    await in_thread(inside.write, piece)
                    yield sink.taken()
    yield sink.taken()


class _Sink(RawIOBase):
    """What the zip writes to: it cannot seek, and keeps bytes until they are taken."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]  # typeshed says Buffer, a name of 3.12
        self._bytes += data
        return len(data)

    def taken(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken


def _free(name: str, taken: set[str]) -> str:
    path = PurePosixPath(name)
    found, number = name, 1
    while found in taken:
        number += 1
        found = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
    taken.add(found)
    return found
