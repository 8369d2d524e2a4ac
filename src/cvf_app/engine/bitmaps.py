"""Bitmaps out of rows and masks, and the algebra of "at least so many of these sets"."""

import struct
from array import array
from collections.abc import Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

Rows = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]
_BLOCK = 1 << 16
_ARRAY_MOST = 4096
_NO_RUNS = 12346
# With fewer rows than this share of all, taking them one by one is quicker.
_SPARSE = 64


def of_rows(rows: Rows) -> BitMap:
    """Return the set of some rows, in any order."""
    # A numpy array would be taken element by element; a plain array is read at once.
    return BitMap(array("I", rows.tobytes()))


def of_many(rows: Rows, count: int) -> BitMap:
    """Return the set of rows below `count`, by way of a mask when they are many."""
    if len(rows) * _SPARSE < count:
        return of_rows(rows)
    mask = np.zeros(count, np.bool_)
    mask[rows] = True
    return of_mask(mask)


def of_mask(mask: Mask) -> BitMap:
    """Return the set of the rows that a mask is true for."""
    # The portable format of Roaring: a head, a description of every block, where each
    # begins, and then the blocks, as bits or, up to 4096 members, as a sorted array.
    heads: list[bytes] = []
    blocks: list[bytes] = []
    for number, start in enumerate(range(0, len(mask), _BLOCK)):
        block = mask[start : start + _BLOCK]
        members = int(np.count_nonzero(block))
        if not members:
            continue
        heads.append(struct.pack("<HH", number, members - 1))
        if members <= _ARRAY_MOST:
            blocks.append(np.flatnonzero(block).astype("<u2").tobytes())
        else:
            blocks.append(
                np.packbits(block, bitorder="little").tobytes().ljust(_BLOCK // 8, b"\x00")
            )
    offsets = np.cumsum([8 + 8 * len(blocks), *map(len, blocks)][: len(blocks)], dtype="<u4")
    return BitMap.deserialize(
        struct.pack("<II", _NO_RUNS, len(blocks))
        + b"".join(heads)
        + offsets.tobytes()
        + b"".join(blocks)
    )


def all_of(sets: Sequence[BitMap]) -> BitMap | None:
    """Return what is in all sets, or nothing known if there are none."""
    return reduce(BitMap.__and__, sorted(sets, key=len)) if sets else None


def at_least(sets: Sequence[BitMap], minimum: int, base: BitMap | None) -> BitMap:
    """Return the rows that are in at least `minimum` of the sets, and in `base` if there is one.

    `met[j]` are the rows that are in at least `j` sets so far; a `j` that can no longer
    reach the minimum with the sets that are left is not kept up.
    """
    within = [one if base is None else one & base for one in sets]
    within.sort(key=len)
    if minimum > len(within):
        return BitMap()
    if minimum == 1:
        return BitMap.union(*within)
    if minimum == len(within):
        return reduce(BitMap.__and__, within)
    met = [BitMap() for _ in range(minimum + 1)]
    for seen, rows in enumerate(within):
        left = len(within) - seen - 1
        for j in range(min(minimum, seen + 1), max(1, minimum - left - 1), -1):
            met[j] |= met[j - 1] & rows
        if left + 1 >= minimum:
            met[1] |= rows
    return met[minimum]
