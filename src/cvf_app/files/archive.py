"""Zip archives from strangers: every entry is judged before the first one is read; pure.

Refused are bombs (by ratio, size and number), paths that lead out, absolute paths, links,
encryption and archives inside.
"""

import stat
import zipfile
import zlib
from pathlib import PurePosixPath

from cvf_app.errors import Invalid

MOST_ENTRIES = 500_000
LARGEST_TOTAL = 16 * 2**30
LARGEST_RATIO = 200
_HARMLESS = 16 * 2**20
_NESTED = {".zip", ".gz", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz", ".zst"}
_ENCRYPTED = 0x1
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)
_PACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def judge(found: list[zipfile.ZipInfo], size: int, most_entries: int = MOST_ENTRIES) -> None:
    """Look at all entries of an archive that has so many bytes.

    Raises:
        Invalid: it is not to be trusted; the sentence says which entry and why.
    """
    if len(found) > most_entries:
        raise Invalid(f"The zip archive has more than {most_entries} entries.")
    total = 0
    for info in found:
        _check_one(info)
        total += info.file_size
        if info.file_size > _HARMLESS and info.file_size > LARGEST_RATIO * info.compress_size:
            raise Invalid(f"{info.filename!r} swells over {LARGEST_RATIO} times: a zip bomb.")
    if total > LARGEST_TOTAL or (total > _HARMLESS and total > LARGEST_RATIO * size):
        raise Invalid("The zip archive swells far beyond its size: a zip bomb.")


def is_content(info: zipfile.ZipInfo) -> bool:
    """Say whether an entry is a file that somebody meant to send: no folder and nothing hidden."""
    parts = PurePosixPath(info.filename).parts
    return not info.is_dir() and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _check_one(info: zipfile.ZipInfo) -> None:
    # `orig_filename` is what the archive says; zipfile cuts `filename` at a zero byte.
    name = info.orig_filename.replace("\\", "/")
    path = PurePosixPath(name)
    if name.startswith("/") or ":" in name.split("/")[0] or "\0" in name:
        raise Invalid(f"{name!r} in the zip archive is an absolute path.")
    if ".." in path.parts:
        raise Invalid(f"{name!r} in the zip archive leads out of its folder.")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Invalid(f"{name!r} in the zip archive is a link or no plain file.")
    if info.compress_type not in _PACKED:
        raise Invalid(f"{name!r} in the zip archive is packed in a way that is not read here.")
    if info.flag_bits & _ENCRYPTED:
        raise Invalid(f"{name!r} in the zip archive is encrypted.")
    if path.suffix.lower() in _NESTED:
        raise Invalid(f"{name!r} is an archive inside the zip archive; unpack it first.")
