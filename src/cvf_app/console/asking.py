"""From the short options of `cvf query` to the published query; pure."""

import re
from dataclasses import dataclass, field

from cvf_app.console.failures import Misused
from cvf_app.console.server import Json

_AGE = re.compile(r"(\d{1,3})(-(\d{1,3})?)?")
_OLDEST = 100
_EAV = re.compile(r"(?P<attribute>.+?)\s*(?P<sign>>=|<=|!=|!~|=|>|<|~)\s*(?P<value>.*)", re.DOTALL)
_WORDS = {"=": "stringIs", "!=": "stringIsNot", "~": "regexContains", "!~": "regexDoesNotContain"}
_NUMBERS = {
    "=": "numericEquals",
    "!=": "numericNotEquals",
    ">": "numericGreaterThan",
    "<": "numericLessThan",
    ">=": "numericGreaterThanOrEqual",
    "<=": "numericLessThanOrEqual",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the options of `cvf query` said."""

    hpo: list[str] = field(default_factory=list)
    hpo_all: bool = False
    at_least: int | None = None
    ordo: list[str] = field(default_factory=list)
    snomed: list[str] = field(default_factory=list)
    sex: str | None = None
    age: str | None = None
    age_onset: str | None = None
    age_diagnosis: str | None = None
    affected: bool = False
    family: list[str] = field(default_factory=list)
    gene: list[str] = field(default_factory=list)
    mutation: list[str] = field(default_factory=list)
    max_af: float | None = None
    allele: list[str] = field(default_factory=list)
    eav: list[str] = field(default_factory=list)
    depth: str | None = None
    require: list[str] = field(default_factory=list)


def build(asked: Asked) -> dict[str, Json]:
    """Make the published query; what was not asked for is left out.

    Raises:
        Misused: an option cannot be read.
    """
    query = {
        "subject": _subject(asked),
        "hpo": _hpo(asked),
        "ordo": [{"terms": asked.ordo}] if asked.ordo else [],
        "snomed": [{"terms": asked.snomed}] if asked.snomed else [],
        "variant": _variant(asked),
        "genes": [{"alleles": [_alleles(one) for one in asked.allele]}] if asked.allele else [],
        "eav": [eav_filter(one) for one in asked.eav],
        "advanced": _advanced(asked),
    }
    return {name: value for name, value in query.items() if value}


def eav_filter(said: str) -> dict[str, Json]:
    """Read `attribute>=2`; a value that looks like a number is one, unless it is in quotes.

    Raises:
        Misused: it is no comparison.
    """
    found = _EAV.fullmatch(said)
    if found is None or not found["value"]:
        raise Misused(f"{said} is no comparison.", advice="For example: --eav 'grade>=2'")
    attribute, sign, value = found["attribute"].strip(), found["sign"], found["value"].strip()
    number = None if sign in ("~", "!~") else _number(value)
    if number is not None:
        return {"attribute": attribute, "relation": _NUMBERS[sign], "value": number}
    if sign not in _WORDS:
        raise Misused(f"{said}: {sign} needs a number, and {value} is none.")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return {"attribute": attribute, "relation": _WORDS[sign], "value": value}


def age_range(said: str) -> dict[str, int]:
    """Read `0-17`, `18-` or `42`.

    Raises:
        Misused: it is none of them.
    """
    found = _AGE.fullmatch(said.strip())
    if found is None:
        raise Misused(f"{said} is no range of ages.", advice="For example: --age 0-17 or --age 18-")
    least = int(found[1])
    most = least if found[2] is None else int(found[3] or _OLDEST)
    if not least <= most <= _OLDEST:
        raise Misused(f"{said} is no range of ages: from the lower to the higher, at most 100.")
    return {"min": least, "max": most}


def _subject(asked: Asked) -> dict[str, Json]:
    subject: dict[str, Json] = {}
    if asked.affected:
        subject["affectedOnly"] = True
    ages = {
        "age": asked.age,
        "ageFirstSymptoms": asked.age_onset,
        "ageFirstDiagnosis": asked.age_diagnosis,
    }
    subject |= {name: age_range(said) for name, said in ages.items() if said is not None}
    if asked.family:
        subject["familyType"] = dict.fromkeys(asked.family, True)
    if asked.sex is not None:
        subject["gender"] = asked.sex
    return subject


def _hpo(asked: Asked) -> list[Json]:
    if not asked.hpo:
        if asked.hpo_all or asked.at_least is not None:
            raise Misused("--hpo-all and --at-least need terms.", advice="Add --hpo HP:0001250")
        return []
    if asked.hpo_all and asked.at_least is not None:
        raise Misused("--hpo-all and --at-least contradict each other.")
    least = len(asked.hpo) if asked.hpo_all else asked.at_least or 1
    return [{"terms": asked.hpo, "minimumMatch": least}]


def _variant(asked: Asked) -> list[Json]:
    if not (asked.gene or asked.mutation or asked.max_af is not None):
        return []
    variant: dict[str, Json] = {"genes": asked.gene, "mutation": asked.mutation}
    if asked.max_af is not None:
        variant["maxAf"] = asked.max_af
    return [variant]


def _alleles(said: str) -> dict[str, Json]:
    gene, _, names = said.partition("=")
    alleles = [name for name in names.split(",") if name]
    if not gene or not alleles:
        raise Misused(f"{said} names no allele.", advice="For example: --allele HLA-A=02:01")
    return {"gene": gene, "alleles": alleles}


def _advanced(asked: Asked) -> dict[str, Json]:
    advanced: dict[str, Json] = {}
    if asked.depth is not None:
        advanced["granularity"] = asked.depth
    if asked.require:
        advanced["requiredFilters"] = dict.fromkeys(asked.require, True)
    return advanced


def _number(value: str) -> int | float | None:
    if re.fullmatch(r"[+-]?\d+", value):
        return int(value)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value):
        return float(value)
    return None
