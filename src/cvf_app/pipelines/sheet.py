"""Spreadsheets (xlsx) as tables: cells become the texts that a CSV of the same sheet would have.

Whole numbers have no point, dates are written as ISO 8601, truth in lower case; a cell with an
error of Excel is blank. Memory is NOT flat here: the reader holds one sheet as a dense grid, about
85 bytes a cell. So a sheet's extent is judged by its rows and columns before it is
opened, beside the archive's own marks of a bomb. `head` reads only the first rows.
"""

import datetime as dt
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, WorksheetNotFound

from cvf_app.pipelines.archive import DAMAGE, check_entries
from cvf_app.pipelines.model import Refusal, Unreadable
from cvf_app.pipelines.read import Row
from cvf_app.pipelines.rows import checked_header, column_of

MOST_CELLS = 20_000_000
LARGESTTEXTS = 512 * 2**20
_PIECE = 2**20
_LARGEST_HEAD = 16 * 2**20
_EXACT = 2**53
_SHEETS = re.compile(r"xl/worksheets/[^/]+\.xml")
_STRINGS = "xl/sharedStrings.xml"
_NEEDED = {
    "[Content_Types].xml",
    "_rels/.rels",
    "xl/workbook.xml",
    "xl/_rels/workbook.xml.rels",
    "xl/styles.xml",
}
_COLUMN = re.compile(rb'<(?:\w+:)?c (?:[^>]*? )?r=["\']([A-Z]{1,3})[0-9]')
_USUAL_COLUMN = re.compile(rb'<c r="([A-Z]{1,3})[0-9]')
_ROW = re.compile(rb'<(?:\w+:)?row (?:[^>]*? )?r=["\']([0-9]{1,7})["\']')
_ROW_END = re.compile(rb"</(\w+:)?row>")
_STRING_END = re.compile(rb"</(?:\w+:)?si>|<(?:\w+:)?si ?/>")
_STRINGS_START = re.compile(rb"<(\w+:)?sst[ >]")
_STRING_USED = re.compile(rb't="s"[^>]*>\s*<(?:\w+:)?v>([0-9]{1,9})<')
Cell = int | float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta | None


class Sheet:
    """One sheet of a workbook, read once from its first row to its last."""

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        *,
        refuse: Callable[[Refusal], None],
        advance: Callable[[int], None],
    ) -> None:
        """Open the sheet of this name, or the first one, and read its header.

        Raises:
            Unreadable: it is no workbook, too large, without that sheet, or without a header.
        """
        self._size = file.seek(0, io.SEEK_END)
        _judge(file, self._size)
        file.seek(0)
        found = _sheet(file, name)
        self._refuse = refuse
        self._advance = advance
        self._height = max(found.total_height, 1)
        advance(self._size // 2)
        self.read_rows = 0
        self._rows = _filled(found)
        first = next(self._rows, None)
        if first is None:
            raise Unreadable(f"The sheet {found.name!r} is empty: there is no header.")
        while first.cells[-1] == "":
            first.cells.pop()
        self.header = checked_header(tuple(first.cells), f" (row {first.line})")

    def column(self, name: str) -> int:
        """Return the place of the first column of this name.

        Raises:
            Unreadable: there is none.
        """
        return column_of(self.header, name)

    def rows(self) -> Iterator[Row]:
        """Yield the rows below the header that have content, with their numbers in the sheet."""
        width = len(self.header)
        told = 0
        for row in self._rows:
            self.read_rows += 1
            share = self._size // 2 * row.line // self._height
            self._advance(share - told)
            told = share
            if any(row.cells[width:]):
                used = max(place for place, cell in enumerate(row.cells, 1) if cell)
                reason = f"{used} cells for {width} columns"
                self._refuse(Refusal(line=row.line, reason=reason))
                continue
            del row.cells[width:]
            yield row


def text_of(cell: Cell) -> str:
    """Return the text that a CSV would have for a typed cell."""
    return TEXTS[type(cell)](cell)


def _number(cell: float) -> str:
    return str(int(cell)) if cell.is_integer() and abs(cell) <= _EXACT else str(cell)


def _truth(cell: bool) -> str:  # noqa: FBT001 - a cell, no switch
    return "true" if cell else "false"


def _length(cell: dt.timedelta) -> str:
    minutes, seconds = divmod(round(cell.total_seconds()), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


TEXTS: dict[type, Callable[[Any], str]] = {
    str: str.strip,
    int: str,
    float: _number,
    bool: _truth,
    dt.date: dt.date.isoformat,
    dt.datetime: dt.datetime.isoformat,
    dt.time: dt.time.isoformat,
    dt.timedelta: _length,
    type(None): lambda _: "",
}


def head(file: BinaryIO, rows: int) -> BinaryIO:
    """Return a small workbook of the first rows of every sheet; only those are read.

    Raises:
        Unreadable: this is no workbook whose head can be read.
    """
    file.seek(0)
    small = io.BytesIO()
    try:
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(small, "w") as out:
            wanted = -1
            for info in archive.infolist():
                sheet = _SHEETS.fullmatch(info.filename) is not None
                if sheet or info.filename in _NEEDED:
                    with archive.open(info) as content:
                        data = _cut_rows(content, rows) if sheet else content.read(_LARGEST_HEAD)
                    used = (int(found[1]) for found in _STRING_USED.finditer(data) if sheet)
                    wanted = max(wanted, *used, -1)
                    out.writestr(info.filename, data)
                if small.tell() > _LARGEST_HEAD:
                    raise Unreadable("The head of this workbook is too large to be shown.")
            if _STRINGS in archive.namelist():
                with archive.open(_STRINGS) as content:
                    out.writestr(_STRINGS, _cut_strings(content, wanted))
    except (*DAMAGE, ValueError, NotImplementedError, RuntimeError) as fault:
        raise Unreadable(f"This workbook cannot be read: {fault}.") from fault
    small.seek(0)
    return small


def _sheet(file: BinaryIO, name: str) -> CalamineSheet:
    try:
        book = CalamineWorkbook.from_filelike(file)
        if not book.sheet_names:
            raise Unreadable("There is no sheet in this workbook.")
        return book.get_sheet_by_name(name or book.sheet_names[0])
    except WorksheetNotFound as fault:
        raise Unreadable(f"There is no sheet {name!r} in this workbook.") from fault
    except (CalamineError, ValueError, OSError) as fault:
        raise Unreadable(f"This workbook cannot be read: {fault}.") from fault


def _filled(sheet: CalamineSheet) -> Iterator[Row]:
    for line, cells in enumerate(sheet.iter_rows(), 1):
        texts = [TEXTS[type(cell)](cell) for cell in cells]
        if any(texts):
            yield Row(line, texts)


def _judge(file: BinaryIO, size: int) -> None:
    """Refuse a workbook that would not fit into memory, before it is opened.

    A sheet without places at its cells passes; the job's memory limit stands behind this.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            check_entries(archive.infolist(), size)
            for info in archive.infolist():
                if info.filename == _STRINGS and info.file_size > LARGESTTEXTS:
                    raise Unreadable("The texts of this workbook are too large; save it as CSV.")
                if _SHEETS.fullmatch(info.filename):
                    with archive.open(info) as content:
                        _judge_extent(content)
    except (*DAMAGE, ValueError, NotImplementedError, RuntimeError) as fault:
        raise Unreadable(f"This workbook cannot be read: {fault}.") from fault


def _judge_extent(content: IO[bytes]) -> None:
    columns: set[bytes] = set()
    last, rest = 0, b""
    while piece := content.read(_PIECE):
        text = rest + piece
        # Nearly every program writes cells in one way; the general expression is slow.
        found_columns = _USUAL_COLUMN.findall(text)
        if len(found_columns) < text.count(b"<c ") + text.count(b":c "):
            found_columns = _COLUMN.findall(text)
        columns.update(found_columns)
        # Rows stand in order, so the last of a piece is the furthest.
        start = max(text.rfind(b"<row "), text.rfind(b":row "), 0)
        found = _ROW.search(text, max(start - 8, 0))
        last = max(last, int(found[1]) if found else 0)
        rest = text[text.rfind(b"<") :]
        width = max(map(_column_number, columns), default=0)
        if width * last > MOST_CELLS:
            raise Unreadable(
                f"A sheet of this workbook has more than {MOST_CELLS} cells; save it as CSV."
            )


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _cut_rows(content: IO[bytes], rows: int) -> bytes:
    data = b""
    while piece := content.read(_PIECE):
        data += piece
        ends = [found for _, found in zip(range(rows), _ROW_END.finditer(data), strict=False)]
        if len(ends) == rows or len(data) > _LARGEST_HEAD:
            if not ends:
                raise Unreadable("The first row of this workbook is too large to be shown.")
            prefix = ends[-1][1] or b""
            return data[: ends[-1].end()] + b"</%ssheetData></%sworksheet>" % (prefix, prefix)
    return data


def _cut_strings(content: IO[bytes], wanted: int) -> bytes:
    """Return the shared texts up to the one of this number; without any wanted, the first."""
    data, needed = b"", max(wanted, 0) + 1
    while piece := content.read(_PIECE):
        data += piece
        ends = [end for _, end in zip(range(needed), _STRING_END.finditer(data), strict=False)]
        if len(ends) == needed:
            opening = _STRINGS_START.search(data)
            prefix = (opening[1] if opening else None) or b""
            return data[: ends[-1].end()] + b"</%ssst>" % prefix
        if len(data) > _LARGEST_HEAD:
            raise Unreadable("The head of this workbook is too large to be shown.")
    return data
