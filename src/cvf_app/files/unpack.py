"""Taking the files out of a zip archive into a place, one piece at a time.

Promises: the archive was judged before the first byte is read; memory does not grow with an entry;
an entry keeps the folders it stood in as part of its name, which is never a path of ours.
"""

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import IO

from cvf_app.errors import Invalid
from cvf_app.files.archive import DAMAGE, is_content, judge
from cvf_app.files.formats import label
from cvf_app.files.place import Place, Staged
from cvf_app.loops import in_thread

MOST_FILES = 10_000
_PIECE = 2**20
_LONGEST = 1024


async def unpack(path: Path, place: Place) -> AsyncIterator[tuple[str, Staged]]:
    """Yield the names and the staged contents of the files in an archive; hidden ones are left.

    Raises:
        Invalid: the archive is broken or not to be trusted, or there is no file in it.
        StorageFull: there is no room.
    """
    archive, found = await in_thread(_opened, path)
    try:
        for info in found:
            staged = await place.stage(_content(archive, info), info.file_size)
            yield _name(info), staged
    finally:
        await in_thread(archive.close)


def _opened(path: Path) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    try:
        archive = zipfile.ZipFile(path)
    except (*DAMAGE, ValueError, NotImplementedError) as fault:
        raise Invalid(f"This zip archive cannot be read: {fault}.", path="$.file") from fault
    try:
        judge(archive.infolist(), path.stat().st_size, MOST_FILES)
    except Invalid as fault:
        archive.close()
        raise Invalid(fault.sentence, path="$.file") from fault
    found = [info for info in archive.infolist() if is_content(info)]
    if not found:
        archive.close()
        raise Invalid("There is no file in this zip archive.", path="$.file")
    return archive, found


async def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> AsyncIterator[bytes]:
    try:
        inside: IO[bytes] = await in_thread(archive.open, info)
        try:
            while piece := await in_thread(inside.read, _PIECE):
                yield piece
        finally:
            inside.close()
    except DAMAGE as fault:
        raise Invalid(
            f"{info.filename!r} in the zip archive is damaged: {fault}.", path="$.file"
        ) from fault


def _name(info: zipfile.ZipInfo) -> str:
    parts = PurePosixPath(info.filename.replace("\\", "/")).parts
    return "/".join(label(part) for part in parts)[-_LONGEST:].lstrip("/")
