"""Marks of subjects: eight bytes made of an id, to find few among many without the ids. Pure.

Two ids may share a mark. Whoever works by marks must treat all subjects of a mark alike, then
nothing depends on how seldom that is.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Marks = npt.NDArray[np.uint64]
_BYTES = 8
_KIND = np.dtype("<u8")


def packed(ids: Iterable[bytes]) -> bytes:
    """Return the marks of some ids, one after another."""
    return b"".join(blake2b(each, digest_size=_BYTES).digest() for each in ids)


def unpacked(data: bytes) -> Marks:
    """Return marks that were packed, in their order."""
    return np.frombuffer(data, _KIND)


def gathered(parts: Iterable[bytes]) -> Marks:
    """Return packed marks as `among` wants them: in ascending order, each once."""
    return np.unique(unpacked(b"".join(parts)))


def among(marks: Marks, wanted: Marks) -> npt.NDArray[np.bool_]:
    """Say of each mark whether it is one of the wanted, which are in ascending order."""
    if not len(wanted):
        return np.zeros(len(marks), np.bool_)
    places = np.searchsorted(wanted, marks)
    places[places == len(wanted)] = 0
    found: npt.NDArray[np.bool_] = wanted[places] == marks
    return found
