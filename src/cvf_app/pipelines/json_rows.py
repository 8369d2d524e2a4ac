"""Tables in JSON: a list of flat objects, or one object a line, become rows.

A member is a column. A list of scalars is several cells of one column, so that column stands in
the header as often as the longest list needs. `null` is a blank. An object inside a row is refused
with its row: what it should be a column of, only its sender knows. The file is read
twice: first for its header, as any row may have members of its own. Memory holds one object.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import msgspec

from cvf_app.pipelines.compressed import opened
from cvf_app.pipelines.model import Refusal, Unreadable
from cvf_app.pipelines.objects import objects
from cvf_app.pipelines.read import MOST_COLUMNS, Row
from cvf_app.pipelines.rows import checked_header, column_of
from cvf_app.pipelines.sheet import text_of

_Refuse = Callable[[Refusal], None]
_Advance = Callable[[int], None]
_OBJECT = msgspec.json.Decoder(dict[str, Any])


class _Item(NamedTuple):
    """An object of the file: its number, the words for its place, and its cells by column."""

    number: int
    place: str
    cells: dict[str, list[str]]


class JsonRows:
    """A table in JSON, read once from its first object to its last."""

    def __init__(self, file: BinaryIO, *, refuse: _Refuse, advance: _Advance) -> None:
        """Read the whole file for its header.

        Raises:
            Unreadable: this is no JSON of that kind, or there are no members.
        """
        self._file = file
        self._refuse = refuse
        self._advance = advance
        self.read_rows = 0
        widths: dict[str, int] = {}
        for item in _items(file, _pass_over, _ignore):
            for name, cells in item.cells.items():
                widths[name] = max(widths.get(name, 1), len(cells))
            if len(widths) > MOST_COLUMNS:
                break
        if not widths:
            raise Unreadable("No object of this file is a flat row: there are no columns.")
        names = tuple(name for name, width in widths.items() for _ in range(width))
        self.header = checked_header(names, "")
        self._widths = widths

    def column(self, name: str) -> int:
        """Return the place of the first column of this name.

        Raises:
            Unreadable: there is none.
        """
        return column_of(self.header, name)

    def rows(self) -> Iterator[Row]:
        """Yield the objects with content as rows; a row's line is its line or its item.

        Raises:
            Unreadable: the JSON is broken; the sentence names the place.
        """
        for item in _items(self._file, self._refused, self._advance):
            row: list[str] = []
            for name, width in self._widths.items():
                cells = item.cells.get(name, [])
                row += cells
                row += [""] * (width - len(cells))
            if any(row):
                self.read_rows += 1
                yield Row(item.number, row)

    def _refused(self, refusal: Refusal) -> None:
        self.read_rows += 1
        self._refuse(refusal)


def _items(file: BinaryIO, refuse: _Refuse, advance: _Advance) -> Iterator[_Item]:
    stream, told = opened(file, advance)
    for where, data in objects(stream, told):
        try:
            members = _OBJECT.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            place = f" ({where})" if where else ""
            raise Unreadable(f"The JSON is broken{place}: {fault}.") from fault
        number = int(where.rpartition(" ")[2] or 1)
        cells: dict[str, list[str]] = {}
        for name, value in members.items():
            found = _cells(value)
            if found is None:
                lead = f"{where}: " if where.startswith("item") else ""
                reason = f"{lead}`{name}` holds an object or a list in a list, and no cell can"
                refuse(Refusal(line=number, reason=reason))
                break
            cells.setdefault(name.strip(), []).extend(found)
        else:
            yield _Item(number, where, cells)


def _cells(value: object) -> list[str] | None:
    """Return the cells that a member is, or nothing when it holds what no cell can."""
    if isinstance(value, str):
        return [value.strip()]
    cells: list[str] = []
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict | list):
            return None
        cells.append(_text(each))
    return cells


def _text(value: Any) -> str:  # noqa: ANN401 - any scalar of JSON
    return "" if value is None else text_of(value)


def _pass_over(_: Refusal) -> None:
    """Pass over what the second reading will refuse."""


def _ignore(_: int) -> None:
    """Hear of progress that is counted in the second reading."""
