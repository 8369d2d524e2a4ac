"""Which genes a variant hits, and how: from `GENE` and `MC`, `ANN` or `CSQ` of a VCF's INFO.

Pure. The order of the parts of `ANN` (SnpEff, "Variant annotations in VCF format" 1.0) and `CSQ`
(Ensembl VEP, "VEP output: VCF") is read from the header's Description. Terms are those of the
Sequence Ontology; of several transcripts of one gene the most severe term counts, in the order of
Ensembl's table "Calculated variant consequences". What lies beside a gene (upstream, downstream,
intergenic) is not in it.
"""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from cvf_app.subject import Mutation

_STANDARD_ANN = "Allele | Annotation | Annotation_Impact | Gene_Name"
_HEADER = re.compile(r'##INFO=<ID=(GENE|MC|ANN|CSQ),.*?Number=([^,>]+).*?Description="(.*)"')
_FORMAT = re.compile(r"(?:Format: ?|')([^'\"]*\|[^'\"]*)")
_ALLELE, _GENE, _TERM = ("allele",), ("symbol", "gene_name"), ("consequence", "annotation")
_OUTSIDE = {"upstream_gene_variant", "downstream_gene_variant", "intergenic_variant"} | {
    "intergenic_region",
    "conserved_intergenic_variant",
}
_NON_CODING, _INDEL, _SPLICE = Mutation.NON_CODING, Mutation.INDEL, Mutation.SPLICE
CLASSES: dict[str, Mutation | None] = {
    "transcript_ablation": _INDEL,
    "exon_loss_variant": _INDEL,
    "splice_acceptor_variant": _SPLICE,
    "splice_donor_variant": _SPLICE,
    "stop_gained": Mutation.NONSENSE,
    "frameshift_variant": Mutation.FRAMESHIFT,
    "stop_lost": Mutation.LOSS_OF_STOP,
    "start_lost": Mutation.LOSS_OF_START,
    "transcript_amplification": _INDEL,
    "feature_elongation": _INDEL,
    "feature_truncation": _INDEL,
    "inframe_insertion": _INDEL,
    "conservative_inframe_insertion": _INDEL,
    "disruptive_inframe_insertion": _INDEL,
    "inframe_deletion": _INDEL,
    "conservative_inframe_deletion": _INDEL,
    "disruptive_inframe_deletion": _INDEL,
    "missense_variant": Mutation.MISSENSE,
    "rare_amino_acid_variant": Mutation.MISSENSE,
    "protein_altering_variant": _INDEL,
    # Near an exon means up to eight bases into the intron, as for phenopackets.
    "splice_donor_5th_base_variant": _SPLICE,
    "splice_region_variant": _SPLICE,
    "splice_donor_region_variant": _SPLICE,
    "splice_polypyrimidine_tract_variant": _NON_CODING,
    # The protein stays as it is, or nobody knows: none of the eight classes.
    "incomplete_terminal_codon_variant": None,
    "start_retained_variant": None,
    "initiator_codon_variant": None,
    "stop_retained_variant": None,
    "synonymous_variant": None,
    "coding_sequence_variant": None,
    "mature_miRNA_variant": _NON_CODING,
    "5_prime_UTR_premature_start_codon_gain_variant": _NON_CODING,
    "5_prime_UTR_variant": _NON_CODING,
    "3_prime_UTR_variant": _NON_CODING,
    "non_coding_transcript_exon_variant": _NON_CODING,
    "conserved_intron_variant": _NON_CODING,
    "intron_variant": _NON_CODING,
    "NMD_transcript_variant": None,
    "non_coding_transcript_variant": _NON_CODING,
    "intragenic_variant": _NON_CODING,
    "coding_transcript_variant": None,
    "TFBS_ablation": _NON_CODING,
    "TFBS_amplification": _NON_CODING,
    "TF_binding_site_variant": _NON_CODING,
    "regulatory_region_ablation": _NON_CODING,
    "regulatory_region_amplification": _NON_CODING,
    "regulatory_region_variant": _NON_CODING,
    "sequence_variant": None,
}
"""Terms from the most severe to the least, with our class of each."""
_RANK = {term: rank for rank, term in enumerate(CLASSES)}
_PUBLISHED = {entry.value: entry for entry in Mutation}


class Hit(NamedTuple):
    """A gene that an allele hits, and the class of what it does there."""

    gene: str
    mutation: Mutation | None


class _Order(NamedTuple):
    """Where the parts of an entry of `ANN` or `CSQ` are; the allele may be missing."""

    allele: int | None
    gene: int
    term: int


class Annotations:
    """How one file says which genes its alleles hit."""

    def __init__(self, header: list[str]) -> None:
        """Learn the order of `ANN` and `CSQ` from the lines of a header."""
        self._per_allele: set[str] = set()
        self._orders: dict[str, _Order] = {}
        standard = _order(_STANDARD_ANN)
        if standard is not None:
            self._orders["ANN"] = standard
        for line in header:
            found = _HEADER.match(line)
            if found is None:
                continue
            name, number, description = found.groups()
            if number == "A":
                self._per_allele.add(name)
            if name in self._orders or name == "CSQ":
                listed = _FORMAT.search(description)
                order = _order(listed[1]) if listed else None
                if order is not None:
                    self._orders[name] = order

    def hits(self, info: dict[str, str], ref: str, alts: list[str]) -> list[tuple[Hit, ...]]:
        """Return for each ALT allele the genes that it hits; `GENE` goes before the others."""
        if info.get("GENE", ".") != ".":
            return [self._by_gene(info, place, alt) for place, alt in enumerate(alts)]
        for name in ("ANN", "CSQ"):
            if name in info and name in self._orders:
                entries = [entry.split("|") for entry in info[name].split(",")]
                order = self._orders[name]
                return [_by_entries(entries, order, ref, alt, alts) for alt in alts]
        return [() for _ in alts]

    def _by_gene(self, info: dict[str, str], place: int, alt: str) -> tuple[Hit, ...]:
        genes = self._of_allele("GENE", info["GENE"], place)
        given = self._of_allele("MC", info.get("MC", "."), place)
        mutation = _class_of(given)
        if mutation is None and alt.startswith(("<DEL", "<DUP")):
            mutation = Mutation.INDEL
        names = dict.fromkeys(unquote(gene.strip()) for gene in genes)
        return tuple(Hit(gene, mutation) for gene in names if gene not in {"", "."})

    def _of_allele(self, name: str, value: str, place: int) -> list[str]:
        values = value.split(",")
        if name not in self._per_allele:
            return values
        return values[place : place + 1]


def read_info(info: str) -> dict[str, str]:
    """Return the members of INFO; flags are there with an empty value (VCF 4.3, 1.6.1)."""
    return {name: value for name, _, value in (part.partition("=") for part in info.split(";"))}


def _order(text: str) -> _Order | None:
    names = [name.strip(" \"'").lower() for name in text.split("|")]

    def place(of: tuple[str, ...]) -> int | None:
        return next((names.index(name) for name in of if name in names), None)

    gene, term = place(_GENE), place(_TERM)
    return None if gene is None or term is None else _Order(place(_ALLELE), gene, term)


def _class_of(given: list[str]) -> Mutation | None:
    """Read `MC`: one of our classes, or terms as ClinVar writes them (`SO:0001583|missense…`)."""
    terms = [value.rpartition("|")[2].strip() for value in given]
    for term in terms:
        if term in _PUBLISHED:
            return _PUBLISHED[term]
    return _worst(terms)[1]


def _by_entries(
    entries: list[list[str]], order: _Order, ref: str, alt: str, alts: list[str]
) -> tuple[Hit, ...]:
    mine = _written(ref, alt) if order.allele is not None and len(alts) > 1 else None
    found: dict[str, tuple[int, Mutation | None]] = {}
    last = max(order.gene, order.term, order.allele or 0)
    for entry in entries:
        if len(entry) <= last:
            continue
        if mine is not None and entry[order.allele or 0] not in mine:
            continue
        gene, worst = entry[order.gene].strip(), _inside(entry[order.term])
        if not gene or worst is None:
            continue
        known = found.get(gene)
        if known is None or worst[0] < known[0]:
            found[gene] = worst
    return tuple(Hit(unquote(gene), mutation) for gene, (_, mutation) in found.items())


@lru_cache(maxsize=4096)
def _inside(terms: str) -> tuple[int, Mutation | None] | None:
    """Return the most severe of several terms, or nothing when all say it is beside the gene."""
    inside = [term for term in terms.split("&") if term not in _OUTSIDE]
    return _worst(inside) if inside else None


def _worst(terms: list[str]) -> tuple[int, Mutation | None]:
    rank, term = min(((_RANK.get(term, len(_RANK)), term) for term in terms), default=(0, ""))
    return rank, CLASSES.get(term)


def _written(ref: str, alt: str) -> set[str]:
    """Return how annotators write an allele: as it is, or without the base shared with REF."""
    if ref[:1] == alt[:1]:
        return {alt, alt[1:] or "-"}
    return {alt}
