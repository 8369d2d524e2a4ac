"""A large CSV with faults planted in it, and everything that must be found in the end.

Promises: the same size and seed give the same bytes and the same expectations; these follow from
what was planted, never from reading the file. A thousandth of the rows is bad: too long, without
an id, or with a cell of the wrong type. Some later rows say one thing more of earlier people, so
that rows far apart have to be joined. Broken copies are the same bytes but one.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.tables import BLOOD_GROUPS, Table

BAD_SHARE = 0.001
LATER_SHARE = 0.004
NOTE_BYTES = 850
TALL_CM = 150
WOMEN: dict[str, Any] = {"subject": {"gender": "female"}}
JOINED = "joined from two rows"
MARKER = "HP:0007359"
"""A term that only later rows have: whoever has it was put together from two rows."""
ATTRIBUTES: dict[str, Any] = {
    "attributes": [
        {
            "name": "height",
            "valueType": {"type": "decimal", "minimum": 30, "maximum": 250, "unit": "cm"},
        },
        {"name": "visits", "valueType": {"type": "integer", "minimum": 0}},
        {"name": "smoker", "valueType": {"type": "boolean"}},
        {"name": "blood_group", "valueType": {"type": "choice", "options": list(BLOOD_GROUPS)}},
    ],
    "onMismatch": "refuse",
}
_WRONG = {"height": b"tall", "visits": b"3.5", "smoker": b"sometimes", "blood_group": b"Q"}
WRONG_COLUMNS = tuple(_WRONG)
LONG, NO_ID, WRONG_TYPE = "too long", "no id", "wrong type"
KINDS = (LONG, NO_ID, WRONG_TYPE)


@dataclass(frozen=True)
class Fault:
    """One byte of the file that is another in a copy, and the line that it stands in."""

    offset: int
    byte: bytes
    line: int


@dataclass
class Planted:
    """So many rows with faults among them; `write` makes the file and learns the lines."""

    rows: int
    seed: int = 20261121
    refused: dict[int, str] = field(default_factory=dict)
    """The kind of fault of each bad row, by the line that it begins in."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """Where a copy is broken, by `quoting` and `encoding`."""

    @cached_property
    def table(self) -> Table:
        """The rows as they would be without faults."""
        return Table(self.rows, self.seed, note=NOTE_BYTES, units=True)

    @cached_property
    def bad(self) -> dict[int, str]:
        """The rows that are bad, and how, in their order."""
        count = max(len(KINDS), round(self.rows * BAD_SHARE))
        return dict(zip(sorted(self._places[:count]), itertools.cycle(KINDS), strict=False))

    @cached_property
    def later(self) -> dict[int, int]:
        """Rows of the second half that speak of an earlier person, and of whom."""
        count = max(1, round(self.rows * LATER_SHARE))
        spare = [row for row in self._places if row not in self.bad]
        late = [row for row in spare if row > self.rows // 2][:count]
        early = [row for row in spare if row < self.rows // 2][:count]
        return dict(zip(late, early, strict=True))

    @cached_property
    def good(self) -> np.ndarray:
        """For each row whether it makes a person."""
        mask = np.ones(self.rows, dtype=bool)
        mask[list(self.bad)] = False
        mask[list(self.later)] = False
        return mask

    @cached_property
    def _places(self) -> list[int]:
        draw = np.random.default_rng((self.seed, 99))
        few = min(self.rows, max(64, round(self.rows * (BAD_SHARE + 4 * LATER_SHARE))))
        places: list[int] = draw.choice(self.rows, size=few, replace=False).tolist()
        return places

    def write(self, path: Path) -> Path:
        """Write the file; afterwards `refused` and `faults` are known."""
        line, offset = 2, len(self.table.header)
        special = iter([*sorted({*self.bad, *self.later}), self.rows])
        row_due = next(special)
        with path.open("wb") as out:
            out.write(self.table.header)
            for first, lines in self.table.blocks():
                while row_due < first + len(lines):
                    place = row_due - first
                    lines[place] = self._planted(row_due, lines[place])
                    if row_due in self.bad:
                        above = b"".join(lines[:place]).count(b"\n")
                        self.refused[line + above] = self.bad[row_due]
                    row_due = next(special)
                self._choose(lines, first, line, offset)
                block = b"".join(lines)
                out.write(block)
                line += block.count(b"\n")
                offset += len(block)
        return path

    def _planted(self, row: int, line: bytes) -> bytes:
        if row in self.later:
            name = self.table.name(self.later[row]).encode()
            blanks = len(self.table.columns) - 1
            cells = [b""] * blanks
            cells[self.table.columns.index("hpo") - 1] = MARKER.encode()
            return name + b"," + b",".join(cells) + b"\n"
        match self.bad[row]:
            case kind if kind == LONG:
                return line[:-1] + b",one,two\n"
            case kind if kind == NO_ID:
                return line[line.index(b",") :]
            case _:
                column = list(_WRONG)[row % len(_WRONG)]
                place = self.table.columns.index(column)
                cells = line.split(b",", place + 1)
                cells[place] = _WRONG[column]
                return b",".join(cells)

    def _choose(self, lines: list[bytes], first: int, line: int, offset: int) -> None:
        """Choose, once past the middle, where copies are broken: in a whole and a later row."""
        wanted = {"quoting": (b",OMIM:", 2, b'"'), "encoding": ("Évora".encode(), 0, b"E")}
        if len(self.faults) == len(wanted) or first + len(lines) <= self.rows // 2:
            return
        for name, (mark, after, byte) in wanted.items():
            for place in range(max(0, self.rows // 2 - first), len(lines)):
                where = lines[place].find(mark)
                if where >= 0 and self.good[first + place] and name not in self.faults:
                    above = b"".join(lines[:place])
                    self.faults[name] = Fault(
                        offset + len(above) + where + after, byte, line + above.count(b"\n")
                    )

    def counts(self) -> list["Question"]:
        """Return questions about the file, each with the number of people that it must find."""
        marked = {"hpo": [{"terms": [MARKER], "similarity": 1, "minimumMatch": 1}]}
        return [*questions(self.table, self.good), Question(JOINED, marked, len(self.later))]

    def joined(self) -> list[str]:
        """Return the ids of those who must be found by the marker."""
        return sorted(self.table.name(row) for row in self.later.values())

    def kinds(self) -> Counter[str]:
        """Return how many rows are bad in which way."""
        return Counter(self.refused.values())


class Question(NamedTuple):
    """A query with a name, and how many people it must find."""

    name: str
    query: dict[str, Any]
    people: int


def questions(table: Table, of: np.ndarray) -> list[Question]:
    """Return questions about some rows of a table."""
    women = table.true_for("person", lambda cells: cells["sex"] == "female")
    tall = table.true_for("body", lambda cells: cells["height"] >= TALL_CM)
    group = table.true_for("body", lambda cells: cells["blood_group"] == "AB")
    north = table.true_for("place", lambda cells: cells["site"] == "Tromsø")
    gene = table.true_for("person", lambda cells: cells["gene"] == "GENE7")
    height = {"attribute": "height", "relation": "numericGreaterThanOrEqual", "value": TALL_CM}
    is_ab = {"attribute": "blood_group", "relation": "stringIs", "value": "AB"}
    at_site = {"attribute": "site", "relation": "stringIs", "value": "Tromsø"}
    asked: list[tuple[str, dict[str, Any], np.ndarray]] = [
        ("everybody", {}, of),
        ("women", WOMEN, women),
        (f"at least {TALL_CM} cm", {"eav": [height]}, tall),
        (
            "women of group AB in Tromsø",
            {**WOMEN, "eav": [is_ab, at_site]},
            women & group & north,
        ),
        ("a variant of GENE7", {"variant": [{"genes": ["GENE7"], "mutation": []}]}, gene),
    ]
    return [Question(name, query, int((mask & of).sum())) for name, query, mask in asked]


@dataclass(frozen=True)
class Copy:
    """A file as it would be with one byte changed; read like a file, and nothing is written."""

    path: Path
    fault: Fault | None = None

    @property
    def size(self) -> int:
        """Return how many bytes it has."""
        return self.path.stat().st_size

    def read(self, start: int, length: int) -> bytes:
        """Return some bytes."""
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read(length)
        fault = self.fault
        if fault is None or not start <= fault.offset < start + len(content):
            return content
        place = fault.offset - start
        return content[:place] + fault.byte + content[place + 1 :]

    def pieces(self, length: int) -> Iterator[bytes]:
        """Yield it all."""
        for start in range(0, self.size, length):
            yield self.read(start, length)
