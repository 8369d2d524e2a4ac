"""Sources, their data files and what is told about their contents."""

from typing import Annotated, Literal, NewType

import msgspec

from cvf_app.files.formats import FileFormat
from cvf_app.ids import SourceId
from cvf_app.jobs.model import JobId
from cvf_app.pipelines.attributes import AttributeSchema, AttributeType, Mismatch
from cvf_app.pipelines.model import FilePipeline, PipelineId, Refusal
from cvf_app.subject import Capability
from cvf_app.wire import Job, Wire

DataFileId = NewType("DataFileId", str)
SourceName = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9]+$", max_length=128)]


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


class NewSource(Wire, frozen=True, kw_only=True):
    """A source as sent; the server makes the id when none is given."""

    source_type: Literal["internal"] = "internal"
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
    """A file of a source; processed: its subjects answer; missing: its content is gone."""

    data_file_id: DataFileId
    filename: str
    file_format: FileFormat
    is_processed: bool
    source_id: SourceId
    size: int = 0
    sha256: str = ""
    missing: bool = False


class IngestRequest(Wire, frozen=True, kw_only=True):
    """Which files to take in, and by which pipeline (phenopackets and VCF need none).

    With `remapPipelineID` tables become subjects at once, in one reading and without a remap.
    Of a VCF with several samples each sample is a subject; one with a single sample, or with none,
    is one subject by the name of its file.
    """

    pipeline_id: PipelineId | None = msgspec.field(name="pipelineID", default=None)
    remap_pipeline_id: PipelineId | None = msgspec.field(name="remapPipelineID", default=None)
    data_file_ids: tuple[DataFileId, ...] = msgspec.field(name="dataFileIDs")


class RemapRequest(Wire, frozen=True, kw_only=True):
    """Which files that were ingested to turn into subjects, and by which pipeline."""

    pipeline_id: PipelineId = msgspec.field(name="pipelineID")
    data_file_ids: tuple[DataFileId, ...] = msgspec.field(name="dataFileIDs")


class Ingest(Job, frozen=True, kw_only=True, tag="ingest"):
    """Read data files by a file pipeline; phenopackets and VCF become subjects at once.

    So do tables when there is a remap pipeline.
    """

    source_id: SourceId
    pipeline_id: PipelineId | None = None
    remap_pipeline_id: PipelineId | None = None
    data_file_ids: tuple[DataFileId, ...]
    request_id: str = ""


class Remap(Job, frozen=True, kw_only=True, tag="remap"):
    """Turn read data files into subjects by a remap pipeline, and build a new generation."""

    source_id: SourceId
    pipeline_id: PipelineId
    data_file_ids: tuple[DataFileId, ...]
    request_id: str = ""


class Reindex(Job, frozen=True, kw_only=True, tag="reindex"):
    """Build a new generation from the stored subjects."""

    source_id: SourceId
    request_id: str = ""


class Declarations(Wire, frozen=True, kw_only=True):
    """The declared attributes of a source, and what becomes of a row that does not fit them.

    `refuse`: the row is left out. `flag`: the value is left out, the row stays. Both are reported.
    """

    on_mismatch: Mismatch = "refuse"
    attributes: tuple[AttributeSchema, ...] = ()


class DeclarationsChange(Wire, frozen=True, kw_only=True):
    """What a PATCH may carry: schemas to add or replace by name, and names to declare no more."""

    on_mismatch: Mismatch | None = None
    attributes: tuple[AttributeSchema, ...] = ()
    removed: tuple[str, ...] = ()


class KnownAttribute(Wire, frozen=True, kw_only=True):
    """An attribute of a source: declared, or inferred from what its subjects have."""

    name: str
    display_name: str
    declared: bool
    value_type: AttributeType
    description: str = ""
    required: bool = False


class KnownAttributes(Wire, frozen=True, kw_only=True):
    """All attributes of a source, the declared ones first."""

    on_mismatch: Mismatch
    attributes: tuple[KnownAttribute, ...]


class Retype(Job, frozen=True, kw_only=True, tag="retype"):
    """Change declared attributes, with all stored values or not at all; `whole` replaces all."""

    source_id: SourceId
    change: DeclarationsChange
    whole: bool
    check_only: bool
    request_id: str = ""


class SourceChange(Wire, frozen=True, kw_only=True):
    """What a PATCH may carry; what is absent stays. An index that is sent is passed over."""

    source_type: Literal["internal"] = "internal"
    source_id: SourceId | None = None
    source_name: SourceName | None = None
    display_name: str | None = None
    source_description: str | None = None
    owner: str | None = None
    owner_email: str | None = None
    online: bool | None = None
    record_index: RecordIndex | None = None


class Share(Wire, frozen=True, kw_only=True):
    """The contribution of one data file to a source: so many subjects in so many batches."""

    share: str
    data_file_id: DataFileId
    subjects: int
    batches: int


class Contents(Wire, frozen=True, kw_only=True):
    """What a source holds at one time: everything that one switch replaces."""

    generation: int = 0
    folder: str | None = None
    shares: tuple[Share, ...] = ()
    capability: Capability = Capability()
    record_count: int = 0


class KeptFile(Wire, frozen=True, kw_only=True):
    """A data file as we keep it, with what an ingest found out about it."""

    data_file_id: DataFileId
    filename: str
    file_format: FileFormat
    source_id: SourceId
    size: int
    sha256: str
    uploaded_at: int
    columns: tuple[str, ...] = ()
    file_pipeline: FilePipeline | None = None
    deleted: bool = False


class FileReport(Wire, frozen=True, kw_only=True):
    """What came of one data file: rows read, subjects made, rows refused (the first of them).

    `flags` are values that were left out of rows that stayed (the first of them), `flagged` their
    number. `unmatched` counts per column the cells (or single codes) that gave nothing, with
    examples.
    """

    data_file_id: DataFileId
    filename: str
    rows: int
    subjects: int
    refused: int
    refusals: tuple[Refusal, ...] = ()
    flagged: int = 0
    flags: tuple[Refusal, ...] = ()
    unmatched: dict[str, int] = msgspec.field(default_factory=dict)
    unmatched_examples: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)


class IngestReport(Wire, frozen=True, kw_only=True):
    """What came of all files of an ingest or a remap."""

    job_id: JobId
    source_id: SourceId
    rows: int
    subjects: int
    refused: int
    flagged: int = 0
    files: tuple[FileReport, ...]


class UploadTokenReply(Wire, frozen=True, kw_only=True):
    """An upload token, with what a client needs to cut a file."""

    token: str
    expires_in: int
    chunk_size: int


class ChunkReply(Wire, frozen=True, kw_only=True):
    """The published answer to a chunk; with the last missing one comes the data file's id."""

    status: str
    data_file_id: DataFileId | None = None


class Started(Wire, frozen=True, kw_only=True):
    """The published success of an action, with the job that does it."""

    status: str
    job_id: str | None = None
