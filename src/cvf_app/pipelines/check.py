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
MOST_SETS = 100
MOST_PATTERNS = 2000
MOST_MISSING = 100
MOST_COUNTED = 1000
LONGEST_NAME = 500
LONGEST_PREFIX = 100
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
    _check_name(pipeline.pipeline_name, "A pipeline needs a name.", "$.pipelineName")
    if isinstance(pipeline, FilePipeline):
        _check_file(pipeline)
    else:
        _check_remap(pipeline)
    return msgspec.structs.replace(pipeline, source_type=None)


def _check_name(name: str, sentence: str, path: str) -> None:
    if not name.strip():
        raise Invalid(sentence, path=path)
    if len(name) > LONGEST_NAME:
        raise Invalid(f"At most {LONGEST_NAME} characters are taken here.", path=path)


def _check_column(name: str, sentence: str, path: str) -> None:
    _check_name(name, sentence, path)
    if name != name.strip():
        raise Invalid("Names of columns are read without blanks around them.", path=path)


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
    if pipeline.group_columns:
        _check_column(pipeline.group_columns, "A group's end has a name.", "$.groupColumns")
    if pipeline.row_filter is not None:
        wanted = pipeline.row_filter
        _check_column(wanted.column, "The row filter needs a column.", "$.rowFilter.column")
        if wanted.equals:
            said = "The row filter needs a text."
            _check_column(wanted.equals, said, "$.rowFilter.equals")
    if pipeline.sheet is not None:
        _check_name(pipeline.sheet, "The sheet needs a name.", "$.sheet")
    _check_missing(pipeline.missing)
    _check_location(pipeline)


def _check_missing(tokens: tuple[str, ...]) -> None:
    if len(tokens) > MOST_MISSING:
        raise Invalid(f"At most {MOST_MISSING} words for a missing value.", path="$.missing")
    for place, token in enumerate(tokens):
        path = f"$.missing[{place}]"
        if not token or token != token.strip() or len(token) > LONGEST_NAME:
            raise Invalid(
                "A word for a missing value is a text without blanks around it; a blank cell is"
                " no value in any case.",
                path=path,
            )
        if token in tokens[:place]:
            raise Invalid("This word is there twice.", path=path)


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
    if pipeline.attribute is not None:
        said = "The column of the subject ids needs a name."
        _check_column(pipeline.attribute, said, "$.attribute")
    if pipeline.batch_size is not None and pipeline.batch_size < 1:
        raise Invalid("A batch has at least one row.", path="$.batchSize")
    if pipeline.prefix is not None and len(pipeline.prefix) > LONGEST_PREFIX:
        raise Invalid(f"A prefix has at most {LONGEST_PREFIX} characters.", path="$.prefix")
    if where is Location.EXPANSION:
        _check_expansion(pipeline)


def _check_expansion(pipeline: FilePipeline) -> None:
    if len(pipeline.columns) > MOST_COUNTED:
        raise Invalid(f"At most {MOST_COUNTED} columns are counted.", path="$.columns")
    for place, name in enumerate(pipeline.columns):
        path = f"$.columns[{place}]"
        _check_column(name, "A counted column needs a name.", path)
        if name in pipeline.columns[:place]:
            raise Invalid("This column is counted twice.", path=path)
    if pipeline.new_attribute is not None:
        said = "The new attribute needs a name."
        _check_column(pipeline.new_attribute, said, "$.newAttribute")
    if pipeline.expansion_policy is None:
        raise Invalid("Counted columns need an expansion policy.", path="$.expansionPolicy")


def _check_remap(pipeline: RemapPipeline) -> None:
    if len(pipeline.directives) > MOST_DIRECTIVES:
        raise Invalid(f"At most {MOST_DIRECTIVES} directives are taken.", path="$.directives")
    patterns = 0
    for number, directive in enumerate(pipeline.directives):
        path = f"$.directives[{number}]"
        _check_column(directive.origin, "A directive needs a column.", f"{path}.origin")
        if len(directive.pattern_sets) > MOST_SETS:
            raise Invalid(
                f"At most {MOST_SETS} pattern sets are tried.", path=f"{path}.patternSets"
            )
        patterns += len(directive.pattern_sets)
        if patterns > MOST_PATTERNS:
            raise Invalid(f"At most {MOST_PATTERNS} patterns are taken in all.", path=path)
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
