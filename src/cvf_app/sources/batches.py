"""Files of subjects, one JSON document a line, cut into compressed batches and put together again.

Promises: memory is bounded by one batch. The functions wait for the disk: call them in a thread.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from cvf_app.engine.marks import packed
from cvf_app.errors import Invalid
from cvf_app.files.place import room
from cvf_app.wire import Wire

MOST_SUBJECTS = 500
MOST_BYTES = 4 * 2**20
LARGEST_SUBJECT = 12 * 2**20
_QUICK = 3


@dataclass(frozen=True)
class Batch:
    """Some subjects: how many, the marks of their ids, and their lines, compressed."""

    subjects: int
    marks: bytes
    data: bytes


class Named(Wire, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The one field of a subject that is needed to sort and to find it."""

    subject_id: str


NAMED = msgspec.json.Decoder(Named)


def cut(path: Path) -> Iterator[Batch]:
    """Yield the lines of a file in batches.

    Raises:
        Invalid: one subject is too large to be kept.
    """
    lines: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        for line in file:
            if len(line) > LARGEST_SUBJECT:
                raise Invalid(
                    f"One subject has more than {LARGEST_SUBJECT} bytes; that cannot be kept."
                )
            if lines and (len(lines) == MOST_SUBJECTS or size + len(line) > MOST_BYTES):
                yield _batch(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
    if lines:
        yield _batch(lines)


def marks_of(lines: list[bytes]) -> bytes:
    """Return the marks of the subjects of some lines."""
    return packed(NAMED.decode(line).subject_id.encode() for line in lines)


def add(batch: bytes, file: BinaryIO) -> None:
    """Write a batch's lines to the end of a file."""
    with room():
        file.write(zlib.decompress(batch))


def _batch(lines: list[bytes]) -> Batch:
    return Batch(len(lines), marks_of(lines), zlib.compress(b"".join(lines), _QUICK))
