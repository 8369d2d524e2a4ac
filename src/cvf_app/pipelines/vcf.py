"""VCF 4.x (the specification of hts-specs), line by line: who carries which ALT allele.

Promises: memory holds one line. A line is cut at its ninth tab only, and one regular expression
finds the calls that are not reference in the rest. A partly missing call counts the alleles that
it names; phase and FILTER make no difference; `*`, `<*>` and `<NON_REF>` are no alleles. Broken
lines fail the file: a shifted column would give one person another one's genotype.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

from cvf_app.pipelines.expand import LONGEST_ID
from cvf_app.pipelines.model import Unreadable

LONGEST_LINE = 128 * 2**20
LARGEST_HEADER = 64 * 2**20
_COLUMNS = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
_FIXED = len(_COLUMNS)
_REMEMBERED = 10_000
_NO_ALLELE = {".", "*", "<*>", "<NON_REF>", ""}
# Of VCF 4.4 on, a call may begin with its phase. Looking ahead for the two commonest calls makes
# the search five times as fast.
_CALL = re.compile(rb"\t(?![0.][/|][0.][:\t])([/|]?(?:[0.][/|])*[1-9][0-9]*(?:[/|][0-9.]+)*)")
_ALLELES = re.compile(rb"[/|]")
_TAB = b"\t"
_ENDS = (b"", b"\t", b":")
Counts = tuple[tuple[int, int], ...]


class Site(NamedTuple):
    """A line of a VCF: its alleles, and who carries them.

    `calls` has the number of the sample and the (number of the ALT from 1, copies) of its call.
    """

    line: int
    chrom: str
    pos: int
    ref: str
    alts: list[str]
    info: str
    calls: list[tuple[int, Counts]]


class Vcf:
    """A VCF that is read once, from its header to its last line."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        """Read the header.

        Raises:
            Unreadable: there is none, or it is not that of a VCF 4.
        """
        self._lines = iter(lines)
        self._line = 0
        self._known: dict[bytes, Counts] = {}
        self.read_sites = 0
        self.header: list[str] = []
        self.samples = self._read_header()
        self.names_line = self._line
        self._width = _FIXED + (1 + len(self.samples) if self._has_format else 0)

    def sites(self) -> Iterator[Site]:
        """Yield every site; one that names no ALT allele, or lists no calls, has none.

        Raises:
            Unreadable: a line is broken; the sentence has its number.
        """
        width, samples = self._width - 1, len(self.samples)
        for raw in self._lines:
            self._line += 1
            line = raw.rstrip(b"\r\n")
            if not line:
                continue
            if line.count(b"\t") != width:
                raise self._broken(
                    f"{line.count(_TAB) + 1} columns, and the header has {width + 1}"
                )
            columns = line.split(b"\t", _FIXED + 1)
            self.read_sites += 1
            try:
                site = self._site(columns)
            except UnicodeDecodeError as fault:
                raise self._broken("this is not valid UTF-8") from fault
            if samples and any(alt not in _NO_ALLELE for alt in site.alts):
                site.calls.extend(self._calls(columns, line, len(site.alts)))
            yield site

    def _site(self, columns: list[bytes]) -> Site:
        chrom, pos, _, ref, alt, *_ = columns
        if not pos.isdigit():
            raise self._broken("the position (POS) is no number")
        if not ref or not alt or not chrom:
            raise self._broken("CHROM, REF or ALT is blank")
        return Site(
            line=self._line,
            chrom=chrom.decode(),
            pos=int(pos[:18]),
            ref=ref.decode(),
            alts=alt.decode().split(","),
            info=columns[_FIXED - 1].decode(),
            calls=[],
        )

    def _calls(self, columns: list[bytes], line: bytes, alts: int) -> Iterator[tuple[int, Counts]]:
        keys = columns[_FIXED]
        if not (keys == b"GT" or keys.startswith(b"GT:")):
            if b"GT" in keys.split(b":"):
                raise self._broken("GT is not the first key of FORMAT")
            return
        place, sample = len(line) - len(columns[_FIXED + 1]) - 1, 0
        for found in _CALL.finditer(line, place):
            start, end = found.span()
            sample += line.count(b"\t", place, start)
            place = start
            if line[end : end + 1] not in _ENDS:
                raise self._broken(f"the genotype of {self.samples[sample]!r} is broken")
            call = found[1]
            counts = self._known.get(call)
            if counts is None:
                counts = self._read_call(call)
            if counts[-1][0] > alts:
                raise self._broken(
                    f"{self.samples[sample]!r} has allele {counts[-1][0]}, and there are {alts}"
                )
            yield sample, counts

    def _read_call(self, call: bytes) -> Counts:
        numbers = [part for part in _ALLELES.split(call) if part.isdigit()]
        found = Counter(int(part[:9]) for part in numbers)
        counts = tuple(sorted((number, many) for number, many in found.items() if number))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[call] = counts
        return counts

    def _read_header(self) -> tuple[str, ...]:
        size = 0
        for raw in self._lines:
            self._line += 1
            size += len(raw)
            if size > LARGEST_HEADER:
                raise self._broken(f"the header is larger than {LARGEST_HEADER // 2**20} MiB")
            try:
                line = raw.rstrip(b"\r\n").decode()
            except UnicodeDecodeError as fault:
                raise self._broken("this is not valid UTF-8") from fault
            if self._line == 1:
                if not line.removeprefix("\ufeff").startswith("##fileformat=VCFv4."):
                    raise self._broken("this is no VCF of version 4")
            elif line.startswith("##"):
                self.header.append(line)
            else:
                return self._read_columns(line)
        raise Unreadable("The VCF ends within its header: the line #CHROM is missing.")

    def _read_columns(self, line: str) -> tuple[str, ...]:
        columns = line.split("\t")
        self._has_format = len(columns) > _FIXED
        named = columns[:_FIXED] == _COLUMNS
        if not named or (self._has_format and columns[_FIXED] != "FORMAT"):
            raise self._broken("here the line #CHROM with the names of the columns is wanted")
        samples = tuple(name.strip() for name in columns[_FIXED + 1 :])
        for place, name in enumerate(samples):
            if not name or len(name) > LONGEST_ID:
                raise self._broken(
                    f"sample {place + 1} has no name, or one of over {LONGEST_ID} characters"
                )
        if len(set(samples)) < len(samples):
            twice = next(name for name, many in Counter(samples).items() if many > 1)
            raise self._broken(f"the sample {twice!r} stands there twice")
        return samples

    def _broken(self, reason: str) -> Unreadable:
        return Unreadable(f"Line {self._line}: {reason}.")


def real(alt: str) -> bool:
    """Say whether an ALT names an allele of its own."""
    return alt not in _NO_ALLELE


def lines_of(stream: BinaryIO, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the lines of a text VCF; `advance` hears of their bytes.

    Raises:
        Unreadable: a line is longer than any memory should hold.
    """
    number = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            raise Unreadable(f"Line {number} is longer than {LONGEST_LINE // 2**20} MiB.")
        advance(len(raw))
        yield raw
