"""Whether a pipeline can be run, before it is kept. Pure."""

import re
from typing import TypeVar

import msgspec

from cvf_app.errors import Invalid
from cvf_app.pipelines.demographics import FIELDS
from cvf_app.pipelines.expand import Location, location, separator
from cvf_app.pipelines.model import (
    Directive,
    FilePipeline,
    QualifierPattern,
    RemapPipeline,
)
from cvf_app.pipelines.patterns import compile_set

P = TypeVar("P", FilePipeline, RemapPipeline)
MOST_DIRECTIVES = 1000
_LOCATIONS = {
    "attributeInFile": set(Location),
    "attributeInName": {Location.NAME},
    "assignPerBatch": {Location.BATCH},
    "assignByExpansion": {Location.EXPANSION},
    "assignByExtension": {Location.EXPANSION},
}
"""The published constants; three published kinds bear the first one, so it says nothing."""


def check(pipeline: P) -> P:
    """Return a pipeline as it is kept, without a stray `sourceType`.

    Raises:
        Invalid: it cannot be run; the path says where the fault is.
    """
    if not pipeline.pipeline_name.strip():
        raise Invalid("A pipeline needs a name.", path="$.pipelineName")
    if isinstance(pipeline, FilePipeline):
        _check_file(pipeline)
    else:
        _check_remap(pipeline)
    return msgspec.structs.replace(pipeline, source_type=None)


def _check_file(pipeline: FilePipeline) -> None:
    if len(separator(pipeline)) != 1 or separator(pipeline) in '"\r\n\0':
        raise Invalid(
            "The separator of the file is one character, and no quotation mark or line end.",
            path="$.internalDelimiter",
        )
    if pipeline.grouping == "customized" and not pipeline.group_columns:
        raise Invalid(
            "Customized grouping needs the name of the columns that end a group.",
            path="$.groupColumns",
        )
    if pipeline.row_filter is not None and not pipeline.row_filter.column:
        raise Invalid("The row filter needs a column.", path="$.rowFilter.column")
    _check_location(pipeline)


def _check_location(pipeline: FilePipeline) -> None:
    where = location(pipeline)
    given = {
        "attribute": (Location.COLUMN, pipeline.attribute is not None),
        "prefix": (Location.BATCH, pipeline.prefix is not None),
        "batchSize": (Location.BATCH, pipeline.batch_size is not None),
        "columns": (Location.EXPANSION, bool(pipeline.columns)),
        "expansionPolicy": (Location.EXPANSION, pipeline.expansion_policy is not None),
        "newAttribute": (Location.EXPANSION, pipeline.new_attribute is not None),
    }
    for member, (belongs, there) in given.items():
        if there and belongs is not where:
            raise Invalid(
                f"`{member}` contradicts the other members: a pipeline has one place for ids.",
                path=f"$.{member}",
            )
    if where not in _LOCATIONS.get(pipeline.subject_id_location, set()):
        raise Invalid(
            "This place of the subject ids is unknown or contradicts the other members.",
            path="$.subjectIdLocation",
        )
    if pipeline.attribute is not None and not pipeline.attribute.strip():
        raise Invalid("The column of the subject ids needs a name.", path="$.attribute")
    if pipeline.batch_size is not None and pipeline.batch_size < 1:
        raise Invalid("A batch has at least one row.", path="$.batchSize")
    if where is Location.EXPANSION and pipeline.expansion_policy is None:
        raise Invalid("Counted columns need an expansion policy.", path="$.expansionPolicy")


def _check_remap(pipeline: RemapPipeline) -> None:
    if len(pipeline.directives) > MOST_DIRECTIVES:
        raise Invalid(f"At most {MOST_DIRECTIVES} directives are taken.", path="$.directives")
    for number, directive in enumerate(pipeline.directives):
        path = f"$.directives[{number}]"
        if not directive.origin.strip():
            raise Invalid("A directive needs a column.", path=f"{path}.origin")
        for place, given in enumerate(directive.pattern_sets):
            compile_set(given, f"{path}.patternSets[{place}]")
        if directive.destination == "subject":
            _check_subject(directive, path)


def _check_subject(directive: Directive, path: str) -> None:
    known = f"The fields of a subject are: {', '.join(FIELDS)}."
    sets = directive.pattern_sets
    for place, given in enumerate(sets):
        if not isinstance(given, QualifierPattern):
            continue
        name = given.qualifier_replacement
        if not re.search(r"\\", name) and name not in FIELDS:
            raise Invalid(known, path=f"{path}.patternSets[{place}].qualifierReplacement")
    by_name = not sets or any(not isinstance(given, QualifierPattern) for given in sets)
    if by_name and directive.origin not in FIELDS:
        raise Invalid(known, path=f"{path}.origin")
