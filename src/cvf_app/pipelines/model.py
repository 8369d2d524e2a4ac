"""File and remap pipelines: how the rows of a file become subjects.

The published schemas of file pipelines can be satisfied by no document, so these are ours:
a stray `sourceType` is read and dropped by `check`, and the four kinds of file pipeline are told
apart by their members and not by the published constant of `subjectIdLocation`.
"""

from typing import Any, Literal, NewType

from cvf_app.errors import Invalid
from cvf_app.wire import Wire

PipelineId = NewType("PipelineId", str)
Destination = Literal["hpo", "ordo", "gene", "snomedCT", "eav", "ncit", "subject"]


class Unreadable(Invalid):
    """The content of a file is not what it should be; the sentence says where."""


class Refusal(Wire, frozen=True, kw_only=True):
    """A row that was left out: its line in the file, from 1, and why.

    `attribute` is the one at fault, if it was one; where the row was kept without its value,
    `kept` is true. `place` says what was left out of a file that has no rows: the name within an
    archive, and the item or line there, or the subject of a VCF.
    """

    line: int
    reason: str
    attribute: str | None = None
    place: str | None = None
    kept: bool = False


class RowFilter(Wire, frozen=True, kw_only=True):
    """Only rows whose cell in this column equals this text are read."""

    column: str
    equals: str


class FilePipeline(Wire, frozen=True, kw_only=True, tag_field="pipelineType", tag="filePipeline"):
    """How to read a table and where its subject ids are; exactly one kind of location is given.

    `attribute`: the id stands in this column. `prefix` and `batchSize`: every so many rows are
    one subject. `columns`, `expansionPolicy` and `newAttribute`: counts become subjects.
    None of them: the file's name is the id. `internalDelimiter` is the file's separator, and
    `sheet` the name of a workbook's sheet (the first one without it).
    A cell that equals one of `missing` (`NA`, say) is no value, like a blank one.
    """

    pipeline_id: PipelineId | None = None
    pipeline_name: str
    grouping: Literal["individual", "customized"] = "individual"
    internal_delimiter: str = ","
    group_columns: str = ""
    subject_id_location: str = "attributeInFile"
    attribute: str | None = None
    prefix: str | None = None
    batch_size: int | None = None
    columns: tuple[str, ...] = ()
    expansion_policy: Literal["individual", "customized"] | None = None
    new_attribute: str | None = None
    row_filter: RowFilter | None = None
    missing: tuple[str, ...] = ()
    sheet: str | None = None
    source_type: Any = None


class BasicPattern(Wire, frozen=True, kw_only=True, tag_field="patternSetType", tag="basic"):
    """A pattern (RE2) whose every match gives one value through the replacement."""

    pattern: str
    replacement: str


class QualifierPattern(
    Wire, frozen=True, kw_only=True, tag_field="patternSetType", tag="qualifier"
):
    """A pattern (RE2) whose every match gives a qualifier and a value."""

    pattern: str
    qualifier_replacement: str
    value_replacement: str


class Directive(Wire, frozen=True, kw_only=True, tag_field="directiveType", tag="termSet"):
    """What becomes of the cells of one column; the first pattern set that matches wins."""

    destination: Destination
    origin: str
    pattern_sets: tuple[BasicPattern | QualifierPattern, ...] = ()


class RemapPipeline(Wire, frozen=True, kw_only=True, tag_field="pipelineType", tag="remapPipeline"):
    """Directives that turn the cells of columns into a subject."""

    pipeline_id: PipelineId | None = None
    pipeline_name: str
    directives: tuple[Directive, ...]
    source_type: Any = None


Pipeline = FilePipeline | RemapPipeline
