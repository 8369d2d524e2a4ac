"""Columns: whatever their layout, they hold the same numbers and meet the same comparisons."""

import operator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvf_app.engine.columns import ColumnReader, ColumnWriter, Dense, Listed, Numbers, Small

COUNT = 70_000
_COMPARISONS = (operator.eq, operator.gt, operator.lt, operator.ge, operator.le)


def _numbers(rows, values) -> Numbers:
    return Numbers(np.array(rows, np.uint32), np.array(values, np.float64))


def _written(folder: Path, *columns):
    writer = ColumnWriter(folder)
    entries = [writer.add(pieces) for pieces in columns]
    writer.close()
    reader = ColumnReader(lambda name, kind: np.fromfile(folder / name, kind))
    return [reader.column(*entry) for entry in entries]


class TestLayouts:
    def test_each_column_lies_as_suits_it_and_comes_back_whole(self, tmp_path: Path):
        columns = [
            [_numbers([0, 1, 3], [0, 254, 7]), _numbers([9], [30])],
            [_numbers([0, 1, 2], [0.5, -1, float("inf")]), _numbers([4], [3])],
            [_numbers([1, 1, 2], [1, 2, 3])],
            [_numbers([5, 60_000], [1, 2])],
            [_numbers([0, 1], [255, 1])],
            [_numbers([2, 3, 4], [7, 8, 9])],
        ]
        kinds = [Small, Dense, Listed, Listed, Dense, Small]
        for pieces, found, kind in zip(columns, _written(tmp_path, *columns), kinds, strict=True):
            assert type(found) is kind
            whole = found.numbers()
            assert whole.rows.tolist() == [row for one in pieces for row in one.rows.tolist()]
            assert whole.values.tolist() == [it for one in pieces for it in one.values.tolist()]

    @pytest.mark.parametrize("step", [1, 3, 50])
    @pytest.mark.parametrize("whole", [True, False])
    def test_comparisons_agree_with_the_numbers_themselves(
        self, tmp_path: Path, step: int, *, whole: bool
    ):
        draw = np.random.default_rng(step)
        rows = np.arange(1, COUNT - 100, step)
        values = draw.integers(0, 255, len(rows)) + (0.0 if whole else 0.25)
        (column,) = _written(tmp_path, [_numbers(rows, values)])
        some = np.flatnonzero(draw.random(COUNT) < 0.01).astype(np.uint32)
        for limit in (-1, 0, 0.25, 30, 30.5, 254, 255, 1e300):
            for compare in _COMPARISONS:

                def holds(numbers: Numbers, compare=compare, limit=limit):
                    return compare(numbers.values, limit)

                wanted = rows[compare(values, limit)].tolist()
                assert list(column.meeting(holds, COUNT)) == wanted
                near = column.of(some)
                expected = sorted(set(wanted) & set(some.tolist()))
                assert near.rows[holds(near)].tolist() == expected

    @given(st.integers(0, 300), st.integers(0, 300))
    def test_a_range_of_small_numbers_holds_both_ends(self, low: int, high: int):
        values = np.arange(256, dtype=np.uint8)

        def holds(numbers: Numbers):
            return (numbers.values >= low) & (numbers.values <= high)

        # The last is the mark of a row without a number.
        expected = list(range(low, min(high, 254) + 1))
        assert list(Small(values).meeting(holds, 256)) == expected
