"""Spreadsheets (xlsx) as tables: cells become the texts that a CSV of the same sheet would have.

Whole numbers have no point, dates are written as ISO 8601, truth in lower case; a cell with an
error of Excel is blank. Memory does not grow with a sheet, and who wants the first rows alone
reads no more than its beginning (`workbook.py` says how).
"""

import datetime as dt
import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from cvf_app.pipelines.model import Refusal, Unreadable
from cvf_app.pipelines.read import Row
from cvf_app.pipelines.rows import checked_header, column_of
from cvf_app.pipelines.workbook import Cell, Workbook

_EXACT = 2**53


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
        size = file.seek(0, io.SEEK_END)
        book = Workbook(file, name)
        self._refuse = refuse
        self.read_rows = 0
        self._rows = _filled(book, _scaled(advance, size, book.size))
        first = next(self._rows, None)
        if first is None:
            raise Unreadable(f"The sheet {book.title!r} is empty: there is no header.")
        while first.cells[-1] == "":
            first.cells.pop()
        # A table need not begin in the first column of its sheet.
        self._left = next(place for place, cell in enumerate(first.cells) if cell)
        names = tuple(first.cells[self._left :])
        self.header = checked_header(names, f" (row {first.line})")

    def column(self, name: str) -> int:
        """Return the place of the first column of this name.

        Raises:
            Unreadable: there is none.
        """
        return column_of(self.header, name)

    def rows(self) -> Iterator[Row]:
        """Yield the rows below the header that have content, with their numbers in the sheet."""
        width = len(self.header)
        for row in self._rows:
            self.read_rows += 1
            if any(row.cells[: self._left]):
                reason = "there is a cell left of the first column of the header"
                self._refuse(Refusal(line=row.line, reason=reason))
                continue
            del row.cells[: self._left]
            if any(row.cells[width:]):
                used = max(place for place, cell in enumerate(row.cells, 1) if cell)
                reason = f"{used} cells for {width} columns"
                self._refuse(Refusal(line=row.line, reason=reason))
                continue
            del row.cells[width:]
            row.cells.extend([""] * (width - len(row.cells)))
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


def _filled(book: Workbook, advance: Callable[[int], None]) -> Iterator[Row]:
    for line, cells in book.rows(advance):
        texts = [TEXTS[type(cell)](cell) for cell in cells]
        if any(texts):
            yield Row(line, texts)


def _scaled(advance: Callable[[int], None], size: int, whole: int) -> Callable[[int], None]:
    """Return what tells bytes of an unpacked sheet as their share of the packed file."""
    done, told = 0, 0

    def advance_by(count: int) -> None:
        nonlocal done, told
        done += count
        share = size * min(done, whole) // max(whole, 1)
        advance(share - told)
        told = share

    return advance_by
