"""Short options of `cvf query` become the published query."""

import pytest

from cvf_app.console.asking import Asked, age_range, build, eav_filter
from cvf_app.console.failures import Misused
from cvf_app.records.model import RecordQuery
from cvf_app.wire import convert


class TestBuild:
    def test_nothing_asked_is_an_empty_query(self) -> None:
        assert build(Asked()) == {}

    def test_all_options_make_a_query_that_the_server_takes(self) -> None:
        asked = Asked(
            hpo=["HP:0001250", "HP:0000252"],
            hpo_all=True,
            ordo=["ORPHA:33069"],
            snomed=["84757009"],
            sex="female",
            age="0-17",
            age_onset="5",
            age_diagnosis="18-",
            affected=True,
            family=["trios"],
            gene=["SCN1A"],
            mutation=["missense"],
            max_af=0.01,
            allele=["HLA-A=02:01,03:01"],
            eav=["grade>=2"],
            depth="count",
            require=["hpo"],
        )
        query = build(asked)
        convert(query, RecordQuery)
        assert query["hpo"] == [{"terms": ["HP:0001250", "HP:0000252"], "minimumMatch": 2}]
        assert query["subject"]["ageFirstDiagnosis"] == {"min": 18, "max": 100}

    @pytest.mark.parametrize(
        "asked",
        [Asked(hpo_all=True), Asked(at_least=2), Asked(hpo=["1"], hpo_all=True, at_least=1)],
    )
    def test_term_options_without_sense_are_refused(self, asked: Asked) -> None:
        with pytest.raises(Misused):
            build(asked)


class TestEavFilter:
    @pytest.mark.parametrize(
        ("said", "relation", "value"),
        [
            ("grade>=2", "numericGreaterThanOrEqual", 2),
            ("grade = 2.5", "numericEquals", 2.5),
            ('grade="2"', "stringIs", "2"),
            ("grade!=II", "stringIsNot", "II"),
            ("note~^a.*=b$", "regexContains", "^a.*=b$"),
            ("note!~x", "regexDoesNotContain", "x"),
        ],
    )
    def test_comparisons_are_read(self, said: str, relation: str, value: object) -> None:
        found = eav_filter(said)
        assert found == {"attribute": found["attribute"], "relation": relation, "value": value}
        assert found["attribute"] in ("grade", "note")

    @pytest.mark.parametrize("said", ["grade", "=2", "grade=", "grade>high"])
    def test_what_is_no_comparison_is_refused(self, said: str) -> None:
        with pytest.raises(Misused):
            eav_filter(said)


class TestAgeRange:
    @pytest.mark.parametrize(
        ("said", "low", "high"), [("0-17", 0, 17), ("18-", 18, 100), ("42", 42, 42)]
    )
    def test_ranges_are_read(self, said: str, low: int, high: int) -> None:
        assert age_range(said) == {"min": low, "max": high}

    @pytest.mark.parametrize("said", ["17-0", "-5", "old", "0-101", ""])
    def test_what_is_no_range_is_refused(self, said: str) -> None:
        with pytest.raises(Misused):
            age_range(said)
