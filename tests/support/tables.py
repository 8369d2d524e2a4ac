"""One table in every form that a table comes in."""

import csv
import gzip
import io
import json
from collections.abc import Sequence
from typing import Any

import openpyxl


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Any]], separator: str = ",") -> bytes:
    """Return a table as text; truth is written in lower case."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_text(cell) for cell in row])
    return file.getvalue().encode()


def as_packed_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return a table as text, packed with gzip."""
    return gzip.compress(as_csv(header, rows))


def as_sheet(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return a table as a workbook."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("table")
    for row in (header, *rows):
        sheet.append(list(row))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def as_json(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return a table as a list of objects."""
    return json.dumps([dict(zip(header, row, strict=True)) for row in rows]).encode()


def as_lines(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return a table as one object a line."""
    return b"".join(
        json.dumps(dict(zip(header, row, strict=True))).encode() + b"\n" for row in rows
    )


def _text(cell: Any) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return "" if cell is None else str(cell)
