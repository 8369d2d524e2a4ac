"""Sets out of rows, and "at least so many of these", against plain counting."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from pyroaring import BitMap

from cvf_app.engine.bitmaps import at_least, of_many


class TestOfMany:
    @pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.3, 1.0])
    def test_rows_become_the_same_set_by_either_way(self, share: float):
        random = np.random.default_rng(1)
        rows = np.flatnonzero(random.random(200_001) < share).astype(np.uint32)
        assert of_many(rows, 200_001) == BitMap(rows.tolist())

    def test_an_empty_middle_block_is_left_out(self):
        rows = np.concatenate((np.arange(9000), np.arange(140_000, 140_010))).astype(np.uint32)
        assert of_many(rows, 150_000) == BitMap(rows.tolist())


class TestAtLeast:
    def test_it_counts_as_plain_counting_does(self):
        random = Random(5)
        for _ in range(300):
            sets = [
                BitMap(random.sample(range(30), random.randint(0, 20)))
                for _ in range(random.randint(1, 9))
            ]
            minimum = random.randint(1, 10)
            base = BitMap(random.sample(range(30), 15)) if random.random() < 0.5 else None
            counts = Counter(row for one in sets for row in one)
            expected = {
                row
                for row, count in counts.items()
                if count >= minimum and (base is None or row in base)
            }
            assert set(at_least(sets, minimum, base)) == expected
