"""One subject as stored, as segments hold it and as a detailed answer shows it.

It stands below the features since pipelines make subjects, the engine indexes them
and sources keep them. The fields are those of the published prose (`HPO`, `VARIANT`, …)
with demographics as fields of their own; a term may carry a qualifier (`{"0001250": 25}`).
Beside it stand the kinds of data that subjects can have, which sources, queries and settings name.
"""

from enum import Enum
from typing import NewType

import msgspec

from cvf_app.wire import Wire

SubjectId = NewType("SubjectId", str)
Scalar = str | int | float | bool
EavValue = Scalar | tuple[Scalar, ...]
Term = str | dict[str, Scalar]


class Sex(Enum):
    """The two sexes that a record query can ask for."""

    MALE = "male"
    FEMALE = "female"


class FamilyType(Enum):
    """How a subject was recruited."""

    FAMILY = "family"
    SINGLETONS = "singletons"
    TRIOS = "trios"


class Mutation(Enum):
    """The eight published classes of mutation."""

    NON_CODING = "nonCoding"
    MISSENSE = "missense"
    NONSENSE = "nonsense"
    SPLICE = "splice"
    FRAMESHIFT = "frameshift"
    LOSS_OF_START = "lossOfStart"
    LOSS_OF_STOP = "lossOfStop"
    INDEL = "indel"


class Variant(Wire, frozen=True, kw_only=True):
    """A variant: `af` is a frequency from 0 to 1, `ac` an allele count (2 if homozygous)."""

    gene: str
    mutation: Mutation | None = None
    af: float | None = None
    ac: int | None = None


class GeneAlleles(Wire, frozen=True, kw_only=True):
    """The named alleles that a subject has of one gene (`HLA-A`: `02:01`, …)."""

    gene: str
    alleles: tuple[str, ...]


class Subject(Wire, frozen=True, kw_only=True):
    """One person's record: ages are completed years, codes stand without a prefix."""

    subject_id: SubjectId
    sex: Sex | None = None
    age: int | None = None
    age_first_diagnosis: int | None = None
    age_first_symptoms: int | None = None
    family_type: FamilyType | None = None
    affected: bool | None = None
    hpo: tuple[Term, ...] = msgspec.field(name="HPO", default=())
    excluded_hpo: tuple[str, ...] = msgspec.field(name="excludedHPO", default=())
    ordo: tuple[Term, ...] = msgspec.field(name="ORDO", default=())
    snomed: tuple[Term, ...] = msgspec.field(name="SNOMED", default=())
    ncit: tuple[Term, ...] = msgspec.field(name="NCIT", default=())
    variant: tuple[Variant, ...] = msgspec.field(name="VARIANT", default=())
    alleles: tuple[GeneAlleles, ...] = msgspec.field(name="ALLELES", default=())
    eav: dict[str, EavValue] = msgspec.field(name="EAV", default_factory=dict)


class SubjectCapability(Wire, frozen=True, kw_only=True):
    """Which demographics at least one subject has; `age` stands for all three ages."""

    age: bool = False
    gender: bool = False
    family_type: bool = False
    affected: bool = False


class Capability(Wire, frozen=True, kw_only=True):
    """Kinds of data that at least one subject has; in a query: kinds that a source must have."""

    subject: bool = False
    genes: bool = False
    hpo: bool = False
    ordo: bool = False
    snomed: bool = False
    variant: bool = False
    source: bool = False
    eav: bool = False
    subject_capability: SubjectCapability = SubjectCapability()
