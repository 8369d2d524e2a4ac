"""Sources, their data files and what is told about their contents."""

from typing import Annotated, Literal, NewType

import msgspec

from cvf_app.ids import SourceId
from cvf_app.pipelines.model import PipelineId
from cvf_app.wire import Job, Wire

DataFileId = NewType("DataFileId", str)
SourceName = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9]+$", max_length=128)]
FileFormat = Literal["csv", "tsv", "vcf", "phenopacket", "zip", "xlsx"]


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


class EavIndex(Wire, frozen=True, kw_only=True):
    """Attributes and values with their display names, and the values of each attribute."""

    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    values: dict[str, str] = msgspec.field(default_factory=dict)
    mappings: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)


class RecordIndex(Wire, frozen=True, kw_only=True):
    """What a source holds, in outline; recomputed with every generation."""

    capability: Capability | None = None
    eav_index: EavIndex | None = None
    record_count: int | None = None


class NewSource(Wire, frozen=True, kw_only=True, tag_field="sourceType", tag="internal"):
    """A source as sent; the server makes the id when none is given."""

    source_name: SourceName
    display_name: str
    source_description: str = ""
    owner: str = ""
    owner_email: str = ""
    online: bool = True
    source_id: SourceId | None = None


class InternalSource(Wire, frozen=True, kw_only=True, tag_field="sourceType", tag="internal"):
    """A source whose subjects this instance keeps."""

    source_id: SourceId
    source_name: str
    display_name: str
    source_description: str = ""
    owner: str = ""
    owner_email: str = ""
    online: bool
    record_index: RecordIndex | None = None


Source = InternalSource


class DataFile(Wire, frozen=True, kw_only=True):
    """A file of a source; processed: its subjects are in the answering generation."""

    data_file_id: DataFileId
    filename: str
    file_format: FileFormat
    is_processed: bool
    source_id: SourceId
    size: int = 0
    sha256: str = ""


class IngestRequest(Wire, frozen=True, kw_only=True):
    """Which files to take in, and by which pipeline (none is needed for phenopackets)."""

    pipeline_id: PipelineId | None = msgspec.field(name="pipelineID", default=None)
    data_file_ids: tuple[DataFileId, ...] = msgspec.field(name="dataFileIDs")


class Ingest(Job, frozen=True, kw_only=True, tag="ingest"):
    """Read data files by a file pipeline; phenopackets become subjects at once."""

    source_id: SourceId
    pipeline_id: PipelineId | None = None
    data_file_ids: tuple[DataFileId, ...]


class Remap(Job, frozen=True, kw_only=True, tag="remap"):
    """Turn read data files into subjects by a remap pipeline, and build a new generation."""

    source_id: SourceId
    pipeline_id: PipelineId
    data_file_ids: tuple[DataFileId, ...]


class Reindex(Job, frozen=True, kw_only=True, tag="reindex"):
    """Build a new generation from the stored subjects."""

    source_id: SourceId
