"""Files of subjects, one JSON document a line, cut into compressed batches and put together again.

Promises: memory is bounded by one batch. The functions wait for the disk: call them in a thread.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cvf_app.errors import Invalid
from cvf_app.files.place import room

MOST_SUBJECTS = 500
MOST_BYTES = 4 * 2**20
LARGEST_SUBJECT = 12 * 2**20
_QUICK = 3


def cut(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield batches of a file's lines, compressed, each with its number of subjects.

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
                yield len(lines), zlib.compress(b"".join(lines), _QUICK)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
    if lines:
        yield len(lines), zlib.compress(b"".join(lines), _QUICK)


def add(batch: bytes, file: BinaryIO) -> None:
    """Write a batch's lines to the end of a file."""
    with room():
        file.write(zlib.decompress(batch))
