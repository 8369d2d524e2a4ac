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
from cvf_app.ids import NetworkId, NodeId, SourceId
from cvf_app.principal import UserId
from cvf_app.subject import Capability, Mutation
from cvf_app.wire import Wire

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
    """The sources asked; empty means all in reach; unknown ids are passed over."""

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


class ResultDetails(Wire, frozen=True, kw_only=True):
    """The matching subjects: their ids alone under `list`, whole under `detailedList`.

    They are kept as the JSON they already are. `truncated` says that there are more
    than one answer carries.
    """

    subjects: tuple[msgspec.Raw, ...]
    truncated: bool = False


class SourceAnswer(Wire, frozen=True, kw_only=True):
    """What one source answers (`query_response`); only `disclose` makes one."""

    source_id: SourceId
    source_name: str
    source_owner: str = ""
    owner_email: str = ""
    exist: bool
    record_count: int | None = None
    result_details: ResultDetails | None = None
    ignored_filters: tuple[str, ...]


class QueryStatus(Enum):
    """How far a query is; the last two are ends."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Say whether a query in this state gets no more answers."""
        return self in (QueryStatus.COMPLETE, QueryStatus.FAILED)


class MessageAttributes(Wire, frozen=True, kw_only=True):
    """Where a data message belongs: the query's id, the network, the node and the user."""

    message_id: QueryId
    network_id: NetworkId
    node_id: NodeId
    data_type: Literal["recordQuery", "recordResponse"]
    should_relay: bool
    user_id: UserId


class RecordDataQuery(Wire, frozen=True, kw_only=True, tag_field="messageType", tag="dataMessage"):
    """A stored query (`record_data_query`); the timestamp is epoch seconds."""

    message_attributes: MessageAttributes
    message_data: RecordQuery
    timestamp: int
    status: QueryStatus


class RecordDataResponse(
    Wire, frozen=True, kw_only=True, tag_field="messageType", tag="dataMessage"
):
    """The answers of one node's sources so far (`record_data_response`), in the order they came."""

    message_attributes: MessageAttributes
    message_data: tuple[SourceAnswer, ...]
    timestamp: int


class HistoryItem(Wire, frozen=True, kw_only=True):
    """A query with its answers so far."""

    query: RecordDataQuery
    responses: tuple[RecordDataResponse, ...]
    status: QueryStatus


class Submitted(Wire, frozen=True, kw_only=True):
    """What a query's sender gets at once; `queryID` is spelled as published."""

    query_id: QueryId = msgspec.field(name="queryID")


class Done(Wire, frozen=True, kw_only=True):
    """The last event of a query."""

    query_id: QueryId = msgspec.field(name="queryID")
    status: QueryStatus
