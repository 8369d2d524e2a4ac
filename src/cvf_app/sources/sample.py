"""The head of a data file of any format as a few dictionaries; only the head is read. Pure.

Of a packed file only the head is unpacked, of a workbook only the first rows. What is cut off by
the end of the head is left out.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from cvf_app.errors import Invalid
from cvf_app.files.formats import FileFormat
from cvf_app.pipelines.bcf import lines_of_bcf
from cvf_app.pipelines.compressed import opened
from cvf_app.pipelines.content import check_content
from cvf_app.pipelines.expand import separator
from cvf_app.pipelines.model import FilePipeline, Refusal
from cvf_app.pipelines.objects import objects
from cvf_app.pipelines.read import Table
from cvf_app.pipelines.rows import Rows
from cvf_app.pipelines.sheet import Sheet
from cvf_app.wire import decode

MOST_ROWS = 10
HEAD = 256 * 1024
MOST_SAMPLES = 10
_LARGEST_DOCUMENT = 2**20
_VCF_HEAD = 8 * 2**20
_FIXED = 9
_SEPARATORS = (",", "\t", ";", "|")


def sample(
    path: Path, filename: str, kind: FileFormat, pipeline: FilePipeline | None
) -> list[dict[str, Any]]:
    """Return the first rows of a table or VCF, or the first documents of JSON.

    Raises:
        Invalid: the head cannot be read.
    """
    with path.open("rb") as file:
        check_content(file, filename, kind)
        match kind:
            case "zip":
                return _entries(file)
            case "json" | "phenopacket":
                return _documents(file)
            case "vcf" | "bcf":
                return _sites(file, kind)
            case "csv" | "tsv" | "xlsx":
                return _rows(_table(file, kind, pipeline))


def columns_of(path: Path, kind: FileFormat, pipeline: FilePipeline | None) -> tuple[str, ...]:
    """Return the names of a table's columns; of JSON those of the first objects.

    Raises:
        Invalid: it has no header.
    """
    with path.open("rb") as file:
        if kind == "json":
            return tuple(dict.fromkeys(name for found in _documents(file) for name in found))
        return _table(file, kind, pipeline).header


def _table(file: BinaryIO, kind: FileFormat, pipeline: FilePipeline | None) -> Rows:
    if kind == "xlsx":
        name = (pipeline.sheet if pipeline is not None else None) or ""
        return Sheet(file, name, refuse=_pass_over, advance=_ignore)
    start, whole = _head(file, HEAD)
    if not whole and b"\n" in start:
        # The last line is cut off.
        start = start[: start.rindex(b"\n") + 1]
    mark = separator(pipeline) if pipeline is not None else _sniffed(start)
    return Table(io.BytesIO(start), mark, refuse=_pass_over, advance=_ignore)


def _rows(table: Rows) -> list[dict[str, Any]]:
    return [
        dict(zip(table.header, row.cells, strict=False)) for row in islice(table.rows(), MOST_ROWS)
    ]


def _head(file: BinaryIO, size: int) -> tuple[bytes, bool]:
    """Return the unpacked head of a file, and whether that is all of it."""
    start = opened(file, _ignore).stream.read(size + 1)
    return start[:size], len(start) <= size


def _sniffed(start: bytes) -> str:
    first = start.split(b"\n", 1)[0]
    return max(_SEPARATORS, key=lambda mark: first.count(mark.encode()))


def _documents(file: BinaryIO) -> list[dict[str, Any]]:
    start, whole = _head(file, _LARGEST_DOCUMENT)
    found: list[dict[str, Any]] = []
    try:
        for _, data in islice(objects(io.BytesIO(start), _ignore), MOST_ROWS):
            found.append(decode(data, dict[str, Any]))
    except Invalid:
        if whole:
            raise
        # The end of the head is in the middle of this document.
        if not found:
            raise Invalid("This document is too large to be shown.") from None
    return found


def _sites(file: BinaryIO, kind: FileFormat) -> list[dict[str, Any]]:
    """Show the first sites with the first samples of each, and the number of those left out."""
    lines = lines_of_bcf(file) if kind == "bcf" else _lines(file)
    names = next((line for line in lines if not line.startswith(b"##")), b"")
    if not names.startswith(b"#CHROM"):
        raise Invalid("The header of this VCF is broken, or too large to be shown.")
    header = _cells(names.lstrip(b"#"))
    shown: list[dict[str, Any]] = []
    for line in islice(lines, MOST_ROWS):
        shown.append(dict(zip(header[:-1], _cells(line)[:-1], strict=False)))
        more = line.count(b"\t") + 1 - _FIXED - MOST_SAMPLES
        if more > 0:
            shown[-1]["moreSamples"] = more
    return shown


def _lines(file: BinaryIO) -> Iterator[bytes]:
    start, whole = _head(file, _VCF_HEAD)
    for line in io.BytesIO(start):
        if whole or line.endswith(b"\n"):
            yield line


def _cells(line: bytes) -> list[str]:
    """Return the fixed columns and the first samples, and last what is left out."""
    text = line.rstrip(b"\r\n").decode(errors="replace")
    cells = text.split("\t", _FIXED + MOST_SAMPLES)
    return cells if len(cells) > _FIXED + MOST_SAMPLES else [*cells, ""]


def _entries(file: BinaryIO) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if (
                    not entry.filename.lower().endswith(".json")
                    or entry.file_size > _LARGEST_DOCUMENT
                ):
                    continue
                with archive.open(entry) as content:
                    document = json.loads(content.read(_LARGEST_DOCUMENT))
                found.append(document if isinstance(document, dict) else {"value": document})
                if len(found) == MOST_ROWS:
                    break
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as fault:
        raise Invalid("This archive cannot be read.") from fault
    return found


def _pass_over(_: Refusal) -> None:
    return None


def _ignore(_: int) -> None:
    return None
