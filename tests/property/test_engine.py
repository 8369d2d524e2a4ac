"""The engine answers as the naive evaluator does, and would be caught if it did not."""

import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

import cvf_app.engine.evaluate as engine
from cvf_app.engine import bitmaps, segments
from cvf_app.engine.append import append
from cvf_app.engine.build import Gathered, build
from cvf_app.engine.evaluate import evaluate
from cvf_app.engine.marks import gathered, packed
from cvf_app.engine.segments import Generation, Segment
from cvf_app.records.compile import compile_query
from tests.support import cases
from tests.support.evaluate import capabilities, ignored_paths, matching_ids

QUERIES = 12
tally: Counter[str] = Counter()


def differences(random: Random) -> list[str]:
    """Build a random generation, ask it questions, and tell every difference."""
    with tempfile.TemporaryDirectory() as folder:
        generation, subjects = _generation(random, Path(folder))
        found = _compare(random, generation, subjects)
        generation.close()
    return found


def _generation(random: Random, folder: Path):
    subjects = cases.subjects(random, random.randint(8, 40))
    # Small runs and segments, so that merging and several segments are met every time.
    build(
        subjects,
        folder / "1",
        run_subjects=random.randint(2, 9),
        segment_subjects=random.randint(5, 50),
    )
    if random.random() < 0.5:
        return Generation.open(folder / "1"), subjects
    gone = set(random.sample([one.subject_id for one in subjects], len(subjects) // 4))
    replaced = cases.subjects(random, random.randint(0, 4)) + cases.subjects(random, 3, first=100)
    gone |= {one.subject_id for one in replaced}
    append(folder / "1", folder / "2", replaced, gathered([packed(one.encode() for one in gone)]))
    live = [one for one in subjects if one.subject_id not in gone] + replaced
    return Generation.open(folder / "2", cache_bytes=1 << 14), live


def _compare(random: Random, generation: Generation, subjects) -> list[str]:
    found = []
    if generation.count != len(subjects):
        found.append("count")
    if generation.capability_keys != capabilities(subjects):
        found.append("capabilities")
    for _ in range(QUERIES):
        query = cases.query(random)
        expected = matching_ids(query, subjects)
        hits = evaluate(generation, compile_query(query))
        tally["all"] += 1
        tally["bite"] += 0 < len(expected) < len(subjects)
        if sorted(hits.ids()) != sorted(expected) or hits.count != len(expected):
            found.append(f"{query}: {sorted(hits.ids())} is not {sorted(expected)}")
        if list(hits.ignored) != ignored_paths(query, subjects):
            found.append(f"{query}: ignored {hits.ignored}")
    return found


class TestEngine:
    def test_answers_as_the_naive_evaluator_and_bites(self):
        tally.clear()

        @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
        # A seed, since choices that Hypothesis steers one by one lean to empty answers.
        @given(st.integers(0, 2**63))
        def agree(seed: int) -> None:
            assert differences(Random(seed)) == []

        agree()
        share = tally["bite"] / tally["all"]
        print(f"{tally['all']} cases, {share:.0%} neither nobody nor everybody")
        assert share >= 0.4

    @pytest.mark.parametrize(
        "fault", ["minimum", "negation", "frequency", "tombstones", "runs", "age", "lines"]
    )
    def test_a_planted_fault_is_found(self, fault: str, monkeypatch: pytest.MonkeyPatch):
        _plant(fault, monkeypatch)
        assert any(differences(Random(seed)) for seed in range(60))


def _plant(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: C901 - one per fault
    match fault:
        case "minimum":
            right = bitmaps.at_least
            monkeypatch.setattr(
                engine, "at_least", lambda sets, minimum, base: right(sets, min(minimum, 2), base)
            )
        case "negation":
            monkeypatch.setattr(
                engine,
                "_unless",
                lambda segment, _, rows, *, negated: segment.everybody - rows if negated else rows,
            )
        case "frequency":
            count = Generation._count_alleles  # noqa: SLF001 - a planted fault
            monkeypatch.setattr(
                Generation,
                "_count_alleles",
                lambda self: {name: 2 * share for name, share in count(self).items()},
            )
        case "tombstones":
            first = Segment.__init__
            monkeypatch.setattr(
                Segment,
                "__init__",
                lambda self, folder, entry, cache, _: first(self, folder, entry, cache, BitMap()),
            )
        case "runs":
            # The last row of every key of a run is lost.
            records = Gathered.records

            def losing(self: Gathered):
                for name, payload in records(self):
                    short = name[:1] == b"P" and len(payload) > 4
                    yield name, payload[:-4] if short else payload

            monkeypatch.setattr(Gathered, "records", losing)
        case "age":
            # The upper end of an age range is left out.
            holds = engine._holds  # noqa: SLF001 - a planted fault

            def exclusive(one, column):
                mask = holds(one, column)
                return mask & (column.values < one.high) if hasattr(one, "high") else mask

            monkeypatch.setattr(engine, "_holds", exclusive)
        case "lines":
            # Values are cut at their first character.
            texts = segments.Segment.texts

            def cut(self: Segment, kind, attribute):
                first, found = texts(self, kind, attribute)
                return first, [one[1:] for one in found]

            monkeypatch.setattr(segments.Segment, "texts", cut)
