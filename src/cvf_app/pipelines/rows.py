"""What every kind of table is to those who read it: a header, and rows of texts below it.

Pure. The kinds are `read.Table` (text), `sheet.Sheet` (spreadsheets) and `json_rows.JsonRows`.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from cvf_app.pipelines.model import Unreadable
from cvf_app.pipelines.read import MOST_COLUMNS, Row


class Rows(Protocol):
    """A table that is read once, from its first row to its last.

    A column name that stands there several times is one attribute with several values.
    """

    header: tuple[str, ...]
    read_rows: int

    def column(self, name: str) -> int:
        """Return the place of the first column of this name.

        Raises:
            Unreadable: there is none.
        """
        ...

    def rows(self) -> Iterator[Row]:
        """Yield the rows below the header, each with as many cells as the header has.

        Raises:
            Unreadable: the content is broken; the sentence names the place.
        """
        ...


def checked_header(names: tuple[str, ...], place: str) -> tuple[str, ...]:
    """Return the names of columns.

    Raises:
        Unreadable: there are too many, or one is blank.
    """
    if len(names) > MOST_COLUMNS:
        raise Unreadable(f"The header{place} has more than {MOST_COLUMNS} columns.")
    if "" in names:
        raise Unreadable(f"Column {names.index('') + 1} has no name in the header{place}.")
    return names


def column_of(header: tuple[str, ...], name: str) -> int:
    """Return the place of the first column of this name.

    Raises:
        Unreadable: there is none.
    """
    if name not in header:
        # The header is not quoted: in a file without one it is a person's row.
        raise Unreadable(
            f"There is no column {name!r} among the {len(header)} of the header; "
            "the sample of the file shows them."
        )
    return header.index(name)


class Head:
    """The first rows of a table, read as if it had no more."""

    def __init__(self, table: Rows, most: int, enough: Callable[[], bool]) -> None:
        """Show at most so many rows of a table, fewer when there is `enough` of it."""
        self._table = table
        self._most = most
        self._enough = enough
        self.header = table.header
        self.column = table.column
        self.read_rows = 0

    def rows(self) -> Iterator[Row]:
        """Yield the first rows."""
        for row in self._table.rows():
            self.read_rows = min(self._table.read_rows, self._most)
            if self._table.read_rows > self._most:
                return
            yield row
            if self.read_rows == self._most or self._enough():
                return
        self.read_rows = min(self._table.read_rows, self._most)
