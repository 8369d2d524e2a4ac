"""Zip archives from strangers: every entry is judged before the first one is read.

Promises: nothing is written to disk. What is not to be trusted is refused (`files/archive.py` says
what that is). What is no JSON is passed over.
"""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from cvf_app.errors import Invalid
from cvf_app.files import archive as strangers
from cvf_app.pipelines.model import Unreadable

DAMAGE = strangers.DAMAGE
_TAKEN = {".json", ".jsonl", ".ndjson"}


class Entry(NamedTuple):
    """A JSON file in an archive: its path there, and its open content."""

    name: str
    content: IO[bytes]


def entries(path: Path, advance: Callable[[int], None]) -> Iterator[Entry]:
    """Yield the JSON files of an archive; `advance` hears of the compressed bytes done.

    Raises:
        Unreadable: the archive is broken or not to be trusted, or there is no JSON in it.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (*DAMAGE, ValueError, NotImplementedError) as fault:
        raise Unreadable(f"This zip archive cannot be read: {fault}.") from fault
    with archive:
        found = archive.infolist()
        check_entries(found, path.stat().st_size)
        wanted = [info for info in found if _is_wanted(info)]
        if not wanted:
            raise Unreadable("There is no .json file in this zip archive.")
        for info in wanted:
            with _open(archive, info) as content:
                yield Entry(info.filename, content)
            advance(info.compress_size)


def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(info)
    except DAMAGE as fault:
        raise damaged(info.filename, fault) from fault


def damaged(name: str, fault: Exception) -> Unreadable:
    """Say that an entry is damaged; reading its content may raise any of `DAMAGE`."""
    return Unreadable(f"{name!r} in the zip archive is damaged: {fault}.")


def check_entries(found: list[zipfile.ZipInfo], size: int) -> None:
    """Judge the entries of an archive of so many bytes, before any of them is read.

    Raises:
        Unreadable: it is a bomb, or an entry is not to be trusted.
    """
    try:
        strangers.judge(found, size)
    except Invalid as fault:
        raise Unreadable(fault.sentence) from fault


def _is_wanted(info: zipfile.ZipInfo) -> bool:
    return strangers.is_content(info) and PurePosixPath(info.filename).suffix.lower() in _TAKEN
