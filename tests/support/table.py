"""What was real in a run of tests: a row for every server that was used, stood in for or left out.

In CI a server that `.ci/real` names must not be left out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["real", "stand-in", "skipped"]
NAMED = Path(__file__).resolve().parents[2] / ".ci" / "real"


@dataclass(frozen=True, order=True)
class Row:
    """One server, how it was had, and what it was or why it was not there."""

    name: str
    kind: Kind
    what: str


ROWS: set[Row] = set()


def real(name: str, what: str) -> None:
    """Note a server that is what a hospital would run."""
    ROWS.add(Row(name, "real", what))


def stand_in(name: str, what: str) -> None:
    """Note a server of local mode, or a peer of ours that speaks the protocol."""
    ROWS.add(Row(name, "stand-in", what))


def skipped(name: str, reason: str) -> None:
    """Note a server that could not be had, so that its tests were skipped."""
    ROWS.add(Row(name, "skipped", reason))


def what(name: str) -> str:
    """Return what was used under this name."""
    return next(row.what for row in ROWS if row.name == name and row.kind != "skipped")


def lines() -> list[str]:
    """Return the table."""
    return [f"{row.name:14} {row.kind:9} {row.what}" for row in sorted(ROWS)]


def named_as_real(text: str) -> frozenset[str]:
    """Read the names of such a list: one a line, with comments."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return frozenset(line for line in lines if line)


def wrongly_skipped(named: frozenset[str], rows: set[Row]) -> list[Row]:
    """Return the rows of servers that had to be real and were left out."""
    return sorted(row for row in rows if row.kind == "skipped" and row.name in named)
