"""A VCF read in the plainest way, to compare the scanner with."""

from collections import Counter
from typing import NamedTuple


class Plain(NamedTuple):
    """One ALT allele of one site: copies per sample, and how many alleles were called at all."""

    chrom: str
    pos: int
    ref: str
    alt: str
    copies: dict[str, int]
    called: int


def read_plainly(text: str) -> list[Plain]:
    """Return every ALT allele of a VCF."""
    found: list[Plain] = []
    samples: list[str] = []
    for line in text.splitlines():
        columns = line.split("\t")
        if line.startswith("#CHROM"):
            samples = columns[9:]
        if line.startswith("#"):
            continue
        calls = [alleles_of(cell) for cell in columns[9:]]
        called = sum(len(call) for call in calls)
        for number, alt in enumerate(columns[4].split(","), 1):
            counts = [Counter(call)[number] for call in calls]
            copies = {name: many for name, many in zip(samples, counts, strict=True) if many}
            if alt != ".":
                chrom, pos, _, ref = columns[:4]
                found.append(Plain(chrom, int(pos), ref, alt, copies, called))
    return found


def alleles_of(cell: str) -> list[int]:
    """Return the numbers of the alleles that a sample's cell calls."""
    call = cell.split(":", maxsplit=1)[0].replace("|", "/").split("/")
    return [int(part) for part in call if part not in {"", "."}]
