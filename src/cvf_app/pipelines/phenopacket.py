"""GA4GH phenopackets (version 2) become subjects by a fixed mapping.

Pure. Excluded features never become terms of a subject. Members that we do not use are passed over.
Positions in the genome (`hgvs`, VCF records) decide the class of a mutation and are not kept.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from cvf_app.errors import Invalid
from cvf_app.pipelines.demographics import completed_years
from cvf_app.pipelines.merge import one_or_all
from cvf_app.pipelines.model import Unreadable
from cvf_app.subject import EavValue, Mutation, Sex, Subject, SubjectId, Variant
from cvf_app.wire import decode

LONGEST_ID = 500
_NEAR_SPLICE = 8
_STRUCTURAL = {"SO:1000029", "SO:1000037"}
_COPIES = {"GENO:0000135": 1, "GENO:0000136": 2, "GENO:0000134": 1}
_UNPROVEN = {"REJECTED", "CANDIDATE"}
_SEXES = {"MALE": Sex.MALE, "FEMALE": Sex.FEMALE}
_HPO_LENGTH = 10
_ORPHANET = re.compile(r"(?:ORPHA|Orphanet):([1-9][0-9]{0,5})")
_OFFSET = re.compile(r"[0-9]([+-])([0-9]+)")
_START_LOST = re.compile(r"Met1(?:\?|[A-Za-z])")
_ONE_FOR_ANOTHER = re.compile(r"(?:[A-Z][a-z]{2}|[A-Z])[0-9]+(?:[A-Z][a-z]{2}|[A-Z])")


class _Heard(msgspec.Struct, rename="camel", gc=False):
    """What we read of a message; other members are passed over."""


class _Class(_Heard):
    id: str = ""
    label: str = ""


class _Age(_Heard):
    iso8601duration: str = ""


class _Time(_Heard):
    age: _Age | None = None


class _Vital(_Heard):
    status: str = ""


class _Person(_Heard):
    sex: str = ""
    time_at_last_encounter: _Time | None = None
    vital_status: _Vital | None = None
    age_at_collection: Any = None


class _Feature(_Heard):
    type: _Class | None = None
    excluded: bool = False
    negated: bool | None = None


class _Disease(_Heard):
    term: _Class | None = None
    excluded: bool = False
    onset: _Time | None = None


class _Gene(_Heard):
    symbol: str = ""


class _Expression(_Heard):
    syntax: str = ""
    value: str = ""


class _Descriptor(_Heard):
    gene_context: _Gene | None = None
    expressions: list[_Expression] = []
    structural_type: _Class | None = None
    allelic_state: _Class | None = None


class _Variation(_Heard):
    variation_descriptor: _Descriptor | None = None


class _Genomic(_Heard):
    interpretation_status: str = ""
    variant_interpretation: _Variation | None = None
    gene: _Gene | None = None


class _Diagnosis(_Heard):
    disease: _Class | None = None
    genomic_interpretations: list[_Genomic] = []


class _Interpretation(_Heard):
    diagnosis: _Diagnosis | None = None


class _Quantity(_Heard):
    unit: _Class | None = None
    value: float | int | None = None


class _Value(_Heard):
    quantity: _Quantity | None = None


class _Measurement(_Heard):
    assay: _Class | None = None
    value: _Value | None = None


class _Meta(_Heard):
    phenopacket_schema_version: str = ""


class _Packet(_Heard):
    id: str = ""
    subject: _Person | None = None
    phenotypic_features: list[_Feature] | None = None
    diseases: list[_Disease] | None = None
    interpretations: list[_Interpretation] | None = None
    measurements: list[_Measurement] = []
    meta_data: _Meta | None = None
    genes: Any = None
    variants: Any = None
    proband: Any = None
    members: Any = None


class Reading(NamedTuple):
    """A subject, the display names of attributes whose key is changed, and units of numbers."""

    subject: Subject
    display_names: dict[str, str]
    units: dict[str, str]


def read_phenopacket(data: bytes, cohort: str = "") -> Reading:
    """Read one phenopacket; the cohort is the name of the folder that it came in.

    Raises:
        Unreadable: this is none, or none of version 2.
    """
    try:
        packet = decode(data, _Packet)
    except Invalid as fault:
        where = f" at {fault.path}" if fault.path not in (None, "$") else ""
        reason = fault.sentence.rstrip(".")
        raise Unreadable(f"This is no phenopacket: {reason}{where}.") from fault
    _check(packet)
    person = packet.subject or _Person()
    diseases = [found for found in packet.diseases or () if not found.excluded]
    onsets = [years for found in diseases if (years := _years(found.onset)) is not None]
    hpo, excluded, ncit, snomed, others = _features(packet.phenotypic_features or ())
    observed = frozenset(hpo) if excluded else frozenset[str]()
    eav, names, units = _measured(packet.measurements)
    terms = [found.term for found in diseases if found.term is not None and found.term.id]
    calls = list(_calls(packet.interpretations or ()))
    if not terms:
        terms = _diagnosed(packet.interpretations or ())
    eav.update(_attributes(packet, terms, calls, cohort))
    if others:
        eav["feature"] = one_or_all(others)
    return Reading(
        Subject(
            subject_id=SubjectId(packet.id.strip()),
            sex=_SEXES.get(person.sex),
            age=_years(person.time_at_last_encounter),
            age_first_symptoms=min(onsets, default=None),
            hpo=hpo,
            excluded_hpo=tuple(term for term in excluded if term not in observed),
            ncit=ncit,
            snomed=snomed,
            ordo=_once(found[1] for term in terms if (found := _ORPHANET.fullmatch(term.id))),
            variant=tuple(variant for call in calls if (variant := _variant(call)) is not None),
            eav=eav,
        ),
        names,
        units,
    )


def mutation_class(expressions: dict[str, str], structural: str) -> Mutation | None:
    """Return the class of a mutation from its descriptions (`hgvs.…`) or its structure."""
    protein = expressions.get("hgvs.p", "").rpartition(":")[2].removeprefix("p.").strip("()")
    if protein and protein != "?" and "=" not in protein:
        return _of_protein(protein)
    coding = expressions.get("hgvs.c") or expressions.get("hgvs.n") or ""
    if coding:
        return _of_coding(coding.rpartition(":")[2])
    if not expressions and structural in _STRUCTURAL:
        return Mutation.INDEL
    return None


def _check(packet: _Packet) -> None:
    if packet.proband is not None or packet.members is not None:
        raise Unreadable("Families and cohorts are not taken yet; send their phenopackets.")
    persons = packet.subject, packet.phenotypic_features, packet.diseases, packet.interpretations
    if not packet.id.strip():
        raise Unreadable("This is no phenopacket: it has no `id`.")
    if len(packet.id) > LONGEST_ID:
        raise Unreadable(f"The id of this phenopacket is longer than {LONGEST_ID} characters.")
    version = packet.meta_data.phenopacket_schema_version if packet.meta_data else ""
    features = packet.phenotypic_features or ()
    old = (
        packet.genes is not None
        or packet.variants is not None
        or (packet.subject is not None and packet.subject.age_at_collection is not None)
        or any(found.negated is not None for found in features)
    )
    if old or (version and not version.startswith("2")):
        raise Unreadable("This phenopacket is of another version than 2; convert it to version 2.")
    if all(part is None for part in persons):
        raise Unreadable(
            "This is no phenopacket: it has no `subject`, `phenotypicFeatures`, `diseases` or"
            " `interpretations`."
        )


def _years(time: _Time | None) -> int | None:
    return None if time is None or time.age is None else completed_years(time.age.iso8601duration)


def _features(
    features: list[_Feature] | tuple[()],
) -> tuple[tuple[str, ...], ...]:
    observed: dict[str, None] = {}
    excluded: dict[str, None] = {}
    ncit: dict[str, None] = {}
    snomed: dict[str, None] = {}
    others: dict[str, None] = {}
    for feature in features:
        code = feature.type.id if feature.type else ""
        if _is_hpo(code):
            (excluded if feature.excluded else observed)[code[3:]] = None
            continue
        prefix, _, local = code.partition(":")
        if feature.excluded or not local:
            continue
        if prefix == "NCIT":
            ncit[local] = None
        elif prefix in {"SNOMED", "SNOMEDCT", "SCTID"}:
            snomed[local] = None
        else:
            others[code] = None
    return tuple(observed), tuple(excluded), tuple(ncit), tuple(snomed), tuple(others)


def _is_hpo(code: str) -> bool:
    # As `HP:[0-9]{7}`, of which there are dozens in every packet.
    return len(code) == _HPO_LENGTH and code[:3] == "HP:" and code[3:].isdigit() and code.isascii()


def _calls(interpretations: list[_Interpretation] | tuple[()]) -> Iterator[_Genomic]:
    for interpretation in interpretations:
        if interpretation.diagnosis is not None:
            for call in interpretation.diagnosis.genomic_interpretations:
                if call.interpretation_status not in _UNPROVEN:
                    yield call


def _diagnosed(interpretations: list[_Interpretation] | tuple[()]) -> list[_Class]:
    return [
        found.diagnosis.disease
        for found in interpretations
        if found.diagnosis and found.diagnosis.disease and found.diagnosis.disease.id
    ]


def _variant(call: _Genomic) -> Variant | None:
    if call.variant_interpretation is None:
        return Variant(gene=call.gene.symbol) if call.gene and call.gene.symbol else None
    descriptor = call.variant_interpretation.variation_descriptor
    if descriptor is None or descriptor.gene_context is None or not descriptor.gene_context.symbol:
        return None
    expressions: dict[str, str] = {}
    for expression in descriptor.expressions:
        expressions.setdefault(expression.syntax, expression.value)
    structural = descriptor.structural_type.id if descriptor.structural_type else ""
    state = descriptor.allelic_state.id if descriptor.allelic_state else ""
    return Variant(
        gene=descriptor.gene_context.symbol,
        mutation=mutation_class(expressions, structural),
        ac=_COPIES.get(state),
    )


def _attributes(
    packet: _Packet, terms: list[_Class], calls: list[_Genomic], cohort: str
) -> dict[str, EavValue]:
    eav: dict[str, EavValue] = {}
    named = next((term for term in terms if not _ORPHANET.fullmatch(term.id)), None)
    if named is not None:
        eav["disease"] = named.id
    label = (named or (terms[0] if terms else _Class())).label
    if label:
        eav["diseaseLabel"] = label
    if cohort:
        eav["cohort"] = cohort
    eav["variantCount"] = len(calls)
    states = _once(
        found.allelic_state.label
        for call in calls
        if call.variant_interpretation
        and (found := call.variant_interpretation.variation_descriptor)
        and found.allelic_state
        and found.allelic_state.label
    )
    if states:
        eav["zygosity"] = one_or_all(states)
    vital = packet.subject.vital_status if packet.subject else None
    if vital is not None and vital.status:
        eav["vitalStatus"] = vital.status
    return eav


def _measured(
    measurements: list[_Measurement],
) -> tuple[dict[str, EavValue], dict[str, str], dict[str, str]]:
    eav: dict[str, EavValue] = {}
    names: dict[str, str] = {}
    units: dict[str, str] = {}
    for found in measurements:
        quantity = found.value.quantity if found.value else None
        if found.assay is None or not found.assay.id or quantity is None or quantity.value is None:
            continue
        key = re.sub(r"[:.$/\\]", "_", found.assay.id)
        if key not in eav:
            eav[key] = quantity.value
            unit = f" ({quantity.unit.label})" if quantity.unit and quantity.unit.label else ""
            names[key] = f"{found.assay.label or found.assay.id}{unit}"
            if quantity.unit is not None and (written := _unit(quantity.unit)):
                units[key] = written
    return eav, names, units


def _unit(given: _Class) -> str:
    """Return a unit as UCUM writes it, where it does; else as it is called."""
    prefix, _, code = given.id.partition(":")
    return code if prefix.upper() == "UCUM" and code else given.label


def _of_protein(change: str) -> Mutation | None:
    if "fs" in change:
        return Mutation.FRAMESHIFT
    if _START_LOST.match(change):
        return Mutation.LOSS_OF_START
    if "ext" in change:
        return Mutation.LOSS_OF_STOP
    if change.endswith(("Ter", "*")):
        return Mutation.NONSENSE
    if any(word in change for word in ("del", "dup", "ins")):
        return Mutation.INDEL
    return Mutation.MISSENSE if _ONE_FOR_ANOTHER.fullmatch(change) else None


def _of_coding(change: str) -> Mutation | None:
    offsets = [int(found[2]) for found in _OFFSET.finditer(change)]
    if offsets:
        return Mutation.SPLICE if min(offsets) <= _NEAR_SPLICE else Mutation.NON_CODING
    return Mutation.NON_CODING if change.startswith(("n.", "c.-", "c.*")) else None


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
