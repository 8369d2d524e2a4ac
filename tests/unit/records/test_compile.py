"""Compiling: ids in normal form, what restricts nothing left out, the rest refused by name."""

import pytest

from cvf_app.engine.plan import (
    AgeWithin,
    Comparison,
    NumberIs,
    OneOf,
    TermGroups,
    TextIs,
    TextMatches,
    WithAlleles,
    WithVariant,
)
from cvf_app.errors import Invalid
from cvf_app.records.compile import compile_query
from cvf_app.records.model import RecordQuery
from cvf_app.wire import convert


def _plan(**query):
    return compile_query(convert(query, RecordQuery))


class TestTerms:
    @pytest.mark.parametrize("term", ["HP:0001250", "hp:0001250", "0001250", " HP_0001250 "])
    def test_hpo_ids_lose_prefix_and_case(self, term: str):
        (one,) = _plan(hpo=[{"terms": [term]}]).filters
        assert one == TermGroups("$.hpo[0]", "hpo", (frozenset({"0001250"}),), 1)

    @pytest.mark.parametrize(
        "term", ["ORPHA:558", "orpha:00558", "558", "Orphanet_558", "ORDO:558"]
    )
    def test_ordo_ids_lose_prefix_and_leading_zeros(self, term: str):
        (one,) = _plan(ordo=[{"terms": [term]}]).filters
        assert one == TermGroups("$.ordo[0]", "ordo", (frozenset({"558"}),), 1)

    @pytest.mark.parametrize("term", ["SNOMED:84757009", "SCTID:84757009", "84757009"])
    def test_snomed_ids_lose_their_prefix(self, term: str):
        (one,) = _plan(snomed=[{"terms": [term]}]).filters
        assert one == TermGroups("$.snomed[0]", "snomed", (frozenset({"84757009"}),), 1)

    def test_the_same_term_twice_counts_once(self):
        (one,) = _plan(
            hpo=[{"terms": ["HP:0001250", "0001250", "0001251"], "minimumMatch": 2}]
        ).filters
        assert len(one.groups) == 2

    def test_no_terms_restrict_nothing(self):
        assert _plan(hpo=[{"terms": []}]).filters == ()


class TestFilters:
    def test_demographics_become_filters(self):
        subject = {
            "affectedOnly": True,
            "age": {"min": 0, "max": 17},
            "ageFirstSymptoms": {"min": 0, "max": 100},
            "familyType": {"family": True, "trios": True},
            "gender": "female",
        }
        assert _plan(subject=subject).filters == (
            AgeWithin("$.subject.age", "subject.age", "age", 0, 17),
            OneOf("$.subject.gender", "subject.gender", ("female",)),
            OneOf("$.subject.familyType", "subject.familyType", ("family", "trios")),
            OneOf("$.subject.affectedOnly", "subject.affected", ("true",)),
        )

    def test_any_gender_and_no_family_type_restrict_nothing(self):
        assert _plan(subject={"gender": "any", "familyType": {}}).filters == ()

    def test_genes_and_variants_become_filters(self):
        asked = _plan(
            genes=[
                {"alleles": [{"gene": "HLA-A", "alleles": ["02:01", "02:01"]}]},
                {"alleles": []},
            ],
            variant=[
                {"genes": ["TTN"], "mutation": ["missense"], "maxAf": 0.01, "useLocalAf": True}
            ],
        )
        assert asked.filters == (
            WithAlleles("$.genes[0]", "genes", (("HLA-A", ("02:01",)),)),
            WithVariant("$.variant[0]", "variant", ("TTN",), ("missense",), 0.01, True),
        )

    @pytest.mark.parametrize(
        ("relation", "value", "made"),
        [
            ("stringIs", "x", TextIs("$.eav[0]", "eav", "a", "x")),
            ("stringIs", True, TextIs("$.eav[0]", "eav", "a", True)),
            ("stringIsNot", "x", TextIs("$.eav[0]", "eav", "a", "x", negated=True)),
            ("regexContains", "x", TextMatches("$.eav[0]", "eav", "a", "x")),
            ("numericEquals", 5, NumberIs("$.eav[0]", "eav", "a", Comparison.EQUAL, 5.0)),
            (
                "numericLessThanOrEqual",
                2.5,
                NumberIs("$.eav[0]", "eav", "a", Comparison.AT_MOST, 2.5),
            ),
        ],
    )
    def test_attributes_become_filters(self, relation: str, value, made):
        eav = [{"attribute": "a", "relation": relation, "value": value}]
        assert _plan(eav=eav).filters == (made,)

    def test_required_kinds_are_flat_keys(self):
        named = {"subject": True, "hpo": True, "subjectCapability": {"age": True}}
        made = _plan(advanced={"requiredFilters": named})
        assert made.required == {"subject", "hpo", "subject.age"}


REFUSED = [
    ({"hpo": [{"terms": ["HP:0001250", "HP:12"]}]}, "$.hpo[0].terms[1]"),
    ({"hpo": [{"terms": ["ORPHA:0001250"]}]}, "$.hpo[0].terms[0]"),
    ({"ordo": [{"terms": ["ORPHA:1234567"]}]}, "$.ordo[0].terms[0]"),
    ({"snomed": [{"terms": ["12345"]}]}, "$.snomed[0].terms[0]"),
    ({"hpo": [{"terms": ["0001250", "HP:0001250"], "minimumMatch": 2}]}, "$.hpo[0].minimumMatch"),
    ({"hpo": [{"terms": ["0001250"], "minimumMatch": 0}]}, "$.hpo[0].minimumMatch"),
    ({"hpo": [{"terms": ["0001250"], "similarity": 0.5}]}, "$.hpo[0].similarity"),
    ({"hpo": [{"terms": ["0001250"], "similarity": 1.5}]}, "$.hpo[0].similarity"),
    ({"hpo": [{"terms": ["0001250"], "useOrphaNet": True}]}, "$.hpo[0].useOrphaNet"),
    ({"ordo": [{"terms": ["558"], "similarity": 0.5}]}, "$.ordo[0].similarity"),
    ({"ordo": [{"terms": ["558"], "useHPO": True}]}, "$.ordo[0].useHPO"),
    ({"variant": [{}, {"reactome": ["R-HSA-1"]}]}, "$.variant[1].reactome"),
    ({"variant": [{"maxAf": 5}]}, "$.variant[0].maxAf"),
    ({"subject": {"age": {"min": 5, "max": 4}}}, "$.subject.age"),
    ({"subject": {"age": {"min": 0, "max": 101}}}, "$.subject.age.max"),
    ({"subject": {"ageFirstSymptoms": {"min": -1, "max": 4}}}, "$.subject.ageFirstSymptoms.min"),
    ({"eav": [{"attribute": "a", "relation": "numericEquals", "value": "5"}]}, "$.eav[0].value"),
    ({"eav": [{"attribute": "a", "relation": "numericEquals", "value": True}]}, "$.eav[0].value"),
    ({"eav": [{"attribute": "a", "relation": "stringIs", "value": 5}]}, "$.eav[0].value"),
    ({"eav": [{"attribute": "a", "relation": "regexContains", "value": "("}]}, "$.eav[0].value"),
    ({"eav": [{"attribute": "a", "relation": "regexContains", "value": True}]}, "$.eav[0].value"),
]  # fmt: skip


class TestRefusals:
    @pytest.mark.parametrize(("query", "path"), REFUSED, ids=[path for _, path in REFUSED])
    def test_what_cannot_be_asked_names_its_field(self, query, path: str):
        with pytest.raises(Invalid) as caught:
            _plan(**query)
        assert caught.value.path == path
