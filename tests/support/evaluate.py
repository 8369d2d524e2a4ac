"""What every filter of a record query means, said as plainly as Python allows.

The naive evaluator goes through all subjects and asks each of them; it shares no code
with the engine or the compiler. It is for questions that can be asked: what has to be
refused, it does not see.
"""

import math
import re
from collections.abc import Iterable, Sequence

import re2

from cvf_app.records.model import (
    AgeFilter,
    EavFilter,
    EavRelation,
    GenesFilter,
    RecordQuery,
    SubjectFilter,
    VariantFilter,
)
from cvf_app.subject import Subject, Term, Variant

Frequencies = dict[tuple[str, str | None], float]


def matching_ids(query: RecordQuery, subjects: Sequence[Subject]) -> list[str]:
    """Return the ids of the subjects that the query describes, in their order."""
    had = capabilities(subjects)
    if not _has_required(query, had):
        return []
    local = local_frequencies(subjects)
    return [
        subject.subject_id
        for subject in subjects
        if all(holds for path, kind, holds in _conditions(query, subject, local) if kind in had)
    ]


def ignored_paths(query: RecordQuery, subjects: Sequence[Subject]) -> list[str]:
    """Return the paths of the filters on kinds of data that no subject has and none required."""
    had = capabilities(subjects)
    required = _required(query)
    nobody = Subject(subject_id="")
    return [
        path
        for path, kind, _ in _conditions(query, nobody, {})
        if kind not in had and kind not in required
    ]


def capabilities(subjects: Iterable[Subject]) -> set[str]:
    """Return the kinds of data that at least one subject has."""
    had: set[str] = set()
    for subject in subjects:
        ages = (subject.age, subject.age_first_diagnosis, subject.age_first_symptoms)
        kinds = {
            "subject.age": any(age is not None for age in ages),
            "subject.gender": subject.sex is not None,
            "subject.familyType": subject.family_type is not None,
            "subject.affected": subject.affected is not None,
            "hpo": bool(_ids(subject.hpo)),
            "ordo": bool(_ids(subject.ordo)),
            "snomed": bool(_ids(subject.snomed)),
            "genes": any(entry.alleles for entry in subject.alleles),
            "variant": bool(subject.variant),
            "eav": any(_elements(subject, attribute) for attribute in subject.eav),
        }
        had |= {kind for kind, there in kinds.items() if there}
    return had


def local_frequencies(subjects: Sequence[Subject]) -> Frequencies:
    """Return the share of alleles of every gene and class among all of this source."""
    counts: Frequencies = {}
    for subject in subjects:
        for variant in subject.variant:
            name = _class(variant)
            counts[name] = counts.get(name, 0) + (1 if variant.ac is None else variant.ac)
    return {name: count / (2 * len(subjects)) for name, count in counts.items()}


def _conditions(query, subject, local):
    """Give every filter that restricts: its path, the kind of data, and whether it holds."""
    if query.subject is not None:
        yield from _demographics(query.subject, subject)
    for kind, filters, terms, plain in (
        ("hpo", query.hpo, subject.hpo, lambda term: term.upper().removeprefix("HP:")),
        ("ordo", query.ordo, subject.ordo, lambda term: re.sub(r"^.*[:_]0*|^0+", "", term)),
        ("snomed", query.snomed, subject.snomed, lambda term: re.sub(r"^.*:", "", term)),
    ):
        for at, one in enumerate(filters):
            asked = {plain(term.strip()) for term in one.terms}
            if asked:
                yield f"$.{kind}[{at}]", kind, len(asked & _ids(terms)) >= one.minimum_match
    for at, genes in enumerate(query.genes):
        if genes.alleles:
            yield f"$.genes[{at}]", "genes", _has_alleles(genes, subject)
    for at, variant in enumerate(query.variant):
        holds = any(_is_such(variant, one, local) for one in subject.variant)
        yield f"$.variant[{at}]", "variant", holds
    for at, attribute in enumerate(query.eav):
        yield f"$.eav[{at}]", "eav", _compares(attribute, subject)


def _demographics(asked: SubjectFilter, subject: Subject):
    for name, age, had in (
        ("age", asked.age, subject.age),
        ("ageFirstSymptoms", asked.age_first_symptoms, subject.age_first_symptoms),
        ("ageFirstDiagnosis", asked.age_first_diagnosis, subject.age_first_diagnosis),
    ):
        if age is not None and age != AgeFilter(min=0, max=100):
            yield f"$.subject.{name}", "subject.age", had is not None and age.min <= had <= age.max
    if asked.gender != "any":
        had_sex = subject.sex is not None and subject.sex.value == asked.gender
        yield "$.subject.gender", "subject.gender", had_sex
    if asked.family_type is not None:
        wanted = asked.family_type
        flags = {"family": wanted.family, "singletons": wanted.singletons, "trios": wanted.trios}
        if any(flags.values()):
            kind = subject.family_type
            yield "$.subject.familyType", "subject.familyType", kind and flags[kind.value]
    if asked.affected_only:
        yield "$.subject.affectedOnly", "subject.affected", subject.affected is True


def _ids(terms: Iterable[Term]) -> set[str]:
    return {one for term in terms for one in ([term] if isinstance(term, str) else term)}


def _has_alleles(asked: GenesFilter, subject: Subject) -> bool:
    for gene in asked.alleles:
        had = {
            allele
            for entry in subject.alleles
            if entry.gene == gene.gene
            for allele in entry.alleles
        }
        if not (had & set(gene.alleles) if gene.alleles else had):
            return False
    return True


def _class(variant: Variant) -> tuple[str, str | None]:
    return variant.gene, variant.mutation.value if variant.mutation else None


def _is_such(asked: VariantFilter, variant: Variant, local: Frequencies) -> bool:
    if asked.genes and variant.gene not in asked.genes:
        return False
    if asked.mutation and variant.mutation not in asked.mutation:
        return False
    if asked.max_af == 1:
        return True
    if asked.use_local_af or variant.af is None:
        return local[_class(variant)] <= asked.max_af
    return variant.af <= asked.max_af


def _elements(subject: Subject, attribute: str) -> tuple:
    value = subject.eav.get(attribute, ())
    return value if isinstance(value, tuple) else (value,)


def _compares(asked: EavFilter, subject: Subject) -> bool:
    elements = _elements(subject, asked.attribute)
    negative = {
        EavRelation.STRING_IS_NOT: EavRelation.STRING_IS,
        EavRelation.REGEX_DOES_NOT_CONTAIN: EavRelation.REGEX_CONTAINS,
        EavRelation.NUMERIC_NOT_EQUALS: EavRelation.NUMERIC_EQUALS,
    }
    relation = negative.get(asked.relation, asked.relation)
    found = any(_element_compares(relation, element, asked.value) for element in elements)
    if asked.relation in negative:
        return bool(elements) and not found
    return found


def _element_compares(relation: EavRelation, had, asked) -> bool:
    if relation is EavRelation.STRING_IS:
        return type(had) is type(asked) and had == asked
    if relation is EavRelation.REGEX_CONTAINS:
        return isinstance(had, str) and re2.search(asked, had) is not None
    if isinstance(had, bool | str):
        return False
    had, asked = _double(had), _double(asked)
    return {
        EavRelation.NUMERIC_EQUALS: had == asked,
        EavRelation.NUMERIC_GREATER_THAN: had > asked,
        EavRelation.NUMERIC_LESS_THAN: had < asked,
        EavRelation.NUMERIC_GREATER_THAN_OR_EQUAL: had >= asked,
        EavRelation.NUMERIC_LESS_THAN_OR_EQUAL: had <= asked,
    }[relation]


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _required(query: RecordQuery) -> set[str]:
    named = query.advanced.required_filters if query.advanced else None
    if named is None:
        return set()
    demographics = named.subject_capability
    flags = {
        "subject": named.subject,
        "subject.age": demographics.age,
        "subject.gender": demographics.gender,
        "subject.familyType": demographics.family_type,
        "subject.affected": demographics.affected,
        "hpo": named.hpo,
        "ordo": named.ordo,
        "snomed": named.snomed,
        "genes": named.genes,
        "variant": named.variant,
        "eav": named.eav,
    }
    return {kind for kind, required in flags.items() if required}


def _has_required(query: RecordQuery, had: set[str]) -> bool:
    for kind in _required(query):
        if kind == "subject":
            if not any(one.startswith("subject.") for one in had):
                return False
        elif kind not in had:
            return False
    return True
