"""Numeric columns of a segment: how they lie on the disk, and how they are read from there.

A column in which some row has several numbers, or that few rows have, is *listed*: rows
and numbers side by side. Any other is a row after the other, so that a row's number is
found without a search: as doubles (*dense*), or, if all are whole and small such as ages,
as bytes (*small*), of which a million are compared in a fraction of a millisecond. Rows
without a number hold NaN or 255, which no comparison meets.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from cvf_app.engine.bitmaps import Mask, Rows, of_many, of_mask

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
_LISTED, _DENSE, _SMALL = range(3)
# The layout stands above the size in the index; no column has so many numbers.
_LAYOUT_AT = 56
_SIZE = (1 << _LAYOUT_AT) - 1
_NONE = 255
_SMALLS = np.arange(_NONE, dtype=np.float64)
_NO_ROWS: Rows = np.empty(0, np.uint32)
_BUFFER = 1 << 16


@dataclass(frozen=True, slots=True)
class Numbers:
    """Rows in ascending order (one may stand several times) and their numbers."""

    rows: Rows
    values: Floats


Holds = Callable[[Numbers], Mask]


@dataclass(frozen=True, slots=True)
class Listed:
    """A column of rows and their numbers, side by side."""

    whole: Numbers

    @property
    def size(self) -> int:
        """How many numbers a comparison of all goes through."""
        return len(self.whole.rows)

    def numbers(self) -> Numbers:
        """Return the whole column."""
        return self.whole

    def of(self, wanted: Rows) -> Numbers:
        """Return what is there of some rows, which are in ascending order."""
        rows, values = self.whole.rows, self.whole.values
        first = np.searchsorted(rows, wanted)
        # A row of a list stands several times, one after another.
        last = np.searchsorted(rows, wanted, side="right")
        sizes = last - first
        if not sizes.any():
            return Numbers(rows[:0], values[:0])
        if sizes.max() == 1:
            places = first[sizes == 1]
        else:
            offsets = np.repeat(first - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes)
            places = offsets + np.arange(sizes.sum())
        return Numbers(rows[places], values[places])

    def meeting(self, holds: Holds, count: int) -> BitMap:
        """Return the rows, all below `count`, of which some number meets a condition."""
        return of_many(self.whole.rows[holds(self.whole)], count)


@dataclass(frozen=True, slots=True)
class Dense:
    """A column of one double for every row."""

    values: Floats

    @property
    def size(self) -> int:
        """How many numbers a comparison of all goes through."""
        return len(self.values)

    def numbers(self) -> Numbers:
        """Return the whole column."""
        return self.of(np.arange(len(self.values), dtype=np.uint32))

    def of(self, wanted: Rows) -> Numbers:
        """Return what is there of some rows, which are in ascending order."""
        near = wanted[: np.searchsorted(wanted, len(self.values))]
        values = self.values[near]
        there = ~np.isnan(values)
        return Numbers(near[there], values[there])

    def meeting(self, holds: Holds, _: int) -> BitMap:
        """Return the rows of which the number meets a condition."""
        return of_mask(holds(Numbers(_NO_ROWS, self.values)))


@dataclass(frozen=True, slots=True)
class Small:
    """A column of one byte for every row: a whole number below 255, or none."""

    values: Bytes

    @property
    def size(self) -> int:
        """How many numbers a comparison of all goes through."""
        return len(self.values)

    def numbers(self) -> Numbers:
        """Return the whole column."""
        return self.of(np.arange(len(self.values), dtype=np.uint32))

    def of(self, wanted: Rows) -> Numbers:
        """Return what is there of some rows, which are in ascending order."""
        near = wanted[: np.searchsorted(wanted, len(self.values))]
        values = self.values[near]
        there = values != _NONE
        return Numbers(near[there], values[there].astype(np.float64))

    def meeting(self, holds: Holds, _: int) -> BitMap:
        """Return the rows of which the number meets a condition."""
        # Every comparison holds for numbers that follow one another, so two ends tell all.
        met = np.flatnonzero(holds(Numbers(_NO_ROWS, _SMALLS)))
        if not len(met):
            return BitMap()
        low, width = np.uint8(met[0]), np.uint8(met[-1] - met[0])
        # Numbers below the low end wrap around to large ones.
        return of_mask((self.values - low) <= width)


Column = Listed | Dense | Small


class ColumnWriter:
    """Writes the columns of a segment, one after another."""

    def __init__(self, folder: Path) -> None:
        """Open the files."""
        self._rows = (folder / "number_rows.bin").open("wb", buffering=_BUFFER)
        self._listed = (folder / "numbers.bin").open("wb", buffering=_BUFFER)
        self._dense = (folder / "dense_numbers.bin").open("wb", buffering=_BUFFER)
        self._smalls = (folder / "small_numbers.bin").open("wb", buffering=_BUFFER)

    def close(self) -> None:
        """Let go of the files."""
        for file in (self._rows, self._listed, self._dense, self._smalls):
            file.close()

    def add(self, pieces: Sequence[Numbers]) -> tuple[int, int]:
        """Write a column, given in pieces of ascending rows, and return its entry in the index."""
        layout = _layout(pieces)
        if layout == _LISTED:
            start = self._rows.tell() // 4
            for piece in pieces:
                self._rows.write(piece.rows.tobytes())
                self._listed.write(piece.values.tobytes())
            size = sum(len(piece.rows) for piece in pieces)
            return start, size
        if layout == _DENSE:
            start = self._dense.tell() // 8
            for values in _filled(pieces, float("nan"), np.dtype(np.float64)):
                self._dense.write(values.tobytes())
        else:
            start = self._smalls.tell()
            for values in _filled(pieces, _NONE, np.dtype(np.uint8)):
                self._smalls.write(values.tobytes())
        return start, _length(pieces) | layout << _LAYOUT_AT


class ColumnReader:
    """The mapped columns of a segment."""

    def __init__(self, mapped: Callable[[str, Any], npt.NDArray[Any]]) -> None:
        """Map the files, given how an array is mapped by name and type."""
        self._rows = mapped("number_rows.bin", np.uint32)
        self._listed = mapped("numbers.bin", np.float64)
        self._dense = mapped("dense_numbers.bin", np.float64)
        self._small = mapped("small_numbers.bin", np.uint8)

    def column(self, start: int, size: int) -> Column:
        """Return the column that an entry of the index stands for."""
        layout = size >> _LAYOUT_AT
        piece = slice(start, start + (size & _SIZE))
        if layout == _SMALL:
            return Small(self._small[piece])
        if layout == _DENSE:
            return Dense(self._dense[piece])
        return Listed(Numbers(self._rows[piece], self._listed[piece]))


def _length(pieces: Sequence[Numbers]) -> int:
    return int(pieces[-1].rows[-1]) + 1


def _layout(pieces: Sequence[Numbers]) -> int:
    if not all(np.all(piece.rows[1:] > piece.rows[:-1]) for piece in pieces):
        return _LISTED
    # A listed number takes twelve bytes, so neither of the others may be larger than that.
    listed = 12 * sum(len(piece.rows) for piece in pieces)
    if listed >= _length(pieces) and all(_all_small(piece.values) for piece in pieces):
        return _SMALL
    return _DENSE if listed >= 8 * _length(pieces) else _LISTED


def _all_small(values: Floats) -> bool:
    return bool(np.all((values >= 0) & (values < _NONE) & (values == np.floor(values))))


def _filled(
    pieces: Sequence[Numbers], none: float, kind: np.dtype[Any]
) -> Iterator[npt.NDArray[Any]]:
    """Give the rows of each piece without gaps, from where the piece before it ended."""
    start = 0
    for piece in pieces:
        end = int(piece.rows[-1]) + 1
        values = np.full(end - start, none, kind)
        values[piece.rows - np.uint32(start)] = piece.values
        yield values
        start = end
