"""Variant calls become parts of subjects.

Of several samples each is a subject; a file with one, or with none, is one subject by the file's
name, which is how most people name the files of single patients. An allele in a gene is a `VARIANT`
of whom carries it, with the copies as `ac` and INFO's `AF` as `af` (without one the
engine counts). An allele in no known gene has no place in `VARIANT`, and positions are not kept:
it counts only in the attribute `variantCount`, the number of ALT alleles that a subject carries.
Two equal variants of one subject are two. Memory is flat: every so many calls become parts.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from cvf_app.pipelines.consequence import Annotations, Hit, read_info
from cvf_app.pipelines.model import Unreadable
from cvf_app.pipelines.vcf import Site, Vcf, real
from cvf_app.subject import Subject, SubjectId, Variant

PENDING = 250_000
MOST_VARIANTS = 100_000
COUNT = "variantCount"
"""The one attribute that a VCF feeds."""


class Carriers:
    """The subjects of one VCF."""

    def __init__(self, vcf: Vcf, name: SubjectId, *, pending: int = PENDING) -> None:
        """Take the subjects from several samples, or the one of this name."""
        self._vcf = vcf
        self._annotations = Annotations(vcf.header)
        self._subjects = [name]
        if len(vcf.samples) > 1:
            self._subjects = [SubjectId(sample) for sample in vcf.samples]
        self._found: list[list[Variant]] = [[] for _ in self._subjects]
        self._kept = [0] * len(self._subjects)
        self._alleles = [0] * len(self._subjects)
        self._pending = pending
        self._waiting = 0

    def parts(self, enough: Callable[[], bool] | None = None) -> Iterator[Subject]:
        """Yield parts of subjects: of each at least one, and last that with its attributes.

        Where only the head is wanted, `enough` is asked after every site.

        Raises:
            Unreadable: the VCF is broken, or a subject has more variants than a record can hold.
        """
        sampled = bool(self._vcf.samples)
        for site in self._vcf.sites():
            if not sampled:
                self._listed(site)
            elif site.calls:
                self._called(site)
            if self._waiting >= self._pending:
                yield from self._spilled()
            if enough is not None and enough():
                break
        yield from self._spilled()
        for subject, count in zip(self._subjects, self._alleles, strict=True):
            yield Subject(subject_id=subject, eav={COUNT: count})

    def _listed(self, site: Site) -> None:
        """Without samples the subject has every allele, in an unknown number."""
        for alt, variants in zip(site.alts, self._variants(site, {0}), strict=True):
            if real(alt):
                self._alleles[0] += 1
                self._add(0, variants[0])

    def _called(self, site: Site) -> None:
        copies = {many for _, counts in site.calls for _, many in counts}
        variants = self._variants(site, copies)
        wanted = [real(alt) for alt in site.alts]
        for sample, counts in site.calls:
            for number, many in counts:
                if wanted[number - 1]:
                    self._alleles[sample] += 1
                    if found := variants[number - 1].get(many):
                        self._add(sample, found)

    def _variants(self, site: Site, copies: set[int]) -> list[dict[int, tuple[Variant, ...]]]:
        """Return for each ALT, by the number of copies (0: unknown), what a carrier has."""
        info = read_info(site.info)
        frequencies = info.get("AF", "").split(",")
        return [
            {
                many: tuple(_variant(hit, _frequency(frequencies, place), many) for hit in hits)
                for many in copies
            }
            for place, hits in enumerate(self._annotations.hits(info, site.ref, site.alts))
        ]

    def _add(self, place: int, variants: tuple[Variant, ...]) -> None:
        self._found[place].extend(variants)
        self._waiting += len(variants)

    def _spilled(self) -> Iterator[Subject]:
        for place, subject in enumerate(self._subjects):
            variants = self._found[place]
            if not variants:
                continue
            self._kept[place] += len(variants)
            if self._kept[place] > MOST_VARIANTS:
                raise Unreadable(
                    f"{subject!r} has more than {MOST_VARIANTS} variants in genes, and a record"
                    " cannot hold that; filter the file by consequence or frequency first."
                )
            yield Subject(subject_id=subject, variant=tuple(variants))
            self._found[place] = []
        self._waiting = 0


def joined(parts: Sequence[Subject]) -> Subject:
    """Put the parts of one subject of one VCF together; equal variants stay as many as they are."""
    variants = tuple(variant for part in parts for variant in part.variant)
    return msgspec.structs.replace(parts[-1], variant=variants)


def _variant(hit: Hit, frequency: float | None, copies: int) -> Variant:
    return Variant(gene=hit.gene, mutation=hit.mutation, af=frequency, ac=copies or None)


def _frequency(values: list[str], place: int) -> float | None:
    """Read one value of AF; what is no fraction is as good as not given."""
    try:
        found = float(values[place])
    except (IndexError, ValueError):
        return None
    return found if 0 <= found <= 1 else None
