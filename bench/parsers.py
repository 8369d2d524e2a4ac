"""The bare parsers that ingestion is measured beside: the file is read, and nothing is kept."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

_CALL = re.compile(rb"\t(?:0[/|])?[1-9][0-9]*(?:[/|][0-9.]+)*")


class _Term(msgspec.Struct):
    id: str


class _Feature(msgspec.Struct):
    type: _Term
    excluded: bool = False


class _Packet(msgspec.Struct):
    id: str
    phenotypicFeatures: tuple[_Feature, ...] = ()  # noqa: N815 - the field's published name


def read_csv(path: Path) -> int:
    """Read every row with `csv.reader`."""
    with path.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def read_packets(path: Path) -> int:
    """Read every phenopacket with msgspec, as far as its observed terms."""
    decoder = msgspec.json.Decoder(_Packet)
    terms = count = 0
    with path.open("rb") as lines:
        for count, line in enumerate(lines, 1):  # noqa: B007 - counted over the loop's end
            terms += sum(not one.excluded for one in decoder.decode(line).phenotypicFeatures)
    return count


def read_xlsx(path: Path) -> int:
    """Read every row with python-calamine."""
    from python_calamine import CalamineWorkbook  # noqa: PLC0415 - another format needs it not

    sheet = CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0)
    return sum(1 for _ in sheet.iter_rows()) - 1


def read_vcf(path: Path) -> int:
    """Cut every line at its ninth tab, and find the calls that are not reference."""
    samples = calls = 0
    with path.open("rb") as lines:
        for line in lines:
            if line.startswith(b"##"):
                continue
            rest = line.split(b"\t", 9)[9]
            if line.startswith(b"#"):
                samples = rest.count(b"\t") + 1
            else:
                calls += sum(1 for _ in _CALL.finditer(b"\t" + rest))
    return samples


PARSERS: dict[str, tuple[str, Callable[[Path], int]]] = {
    "csv": ("csv.reader", read_csv),
    "phenopackets": ("msgspec", read_packets),
    "xlsx": ("calamine", read_xlsx),
    "vcf": ("own scan", read_vcf),
}
"""The name of the parser, and what reads a file with it and says how many subjects there are."""
