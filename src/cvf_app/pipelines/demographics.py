"""Who a subject is: the fields of a person, from words, from ages and from SNOMED CT codes.

Pure. `settle` is the second step of a remap: demographic codes move to fields.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from cvf_app.subject import FamilyType, Scalar, Sex, Subject, Term

OLDEST = 150
_DURATION = re.compile(r"P(?:(\d{1,5})Y)?(?:(\d{1,5})M)?(?:\d{1,5}W)?(?:\d{1,5}D)?(?:T[0-9HMS.]+)?")
_YEARS = re.compile(r"(\d{1,3})(?:\.\d+)?")
_SEXES = {"male": Sex.MALE, "m": Sex.MALE, "female": Sex.FEMALE, "f": Sex.FEMALE}
_FAMILIES = {
    "family": FamilyType.FAMILY,
    "singleton": FamilyType.SINGLETONS,
    "singletons": FamilyType.SINGLETONS,
    "trio": FamilyType.TRIOS,
    "trios": FamilyType.TRIOS,
}
_AFFECTED = {"true": True, "yes": True, "1": True, "affected": True} | {
    "false": False,
    "no": False,
    "0": False,
    "unaffected": False,
}
_SEX_CODES = {"248153007": Sex.MALE, "248152002": Sex.FEMALE}
_AGE_CODES = {
    "424144002": "age",
    "445518008": "age_first_symptoms",
    "423493009": "age_first_diagnosis",
}


def completed_years(duration: str) -> int | None:
    """Return the completed years of an ISO 8601 duration; days and weeks do not count."""
    found = _DURATION.fullmatch(duration)
    if found is None or len(duration) < len("P1D"):
        return None
    years = (12 * int(found[1] or 0) + int(found[2] or 0)) // 12
    return years if years <= OLDEST else None


def _age(text: str) -> int | None:
    found = _YEARS.fullmatch(text)
    if found is None:
        return completed_years(text)
    return int(found[1]) if int(found[1]) <= OLDEST else None


FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "sex": ("sex", lambda text: _SEXES.get(text.lower())),
    "gender": ("sex", lambda text: _SEXES.get(text.lower())),
    "age": ("age", _age),
    "ageFirstSymptoms": ("age_first_symptoms", _age),
    "ageFirstDiagnosis": ("age_first_diagnosis", _age),
    "familyType": ("family_type", lambda text: _FAMILIES.get(text.lower())),
    "affected": ("affected", lambda text: _AFFECTED.get(text.lower())),
}
"""Names of the destination `subject`: the field of each, and how its words are read."""


def settle(subject: Subject) -> Subject:
    """Move demographic codes among a subject's SNOMED CT codes to fields; the first wins."""
    if not subject.snomed:
        return subject
    fields: dict[str, Any] = {}
    rest: list[Term] = []
    for term in subject.snomed:
        found = _coded(term)
        if found is None:
            rest.append(term)
        else:
            fields.setdefault(*found)
    if not fields:
        return subject
    known = {name: value for name, value in fields.items() if getattr(subject, name) is None}
    return msgspec.structs.replace(subject, snomed=tuple(rest), **known)


def _coded(term: Term) -> tuple[str, Any] | None:
    if isinstance(term, str):
        sex = _SEX_CODES.get(term)
        return None if sex is None else ("sex", sex)
    code, value = next(iter(term.items()))
    field = _AGE_CODES.get(code)
    years = None if field is None else _years(value)
    return None if field is None or years is None else (field, years)


def _years(value: Scalar) -> int | None:
    return None if isinstance(value, bool) else _age(str(value))
