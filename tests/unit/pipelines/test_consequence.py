"""Genes and classes of mutations from what annotators write."""

import pytest

from cvf_app.pipelines.consequence import CLASSES, Annotations, Hit, read_info
from cvf_app.subject import Mutation

CSQ = (
    '##INFO=<ID=CSQ,Number=.,Type=String,Description="Consequence annotations from Ensembl VEP.'
    ' Format: Allele|Consequence|IMPACT|SYMBOL|Gene|HGVSp">'
)
# Another order than the usual one, and VEP's `--vcf_info_field ANN`.
VEP_ANN = (
    '##INFO=<ID=ANN,Number=.,Type=String,Description="Consequence annotations from Ensembl VEP.'
    ' Format: SYMBOL|Consequence|Allele">'
)
SNPEFF = (
    "##INFO=<ID=ANN,Number=.,Type=String,Description=\"Functional annotations: 'Allele | Annotation"
    " | Annotation_Impact | Gene_Name | Gene_ID'\">"
)


def hits(info: str, *header: str, ref: str = "A", alts: str = "G") -> list[tuple[Hit, ...]]:
    return Annotations(list(header)).hits(read_info(info), ref, alts.split(","))


class TestGene:
    def test_gene_and_class(self) -> None:
        assert hits("AC=1;GENE=NF1;MC=missense") == [(Hit("NF1", Mutation.MISSENSE),)]
        assert hits("GENE=C11orf80") == [(Hit("C11orf80", None),)]
        assert hits("GENE=.;AC=1") == hits("AC=1;GENES=NF1") == hits(".") == [()]

    def test_clinvar_writes_terms(self) -> None:
        found = hits("GENE=NF1;MC=SO:0001627|intron_variant,SO:0001583|missense_variant")
        assert found == [(Hit("NF1", Mutation.MISSENSE),)]

    def test_several_genes_and_values_per_allele(self) -> None:
        assert [one.gene for one in hits("GENE=NF1,OMG")[0]] == ["NF1", "OMG"]
        header = '##INFO=<ID=GENE,Number=A,Type=String,Description="x">'
        assert hits("GENE=NF1,OMG", header, alts="G,T") == [
            (Hit("NF1", None),),
            (Hit("OMG", None),),
        ]

    def test_deletions_without_a_class_are_indels(self) -> None:
        assert hits("GENE=NF1", alts="<DEL>") == [(Hit("NF1", Mutation.INDEL),)]
        assert hits("GENE=NF1", alts="<INV>") == [(Hit("NF1", None),)]

    def test_gene_goes_first(self) -> None:
        assert hits("GENE=NF1;CSQ=G|stop_gained|H|OMG|E|", CSQ) == [(Hit("NF1", None),)]


class TestEntries:
    def test_the_most_severe_term_of_a_gene_counts(self) -> None:
        info = (
            "CSQ=G|intron_variant|M|NF1|E1|,G|missense_variant&NMD_transcript_variant|M|NF1|E1|,"
            "G|synonymous_variant|L|OMG|E2|"
        )
        assert hits(info, CSQ) == [(Hit("NF1", Mutation.MISSENSE), Hit("OMG", None))]

    def test_what_lies_beside_a_gene_is_not_in_it(self) -> None:
        info = "CSQ=G|upstream_gene_variant|M|NF1|E1|,G|intergenic_variant|M|||"
        assert hits(info, CSQ) == [()]
        assert hits("ANN=G|downstream_gene_variant|M|NF1|E1", SNPEFF) == [()]

    def test_the_order_is_that_of_the_header(self) -> None:
        assert hits("ANN=NF1|stop_gained|G", VEP_ANN) == [(Hit("NF1", Mutation.NONSENSE),)]

    @pytest.mark.parametrize("header", [(), (SNPEFF,)])
    def test_ann_has_an_order_of_its_own(self, header: tuple[str, ...]) -> None:
        info = "ANN=G|frameshift_variant&stop_gained|HIGH|NF1|E1"
        assert hits(info, *header) == [(Hit("NF1", Mutation.NONSENSE),)]

    def test_csq_without_an_order_says_nothing(self) -> None:
        assert hits("CSQ=G|stop_gained|H|NF1|E|") == [()]

    def test_entries_are_those_of_the_allele(self) -> None:
        info = "CSQ=-|frameshift_variant|H|NF1|E|,TCT|inframe_insertion|M|NF1|E|"
        assert hits(info, CSQ, ref="GTC", alts="G,GTCT") == [
            (Hit("NF1", Mutation.FRAMESHIFT),),
            (Hit("NF1", Mutation.INDEL),),
        ]
        ann = "ANN=T|stop_gained|H|NF1|E,G|missense_variant|M|NF1|E"
        assert hits(ann, SNPEFF, alts="G,T") == [
            (Hit("NF1", Mutation.MISSENSE),),
            (Hit("NF1", Mutation.NONSENSE),),
        ]

    def test_unknown_terms_give_the_gene_alone(self) -> None:
        assert hits("CSQ=G|brand_new_variant|H|NF1|E|", CSQ) == [(Hit("NF1", None),)]

    def test_short_entries_are_passed_over(self) -> None:
        assert hits("CSQ=G|stop_gained", CSQ) == [()]

    def test_all_eight_classes_have_a_term(self) -> None:
        assert set(CLASSES.values()) == {None, *Mutation}
