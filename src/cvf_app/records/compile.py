"""From a record query to a plan: what it asks, in normal form, or why it cannot be asked.

Pure. Term ids lose their prefixes here, filters that restrict nothing are left out,
and what this instance does not do yet is refused with the name of the field.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cvf_app.engine import plan, text
from cvf_app.engine.keys import number
from cvf_app.errors import Invalid
from cvf_app.records.model import (
    AgeFilter,
    EavFilter,
    EavRelation,
    HpoFilter,
    OrdoFilter,
    RecordQuery,
    SnomedFilter,
    SubjectFilter,
    VariantFilter,
)
from cvf_app.subject import Capability

OLDEST = 100


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How the ids of a vocabulary are written."""

    name: str
    shape: re.Pattern[str]
    example: str


HPO = Vocabulary("HPO", re.compile(r"(?:HP[:_])?([0-9]{7})", re.IGNORECASE), "HP:0001250")
ORDO = Vocabulary(
    "ORDO",
    re.compile(r"(?:(?:ORPHA(?:NET)?|ORDO)[:_])?(?:ORPHANET_)?0*([1-9][0-9]{0,5})", re.IGNORECASE),
    "ORPHA:166024",
)
SNOMED = Vocabulary(
    "SNOMED CT",
    re.compile(r"(?:(?:SNOMED(?:[ _-]?CT)?|SCTID|SCT)[:_])?([1-9][0-9]{5,17})", re.IGNORECASE),
    "SNOMED:84757009",
)

_COMPARISONS = {
    EavRelation.NUMERIC_EQUALS: plan.Comparison.EQUAL,
    EavRelation.NUMERIC_NOT_EQUALS: plan.Comparison.EQUAL,
    EavRelation.NUMERIC_GREATER_THAN: plan.Comparison.GREATER,
    EavRelation.NUMERIC_LESS_THAN: plan.Comparison.LESS,
    EavRelation.NUMERIC_GREATER_THAN_OR_EQUAL: plan.Comparison.AT_LEAST,
    EavRelation.NUMERIC_LESS_THAN_OR_EQUAL: plan.Comparison.AT_MOST,
}


def kind_of(query: RecordQuery) -> str:
    """Return what a query filters, in one word for statistics; without any filter, `everybody`."""
    filters = {
        "subject": query.subject is not None,
        "hpo": bool(query.hpo),
        "ordo": bool(query.ordo),
        "genes": bool(query.genes),
        "snomed": bool(query.snomed),
        "variant": bool(query.variant),
        "eav": bool(query.eav),
    }
    given = [name for name, there in filters.items() if there]
    return "mixed" if len(given) > 1 else next(iter(given), "everybody")


def compile_query(query: RecordQuery) -> plan.Plan:
    """Say what a query asks of one generation.

    Raises:
        Invalid: a field holds what cannot be asked; the path says which.
    """
    filters = [
        *(_subject(query.subject) if query.subject is not None else ()),
        *_hpo(query.hpo),
        *_ordo(query.ordo),
        *_snomed(query.snomed),
        *_genes(query),
        *_variants(query.variant),
        *(_eav(one, f"$.eav[{at}]") for at, one in enumerate(query.eav)),
    ]
    required = query.advanced.required_filters if query.advanced is not None else None
    return plan.Plan(
        filters=tuple(filters), required=_required(required) if required else frozenset()
    )


def normal_id(term: str, vocabulary: Vocabulary, path: str) -> str:
    """Return a term's id as subjects hold it, without a prefix.

    Raises:
        Invalid: this is no id of the vocabulary.
    """
    found = vocabulary.shape.fullmatch(term.strip())
    if found is None:
        raise Invalid(
            f"This is not an id of {vocabulary.name}, such as {vocabulary.example}.", path=path
        )
    return found[1]


def _subject(asked: SubjectFilter) -> Iterator[plan.Filter]:
    ages = (
        ("age", asked.age),
        ("ageFirstSymptoms", asked.age_first_symptoms),
        ("ageFirstDiagnosis", asked.age_first_diagnosis),
    )
    for name, age in ages:
        if age is not None and _restricts(age, f"$.subject.{name}"):
            yield plan.AgeWithin(f"$.subject.{name}", plan.AGE, name, age.min, age.max)
    if asked.gender != "any":
        yield plan.OneOf("$.subject.gender", plan.GENDER, (asked.gender,))
    if asked.family_type is not None:
        kinds = ("family", "singletons", "trios")
        wanted = tuple(kind for kind in kinds if getattr(asked.family_type, kind))
        if wanted:
            yield plan.OneOf("$.subject.familyType", plan.FAMILY_TYPE, wanted)
    if asked.affected_only:
        yield plan.OneOf("$.subject.affectedOnly", plan.AFFECTED, ("true",))


def _restricts(age: AgeFilter, path: str) -> bool:
    for name, end in (("min", age.min), ("max", age.max)):
        if not 0 <= end <= OLDEST:
            raise Invalid(f"An age must lie between 0 and {OLDEST}.", path=f"{path}.{name}")
    if age.min > age.max:
        raise Invalid("The lower age is above the upper age.", path=path)
    return (age.min, age.max) != (0, OLDEST)


def _hpo(asked: Sequence[HpoFilter]) -> Iterator[plan.Filter]:
    for at, one in enumerate(asked):
        path = f"$.hpo[{at}]"
        _only_exact(one.similarity, path)
        if one.use_orpha_net:
            raise _later("useOrphaNet", f"{path}.useOrphaNet")
        yield from _terms(one, HPO, plan.HPO, path)


def _ordo(asked: Sequence[OrdoFilter]) -> Iterator[plan.Filter]:
    for at, one in enumerate(asked):
        path = f"$.ordo[{at}]"
        _only_exact(one.similarity, path)
        if one.use_hpo:
            raise _later("useHPO", f"{path}.useHPO")
        yield from _terms(one, ORDO, plan.ORDO, path)


def _snomed(asked: Sequence[SnomedFilter]) -> Iterator[plan.Filter]:
    for at, one in enumerate(asked):
        yield from _terms(one, SNOMED, plan.SNOMED, f"$.snomed[{at}]")


def _terms(
    asked: HpoFilter | OrdoFilter | SnomedFilter, vocabulary: Vocabulary, key: str, path: str
) -> Iterator[plan.Filter]:
    ids = dict.fromkeys(
        normal_id(term, vocabulary, f"{path}.terms[{at}]") for at, term in enumerate(asked.terms)
    )
    if asked.minimum_match < 1:
        raise Invalid("At least one term must match.", path=f"{path}.minimumMatch")
    if asked.minimum_match > max(1, len(ids)):
        raise Invalid(
            f"{asked.minimum_match} terms cannot match, since only {len(ids)} different ones "
            "are given.",
            path=f"{path}.minimumMatch",
        )
    # No terms mean any, which restricts nothing.
    if ids:
        groups = tuple(frozenset((one,)) for one in ids)
        yield plan.TermGroups(path, key, groups, asked.minimum_match)


def _only_exact(similarity: float, path: str) -> None:
    if not 0 <= similarity <= 1:
        raise Invalid("Similarity goes from 0 to 1.", path=f"{path}.similarity")
    if similarity < 1:
        raise Invalid(
            "Similar terms cannot be searched here yet; ask with similarity 1.",
            path=f"{path}.similarity",
        )


def _later(field: str, path: str) -> Invalid:
    return Invalid(f"Searching with {field} is not possible here yet.", path=path)


def _genes(query: RecordQuery) -> Iterator[plan.Filter]:
    for at, one in enumerate(query.genes):
        wanted = tuple((gene.gene, tuple(dict.fromkeys(gene.alleles))) for gene in one.alleles)
        if wanted:
            yield plan.WithAlleles(f"$.genes[{at}]", plan.GENES, wanted)


def _variants(asked: Sequence[VariantFilter]) -> Iterator[plan.Filter]:
    for at, one in enumerate(asked):
        path = f"$.variant[{at}]"
        if one.reactome:
            raise _later("reactome", f"{path}.reactome")
        if not 0 <= one.max_af <= 1:
            raise Invalid("An allele frequency goes from 0 to 1.", path=f"{path}.maxAf")
        yield plan.WithVariant(
            path,
            plan.VARIANT,
            tuple(dict.fromkeys(one.genes)),
            tuple(dict.fromkeys(mutation.value for mutation in one.mutation)),
            one.max_af,
            one.use_local_af,
        )


def _eav(asked: EavFilter, path: str) -> plan.Filter:
    value = asked.value
    negated = asked.relation in {
        EavRelation.STRING_IS_NOT,
        EavRelation.REGEX_DOES_NOT_CONTAIN,
        EavRelation.NUMERIC_NOT_EQUALS,
    }
    match asked.relation:
        case EavRelation.STRING_IS | EavRelation.STRING_IS_NOT:
            if not isinstance(value, str | bool):
                raise Invalid(
                    "This relation compares text or true and false; numbers have relations of "
                    "their own.",
                    path=f"{path}.value",
                )
            return plan.TextIs(path, plan.EAV, asked.attribute, value, negated)
        case EavRelation.REGEX_CONTAINS | EavRelation.REGEX_DOES_NOT_CONTAIN:
            if not isinstance(value, str):
                raise Invalid("A regular expression is a text.", path=f"{path}.value")
            text.check(value, f"{path}.value")
            return plan.TextMatches(path, plan.EAV, asked.attribute, value, negated)
        case _:
            if isinstance(value, str | bool):
                raise Invalid("This relation compares numbers.", path=f"{path}.value")
            comparison = _COMPARISONS[asked.relation]
            return plan.NumberIs(
                path, plan.EAV, asked.attribute, comparison, number(value), negated
            )


def _required(named: Capability) -> frozenset[str]:
    demographics = named.subject_capability
    table = {
        plan.SUBJECT: named.subject,
        plan.AGE: demographics.age,
        plan.GENDER: demographics.gender,
        plan.FAMILY_TYPE: demographics.family_type,
        plan.AFFECTED: demographics.affected,
        plan.HPO: named.hpo,
        plan.ORDO: named.ordo,
        plan.SNOMED: named.snomed,
        plan.GENES: named.genes,
        plan.VARIANT: named.variant,
        plan.EAV: named.eav,
    }
    return frozenset(key for key, required in table.items() if required)
