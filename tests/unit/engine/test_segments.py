"""Generations: written whole, opened lazily, shared by threads, changed by delta segments."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from pyroaring import BitMap

from cvf_app.engine.append import append
from cvf_app.engine.build import build
from cvf_app.engine.cache import BitmapCache
from cvf_app.engine.evaluate import evaluate
from cvf_app.engine.marks import gathered, packed
from cvf_app.engine.plan import EAV, GENDER, HPO, Comparison, NumberIs, OneOf, Plan, TermGroups
from cvf_app.engine.segments import Generation
from cvf_app.errors import Unavailable
from cvf_app.records.compile import compile_query
from cvf_app.subject import Sex, Subject, SubjectId
from cvf_app.wire import decode
from tests.support import cases
from tests.support.evaluate import matching_ids


def _subject(name: str, **fields) -> Subject:
    return Subject(subject_id=SubjectId(name), **fields)


def _has(term: str) -> Plan:
    return Plan((TermGroups("$.hpo[0]", HPO, (frozenset({term}),), 1),))


class TestBuild:
    def test_nobody_makes_an_empty_generation(self, tmp_path: Path):
        assert build([], tmp_path / "1") == 0
        generation = Generation.open(tmp_path / "1")
        assert generation.count == 0
        assert generation.capability_keys == frozenset()
        assert generation.attributes() == {}
        assert evaluate(generation, Plan()).count == 0

    def test_a_subject_with_nothing_can_be_found_and_read(self, tmp_path: Path):
        build([_subject("é/1")], tmp_path / "1")
        hits = evaluate(Generation.open(tmp_path / "1"), Plan())
        assert hits.ids() == ("é/1",)
        assert decode(hits.documents()[0], Subject) == _subject("é/1")

    def test_documents_come_back_whole_and_limited(self, tmp_path: Path):
        subjects = cases.subjects(Random(1), 30)
        build(subjects, tmp_path / "1", run_subjects=4, segment_subjects=11)
        hits = evaluate(Generation.open(tmp_path / "1"), Plan())
        assert [decode(one, Subject) for one in hits.documents()] == subjects
        assert hits.ids(12) == tuple(one.subject_id for one in subjects[:12])
        assert hits.ids(0) == ()

    def test_progress_tells_the_number_of_subjects(self, tmp_path: Path):
        told: list[int] = []
        build(cases.subjects(Random(1), 5), tmp_path / "1", progress=told.append)
        assert told == [5]

    def test_a_failing_stream_leaves_the_old_generation(self, tmp_path: Path):
        build([_subject("old")], tmp_path / "1")

        def failing():
            yield _subject("new")
            message = "the stream broke"
            raise OSError(message)

        with pytest.raises(OSError, match="broke"):
            build(failing(), tmp_path / "1")
        assert evaluate(Generation.open(tmp_path / "1"), Plan()).ids() == ("old",)
        assert [path.name for path in tmp_path.iterdir()] == ["1"]

    def test_a_second_build_takes_the_place_of_the_first(self, tmp_path: Path):
        build([_subject("old")], tmp_path / "1")
        build([_subject("new")], tmp_path / "1")
        assert evaluate(Generation.open(tmp_path / "1"), Plan()).ids() == ("new",)


class TestGeneration:
    def test_a_missing_generation_is_said_to_be_missing(self, tmp_path: Path):
        with pytest.raises(Unavailable, match="not on this machine"):
            Generation.open(tmp_path / "none")

    def test_capabilities_and_attributes_tell_what_is_there(self, tmp_path: Path):
        subjects = [
            _subject("1", sex=Sex.MALE, eav={"n": 5, "f": 2.5, "t": "x", "b": True, "none": ()}),
            _subject("2", eav={"n": ("a", 7)}),
        ]
        build(subjects, tmp_path / "1")
        generation = Generation.open(tmp_path / "1")
        assert generation.capability_keys == {"subject.gender", "eav"}
        assert generation.attributes() == {
            "b": ("true",),
            "f": ("2.5",),
            "n": ("5", "7", "a"),
            "t": ("x",),
        }

    def test_many_values_are_cut_at_a_thousand(self, tmp_path: Path):
        build([_subject(str(at), eav={"code": f"c{at}"}) for at in range(1200)], tmp_path / "1")
        assert len(Generation.open(tmp_path / "1").attributes()["code"]) == 1000

    def test_threads_share_a_generation(self, tmp_path: Path):
        subjects = cases.subjects(Random(3), 60)
        build(subjects, tmp_path / "1", run_subjects=7, segment_subjects=25)
        generation = Generation.open(tmp_path / "1", cache_bytes=1 << 12)
        queries = [cases.query(Random(seed)) for seed in range(60)] * 3
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda one: evaluate(generation, compile_query(one)).ids(), queries)
            for query, ids in zip(queries, found, strict=True):
                assert sorted(ids) == sorted(matching_ids(query, subjects))

    def test_answers_outlive_the_generation(self, tmp_path: Path):
        build([_subject("1")], tmp_path / "1")
        generation = Generation.open(tmp_path / "1")
        hits = evaluate(generation, Plan())
        generation.close()
        assert hits.ids() == ("1",)
        with pytest.raises(Unavailable):
            evaluate(generation, Plan())

    def test_a_filter_without_data_is_ignored_and_told(self, tmp_path: Path):
        build([_subject("1")], tmp_path / "1")
        generation = Generation.open(tmp_path / "1")
        hits = evaluate(generation, _has("0000001"))
        assert (hits.count, hits.ignored) == (1, ("$.hpo[0]",))
        asked = Plan(_has("0000001").filters, frozenset({HPO}))
        assert (evaluate(generation, asked).count, evaluate(generation, asked).ignored) == (0, ())

    def test_lists_of_numbers_match_by_any_among_few_and_many(self, tmp_path: Path):
        subjects = [
            _subject(
                str(at),
                sex=Sex.MALE if at < 20 else Sex.FEMALE,
                eav={"n": (at, 1000 - at, "x")},
            )
            for at in range(500)
        ]
        build(subjects, tmp_path / "1")
        generation = Generation.open(tmp_path / "1")
        above = NumberIs("$.eav[0]", EAV, "n", Comparison.GREATER, 985)
        assert evaluate(generation, Plan((above,))).count == 15
        few = Plan((OneOf("$.subject.gender", GENDER, ("male",)), above))
        assert evaluate(generation, few).count == 15


def _marks(*ids: str):
    return gathered([packed(one.encode() for one in ids)])


class TestAppend:
    def test_removed_and_replaced_subjects_are_nowhere(self, tmp_path: Path):
        old = [_subject("1", hpo=("0000001",)), _subject("2", hpo=("0000001",), eav={"a": "x"})]
        build([*old, _subject("3")], tmp_path / "1")
        total = append(
            tmp_path / "1", tmp_path / "2", [_subject("1", ordo=("5",))], _marks("1", "2")
        )
        generation = Generation.open(tmp_path / "2")
        assert total == generation.count == 2
        assert sorted(evaluate(generation, Plan()).ids()) == ["1", "3"]
        assert generation.capability_keys == {"ordo"}
        assert generation.attributes() == {}

    def test_the_old_generation_stays_as_it_was(self, tmp_path: Path):
        build([_subject("1")], tmp_path / "1")
        append(tmp_path / "1", tmp_path / "2", [], _marks("1"))
        append(tmp_path / "2", tmp_path / "3", [_subject("1"), _subject("2")], _marks("1", "2"))
        assert Generation.open(tmp_path / "1").count == 1
        assert Generation.open(tmp_path / "2").count == 0
        assert evaluate(Generation.open(tmp_path / "3"), Plan()).ids() == ("1", "2")


class TestCache:
    def test_it_stays_within_its_bound_and_keeps_the_last_used(self):
        cache = BitmapCache(4000)
        for number in range(50):
            cache.get(number, lambda: BitMap(range(100)))
            cache.get(0, lambda: BitMap(range(100)))
        assert cache.size <= 4000
        made: list[int] = []
        cache.get(0, lambda: made.append(0) or BitMap())
        assert made == []
