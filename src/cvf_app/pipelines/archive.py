"""Zip archives from strangers: every entry is judged before the first one is read.

Promises: nothing is written to disk. What is not to be trusted is refused (`files/archive.py` says
what that is). What is no JSON is passed over.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import msgspec

from cvf_app.errors import Invalid
from cvf_app.files import archive as strangers
from cvf_app.pipelines.model import Unreadable

DAMAGE = strangers.DAMAGE
_TAKEN = {".json", ".jsonl", ".ndjson"}
_UTF8 = 0x800
# Bits 1 and 2 tell the pains of the packer, 3 that sizes follow, 11 that the name is UTF-8.
_USUAL_FLAGS = 0x80E
SMALL = 256 * 2**10
# APPNOTE.TXT 4.3.7: signature, version, flags, method, time, date, CRC, two sizes, two lengths.
_LOCAL = struct.Struct("<4s2xH18xHH")
_LOCAL_SIGN = b"PK\x03\x04"


class Entry(NamedTuple):
    """A JSON file in an archive: its path there, and its open content."""

    name: str
    content: IO[bytes]


class Packed(msgspec.Struct, frozen=True):
    """A small JSON file in an archive as it lies there, to be unpacked by `unpack`."""

    name: str
    deflated: bool
    size: int
    crc: int
    data: bytes


def entries(path: Path, advance: Callable[[int], None]) -> Iterator[Entry | Packed]:
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
            small = _packed(archive, info)
            if small is not None:
                yield small
                advance(info.compress_size)
                continue
            with _open(archive, info) as content:
                yield Entry(info.filename, content)
            advance(info.compress_size)


def unpack(entry: Packed) -> bytes:
    """Return the content of a small file.

    Raises:
        Unreadable: it is damaged.
    """
    try:
        data = entry.data
        if entry.deflated:
            # One byte more than it should have, so that a file that swells is seen.
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size + 1)
    except zlib.error as fault:
        raise damaged(entry.name, fault) from fault
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise damaged(entry.name, zipfile.BadZipFile("its content is not what was packed"))
    return data


def _packed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Packed | None:
    """Return a small file without unpacking it; anything unusual is left to the library."""
    file = archive.fp
    if file is None or max(info.file_size, info.compress_size) > SMALL:
        return None
    file.seek(info.header_offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size:
        return None
    sign, flags, name_size, extra_size = _LOCAL.unpack(head)
    name = file.read(name_size)
    if sign != _LOCAL_SIGN or flags & ~_USUAL_FLAGS or not _same_name(name, info):
        return None
    file.seek(extra_size, 1)
    data = file.read(info.compress_size)
    if len(data) < info.compress_size:
        return None
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Packed(info.filename, deflated, info.file_size, info.CRC, data)


def _same_name(name: bytes, info: zipfile.ZipInfo) -> bool:
    try:
        return name.decode("utf-8" if info.flag_bits & _UTF8 else "cp437") == info.orig_filename
    except UnicodeDecodeError:
        return False


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
