"""Rows and a file pipeline become staged rows: whose row it is, and the cells by column.

Pure. The four places of a subject's id are told apart by the pipeline's members. Ids that we make
are the same whenever the same file comes from the same source.
"""

import re
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import PurePosixPath
from typing import NamedTuple
from uuid import UUID, uuid5

from cvf_app.ids import SourceId
from cvf_app.pipelines.model import FilePipeline, Refusal, Unreadable
from cvf_app.pipelines.read import Row
from cvf_app.pipelines.rows import Rows
from cvf_app.subject import SubjectId
from cvf_app.wire import encode

MOST_EXPANDED = 1_000_000
LONGEST_ID = 500
_SPACE = UUID("0b5cf0e6-6cf1-4be4-a5a3-5f2a7a5b8f0e")
_KNOWN = re.compile(r"(?i)(?<=.)\.(?:csv|tsv|tab|txt|vcf|json|jsonl|ndjson|xlsx|bcf|gz|bgz|zip)$")
_COUNT = re.compile(r"[0-9]+")


class Location(Enum):
    """Where the ids of subjects come from."""

    COLUMN = "column"
    NAME = "name"
    BATCH = "batch"
    EXPANSION = "expansion"


class Staged(NamedTuple):
    """Part of a subject: the cells of one row that are not blank, by the name of their column."""

    subject_id: SubjectId
    cells: dict[str, list[str]]
    line: int = 0


class Origin(NamedTuple):
    """Which file of which source is read."""

    source_id: SourceId
    filename: str


def location(pipeline: FilePipeline) -> Location:
    """Tell where a pipeline's subject ids are, by its members alone."""
    if pipeline.columns:
        return Location.EXPANSION
    if pipeline.batch_size is not None:
        return Location.BATCH
    return Location.NAME if pipeline.attribute is None else Location.COLUMN


def separator(pipeline: FilePipeline) -> str:
    r"""Return the separator of the file; `\t` is understood."""
    return "\t" if pipeline.internal_delimiter == "\\t" else pipeline.internal_delimiter


def subject_of_name(filename: str) -> SubjectId:
    """Return the id that a file's name is, without its known extensions.

    Raises:
        Unreadable: nothing is left.
    """
    name = PurePosixPath(filename).name.strip()
    while (shorter := _KNOWN.sub("", name)) != name:
        name = shorter
    if not name:
        raise Unreadable("The file's name holds no subject id.")
    return SubjectId(name)


def stage(
    table: Rows, pipeline: FilePipeline, origin: Origin, refuse: Callable[[Refusal], None]
) -> Iterator[Staged]:
    """Yield the parts of subjects that the rows of a table hold, in the order of the rows.

    Raises:
        Unreadable: a column that the pipeline names is missing, or there are too many subjects.
    """
    rows = _kept(table, pipeline)
    missing = _missing(pipeline)
    match location(pipeline):
        case Location.COLUMN:
            yield from _by_column(table, pipeline, rows, refuse)
        case Location.NAME:
            whole = subject_of_name(origin.filename)
            data = _data_columns(table, pipeline, ())
            for row in rows:
                yield Staged(whole, _cells(row, data, missing), row.line)
        case Location.BATCH:
            size, prefix = pipeline.batch_size or 1, pipeline.prefix
            data = _data_columns(table, pipeline, ())
            for number, row in enumerate(rows):
                made = _made(origin, number // size)
                name = SubjectId(f"{prefix}_{made}" if prefix else made)
                yield Staged(name, _cells(row, data, missing), row.line)
        case Location.EXPANSION:
            yield from _expanded(table, pipeline, rows, origin)


def _kept(table: Rows, pipeline: FilePipeline) -> Iterator[Row]:
    wanted = pipeline.row_filter
    if wanted is None:
        return table.rows()
    place = table.column(wanted.column)
    return (row for row in table.rows() if row.cells[place] == wanted.equals)


def _by_column(
    table: Rows,
    pipeline: FilePipeline,
    rows: Iterator[Row],
    refuse: Callable[[Refusal], None],
) -> Iterator[Staged]:
    name = pipeline.attribute or ""
    place = table.column(name)
    data = _data_columns(table, pipeline, (name,))
    missing = _missing(pipeline)
    for row in rows:
        subject = row.cells[place]
        if subject in missing:
            refuse(Refusal(line=row.line, reason="no subject id"))
        elif len(subject) > LONGEST_ID:
            reason = f"the subject id is longer than {LONGEST_ID} characters"
            refuse(Refusal(line=row.line, reason=reason))
        else:
            yield Staged(SubjectId(subject), _cells(row, data, missing), row.line)


def _expanded(
    table: Rows, pipeline: FilePipeline, rows: Iterator[Row], origin: Origin
) -> Iterator[Staged]:
    counted = [(name, table.column(name)) for name in pipeline.columns]
    data = _data_columns(table, pipeline, pipeline.columns)
    missing = _missing(pipeline)
    total = 0
    for row in rows:
        counts = [(name, _count(row.cells[place])) for name, place in counted]
        if pipeline.expansion_policy == "customized":
            counts = [max(counts, key=lambda pair: pair[1])]
        total += sum(count for _, count in counts)
        if total > MOST_EXPANDED:
            raise Unreadable(
                f"Line {row.line}: the counted columns make more than {MOST_EXPANDED} subjects."
            )
        cells = _cells(row, data, missing)
        for name, count in counts:
            mine = cells
            if pipeline.new_attribute:
                mine = {**cells, pipeline.new_attribute: [name]}
            for number in range(count):
                made = SubjectId(_made(origin, row.line, name, number))
                yield Staged(made, mine, row.line)


def _data_columns(
    table: Rows, pipeline: FilePipeline, without: tuple[str, ...]
) -> list[tuple[int, str]]:
    left_out = set(without)
    if pipeline.grouping == "customized":
        left_out.add(pipeline.group_columns)
    return [(place, name) for place, name in enumerate(table.header) if name not in left_out]


def _cells(
    row: Row, columns: list[tuple[int, str]], missing: frozenset[str]
) -> dict[str, list[str]]:
    cells: dict[str, list[str]] = {}
    values = row.cells
    for place, name in columns:
        value = values[place]
        if value in missing:
            continue
        known = cells.get(name)
        if known is None:
            cells[name] = [value]
        elif value not in known:
            known.append(value)
    return cells


def _missing(pipeline: FilePipeline) -> frozenset[str]:
    """Return what stands for no value; the blank cell always does."""
    return frozenset(("", *pipeline.missing))


def _count(cell: str) -> int:
    # Nine digits are far above the limit already; more would only cost time.
    return int(cell) if _COUNT.fullmatch(cell) and len(cell) <= 9 else _huge(cell)  # noqa: PLR2004 - see above


def _huge(cell: str) -> int:
    return MOST_EXPANDED + 1 if _COUNT.fullmatch(cell) and int(cell[:4000]) else 0


def _made(origin: Origin, *parts: str | int) -> str:
    return str(uuid5(_SPACE, encode([origin.source_id, origin.filename, *parts]).decode()))
