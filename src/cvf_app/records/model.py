"""Record queries and their answers as they travel: the published query builder and its replies.

Sources of the shapes: the published schemas `query_builder`, `record_data_query`,
`record_data_response` and `query_response`. Reading accepts the spellings of prose and
files (`trio`/`trios`, `useOrphanet`/`useOrphaNet`, `variants`/`variant`); what is stored
and answered has the spelling of the files.
"""

from enum import Enum
from typing import Literal, NewType

import msgspec

from cvf_app.groups.model import Depth
from cvf_app.ids import SourceId
from cvf_app.sources.model import Capability
from cvf_app.subject import Mutation
from cvf_app.wire import Job, Wire

QueryId = NewType("QueryId", str)


class AgeFilter(Wire, frozen=True, kw_only=True):
    """An age range in completed years, inclusive; 0 to 100 means "not given"."""

    min: int
    max: int


class FamilyTypeFilter(Wire, frozen=True, kw_only=True):
    """Family types asked for, joined by OR; none means any."""

    family: bool = False
    singletons: bool = False
    trios: bool = False


class SubjectFilter(Wire, frozen=True, kw_only=True):
    """Demographics, joined by AND."""

    affected_only: bool = False
    age: AgeFilter | None = None
    age_first_symptoms: AgeFilter | None = None
    age_first_diagnosis: AgeFilter | None = None
    family_type: FamilyTypeFilter | None = None
    gender: Literal["male", "female", "any"] = "any"


class HpoFilter(Wire, frozen=True, kw_only=True):
    """HPO terms of which at least `minimumMatch` must be there."""

    terms: tuple[str, ...]
    similarity: float = 1.0
    minimum_match: int = 1
    use_orpha_net: bool = msgspec.field(name="useOrphaNet", default=False)


class OrdoFilter(Wire, frozen=True, kw_only=True):
    """ORDO terms of which at least `minimumMatch` must be there."""

    terms: tuple[str, ...]
    similarity: float = 1.0
    minimum_match: int = 1
    use_hpo: bool = msgspec.field(name="useHPO", default=False)


class SnomedFilter(Wire, frozen=True, kw_only=True):
    """SNOMED CT codes of which at least `minimumMatch` must be there."""

    terms: tuple[str, ...]
    minimum_match: int = 1


class AllelesFilter(Wire, frozen=True, kw_only=True):
    """A gene with alleles of which any must be there."""

    gene: str
    alleles: tuple[str, ...]


class GenesFilter(Wire, frozen=True, kw_only=True):
    """Genes with alleles; every gene must match, by any of its alleles."""

    alleles: tuple[AllelesFilter, ...] = ()


class VariantFilter(Wire, frozen=True, kw_only=True):
    """A variant: empty `genes` or `mutation` mean any; `maxAf` is a frequency from 0 to 1."""

    genes: tuple[str, ...] = ()
    reactome: tuple[str, ...] = ()
    mutation: tuple[Mutation, ...] = ()
    max_af: float = 1.0
    use_local_af: bool = False


class EavRelation(Enum):
    """How an attribute's value is compared; negative relations need the attribute to be there."""

    STRING_IS = "stringIs"
    STRING_IS_NOT = "stringIsNot"
    REGEX_CONTAINS = "regexContains"
    REGEX_DOES_NOT_CONTAIN = "regexDoesNotContain"
    NUMERIC_EQUALS = "numericEquals"
    NUMERIC_NOT_EQUALS = "numericNotEquals"
    NUMERIC_GREATER_THAN = "numericGreaterThan"
    NUMERIC_LESS_THAN = "numericLessThan"
    NUMERIC_GREATER_THAN_OR_EQUAL = "numericGreaterThanOrEqual"
    NUMERIC_LESS_THAN_OR_EQUAL = "numericLessThanOrEqual"


class EavFilter(Wire, frozen=True, kw_only=True):
    """One attribute compared with one value; types are strict."""

    attribute: str
    relation: EavRelation
    value: str | int | float | bool


class SourcesFilter(Wire, frozen=True, kw_only=True):
    """The sources asked; empty means all that the asker may know of. Unknown ids are passed over."""

    sources: tuple[SourceId, ...] = ()


class Advanced(Wire, frozen=True, kw_only=True):
    """The depth asked for, and the kinds of data without which a source must not match."""

    granularity: Depth | None = None
    required_filters: Capability | None = None


class RecordQuery(Wire, frozen=True, kw_only=True):
    """The published query builder: filters of all kinds, joined by AND."""

    subject: SubjectFilter | None = None
    hpo: tuple[HpoFilter, ...] = ()
    ordo: tuple[OrdoFilter, ...] = ()
    genes: tuple[GenesFilter, ...] = ()
    snomed: tuple[SnomedFilter, ...] = ()
    variant: tuple[VariantFilter, ...] = ()
    sources: SourcesFilter | None = None
    eav: tuple[EavFilter, ...] = ()
    advanced: Advanced | None = None


class RunRecordQuery(Job, frozen=True, kw_only=True, tag="runRecordQuery"):
    """Answer a stored query."""

    query_id: QueryId
