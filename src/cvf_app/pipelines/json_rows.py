"""Tables in JSON: a list of flat objects, or one object a line, become rows.

A member is a column. A list of scalars is several cells of one column, so that column stands in
the header as often as the longest list needs. `null` is a blank. An object inside a row is refused
with its row: what it should be a column of, only its sender knows. The file is read
twice: first for its header, as any row may have members of its own. Memory holds one object.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from cvf_app.pipelines.compressed import opened
from cvf_app.pipelines.model import Refusal, Unreadable
from cvf_app.pipelines.objects import objects
from cvf_app.pipelines.read import MOST_COLUMNS, Row
from cvf_app.pipelines.rows import checked_header, column_of
from cvf_app.pipelines.sheet import TEXTS

_Refuse = Callable[[Refusal], None]
_Advance = Callable[[int], None]
_NESTED = {dict, list}
_OBJECT = msgspec.json.Decoder(dict[str, Any])


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
        for _, members in _objects(file, _ignore):
            if _NESTED.isdisjoint(map(type, members.values())):
                if not members.keys() <= widths.keys():
                    widths.update({name: 1 for name in members if name not in widths})
            elif _deep(members) is None:
                for name, value in members.items():
                    if name not in widths:
                        widths[name] = 1
                    if type(value) is list and len(value) > widths[name]:
                        widths[name] = len(value)
            if len(widths) > MOST_COLUMNS:
                break
        if not widths:
            raise Unreadable("No object of this file is a flat row: there are no columns.")
        names = tuple(name.strip() for name, width in widths.items() for _ in range(width))
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
        columns = tuple(self._widths.items())
        single = all(width == 1 for _, width in columns)
        for where, members in _objects(self._file, self._advance):
            number = int(where.rpartition(" ")[2] or 1)
            flat = _NESTED.isdisjoint(map(type, members.values()))
            deep = None if flat else _deep(members)
            if deep is not None:
                lead = f"{where}: " if where.startswith("item") else ""
                reason = f"{lead}`{deep}` holds an object or a list in a list, and no cell can"
                self.read_rows += 1
                self._refuse(Refusal(line=number, reason=reason))
                continue
            if flat and single:
                row = [TEXTS[type(value)](value) for value in map(members.get, self._widths)]
            else:
                row = _filled(members, columns)
            if any(row):
                self.read_rows += 1
                yield Row(number, row)


def _objects(file: BinaryIO, advance: _Advance) -> Iterator[tuple[str, dict[str, Any]]]:
    stream, told = opened(file, advance)
    for where, data in objects(stream, told):
        try:
            yield where, _OBJECT.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            place = f" ({where})" if where else ""
            raise Unreadable(f"The JSON is broken{place}: {fault}.") from fault


def _filled(members: dict[str, Any], columns: tuple[tuple[str, int], ...]) -> list[str]:
    row: list[str] = []
    for name, width in columns:
        value = members.get(name)
        values = value if type(value) is list else [value]
        row += [TEXTS[type(each)](each) for each in values]
        row += [""] * (width - len(values))
    return row


def _deep(members: dict[str, Any]) -> str | None:
    """Return the name of a member that no cell can hold."""
    for name, value in members.items():
        if type(value) is dict or (
            type(value) is list and not _NESTED.isdisjoint(map(type, value))
        ):
            return name
    return None


def _ignore(_: int) -> None:
    """Hear of progress that is counted in the second reading."""
