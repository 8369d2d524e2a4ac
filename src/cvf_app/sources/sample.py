"""The head of a data file as a few dictionaries; only the head is read. Pure."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from cvf_app.errors import Invalid
from cvf_app.files.formats import FileFormat
from cvf_app.pipelines.expand import separator
from cvf_app.pipelines.model import FilePipeline, Refusal
from cvf_app.pipelines.read import Table
from cvf_app.wire import decode

MOST_ROWS = 10
HEAD = 256 * 1024
_LARGEST_DOCUMENT = 2**20
_SEPARATORS = (",", "\t", ";", "|")


def sample(path: Path, kind: FileFormat, pipeline: FilePipeline | None) -> list[dict[str, Any]]:
    """Return the first rows of a table, or the first documents of phenopackets.

    Raises:
        Invalid: the head cannot be read.
    """
    if kind in ("csv", "tsv"):
        return _rows(path, pipeline)
    if kind == "zip":
        return _documents(path)
    if kind == "phenopacket":
        if path.stat().st_size > _LARGEST_DOCUMENT:
            raise Invalid("This document is too large to be shown.")
        found = decode(path.read_bytes(), object)
        documents = found if isinstance(found, list) else [found]
        return [each for each in documents if isinstance(each, dict)][:MOST_ROWS]
    raise Invalid("Files of this kind cannot be shown yet.")


def columns_of(path: Path, pipeline: FilePipeline | None) -> tuple[str, ...]:
    """Return the names of a table's columns.

    Raises:
        Invalid: it has no header.
    """
    return _head(path, pipeline).header


def _rows(path: Path, pipeline: FilePipeline | None) -> list[dict[str, Any]]:
    table = _head(path, pipeline)
    found: list[dict[str, Any]] = []
    for row in table.rows():
        found.append(dict(zip(table.header, row.cells, strict=False)))
        if len(found) == MOST_ROWS:
            break
    return found


def _head(path: Path, pipeline: FilePipeline | None) -> Table:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if len(head) == HEAD and b"\n" in head:
        # The last line is cut off.
        head = head[: head.rindex(b"\n") + 1]
    mark = separator(pipeline) if pipeline is not None else _sniffed(head)
    return Table(io.BytesIO(head), mark, refuse=_pass_over, advance=_ignore)


def _sniffed(head: bytes) -> str:
    first = head.split(b"\n", 1)[0]
    return max(_SEPARATORS, key=lambda mark: first.count(mark.encode()))


def _documents(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if (
                    not entry.filename.lower().endswith(".json")
                    or entry.file_size > _LARGEST_DOCUMENT
                ):
                    continue
                with archive.open(entry) as file:
                    document = json.loads(file.read(_LARGEST_DOCUMENT))
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
