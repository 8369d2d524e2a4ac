"""What a question asks of one generation: frozen values, without any wire spelling left in them.

`records/compile.py` makes them and `engine/evaluate.py` answers them. Every filter
carries the path of the field that it came from, and the kind of data that it needs,
so that an answer can say which filters it passed over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

AGE = "subject.age"
GENDER = "subject.gender"
FAMILY_TYPE = "subject.familyType"
AFFECTED = "subject.affected"
HPO = "hpo"
ORDO = "ordo"
SNOMED = "snomed"
GENES = "genes"
VARIANT = "variant"
EAV = "eav"
SUBJECT = "subject"
CAPABILITY_KEYS = (
    AGE,
    GENDER,
    FAMILY_TYPE,
    AFFECTED,
    HPO,
    ORDO,
    SNOMED,
    GENES,
    VARIANT,
    EAV,
)


class Comparison(Enum):
    """How a number of a subject is compared with the number asked for."""

    EQUAL = "="
    GREATER = ">"
    LESS = "<"
    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: where it stands in the question and which kind of data it needs."""

    path: str
    key: str


@dataclass(frozen=True, slots=True)
class OneOf(Filter):
    """The field has one of the values (`gender`, `familyType`, `affected`)."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgeWithin(Filter):
    """An age (`age`, `ageFirstSymptoms` or `ageFirstDiagnosis`) lies within both ends."""

    column: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class TermGroups(Filter):
    """At least `minimum` groups are met; a group is an asked term and all that stand for it."""

    groups: tuple[frozenset[str], ...]
    minimum: int


@dataclass(frozen=True, slots=True)
class WithAlleles(Filter):
    """Every gene has one of its alleles; no alleles mean any allele of that gene."""

    genes: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class WithVariant(Filter):
    """One variant is of these genes, of these classes and rare enough; empty means any."""

    genes: tuple[str, ...]
    mutations: tuple[str, ...]
    max_af: float
    use_local_af: bool


@dataclass(frozen=True, slots=True)
class TextIs(Filter):
    """An attribute has this text or truth value; negated: it is there and has it nowhere."""

    attribute: str
    value: str | bool
    negated: bool = False


@dataclass(frozen=True, slots=True)
class TextMatches(Filter):
    """A text of the attribute matches the expression; negated: it is there and none does."""

    attribute: str
    pattern: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class NumberIs(Filter):
    """A number of the attribute compares so; negated: it is there and none does."""

    attribute: str
    comparison: Comparison
    value: float
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All filters, joined by AND, and the kinds of data without which nobody matches."""

    filters: Sequence[Filter] = ()
    required: frozenset[str] = frozenset()
