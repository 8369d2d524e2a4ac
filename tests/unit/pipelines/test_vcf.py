"""VCF: the expected carriers and counts of real files, the calls of small ones, broken lines."""

import gzip
import json
import sys
from collections import Counter
from pathlib import Path

import pysam
import pytest

from cvf_app.ids import SourceId
from cvf_app.pipelines.bcf import lines_of_bcf
from cvf_app.pipelines.carriers import Carriers, joined
from cvf_app.pipelines.compressed import opened
from cvf_app.pipelines.content import subjects_of, variants_of
from cvf_app.pipelines.model import Unreadable
from cvf_app.pipelines.take_in import Reading, Report, take_in
from cvf_app.pipelines.vcf import Vcf
from cvf_app.subject import Mutation, Subject, SubjectId, Variant
from cvf_app.wire import convert, decode
from tests.support.naive_vcf import read_plainly
from tests.support.shared import NO_SHARED, SHARED

ANNOTATED = Path(__file__).parents[2] / "data" / "vcf" / "annotated.vcf"
NAMES_LINE = 9
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def lines(*records: str, samples: tuple[str, ...] = ("A", "B"), header: str = "") -> list[bytes]:
    names = "\t".join((COLUMNS, "FORMAT", *samples)) if samples else COLUMNS
    text = f"##fileformat=VCFv4.3\n{header}{names}\n" + "".join(f"{each}\n" for each in records)
    return text.encode().splitlines(keepends=True)


def record(calls: str, *, alt: str = "G", info: str = ".", keys: str = "GT") -> str:
    return f"1\t10\t.\tA\t{alt}\t.\t.\t{info}\t{keys}\t{calls}"


def calls_of(call: str, alt: str = "G", keys: str = "GT") -> dict[int, int]:
    (site,) = Vcf(lines(record(call, alt=alt, keys=keys), samples=("A",))).sites()
    return dict(site.calls[0][1]) if site.calls else {}


def people(content: list[bytes], pending: int = 1000) -> dict[str, Subject]:
    parts: dict[str, list[Subject]] = {}
    for part in Carriers(Vcf(content), SubjectId("name"), pending=pending).parts():
        parts.setdefault(part.subject_id, []).append(part)
    return {name: joined(found) for name, found in parts.items()}


def taken(path: Path, folder: Path, kind: str = "vcf") -> dict[str, Subject]:
    task = Reading(
        path=str(path),
        file_format="bcf" if kind == "bcf" else "vcf",
        filename=path.name,
        source_id=SourceId("s"),
        target=str(folder / "out"),
    )
    report = take_in(task, lambda _: None)
    found = [decode(line, Subject) for line in (folder / "out").read_bytes().splitlines()]
    assert report.subjects == len(found) == len({each.subject_id for each in found})
    return {each.subject_id: each for each in found}


def judged(
    folder: Path,
    *,
    mismatch: str = "refuse",
    name: str = "variantCount",
    required: bool = False,
    **bounds: int,
) -> tuple[Report, dict[str, Subject]]:
    """Take the annotated file in where an attribute is declared to be a whole number."""
    kind = {"type": "integer", **bounds}
    task = {
        "path": str(ANNOTATED),
        "fileFormat": "vcf",
        "filename": "x.vcf",
        "sourceId": "s",
        "target": str(folder / "out"),
        "attributes": [{"name": name, "required": required, "valueType": kind}],
        "mismatch": mismatch,
    }
    report = take_in(convert(task, Reading), lambda _: None)
    found = [decode(line, Subject) for line in (folder / "out").read_bytes().splitlines()]
    return report, {each.subject_id: each for each in found}


def to_bcf(source: Path, path: Path) -> None:
    """Write a VCF again as BCF."""
    pysam.set_verbosity(0)
    with (
        pysam.VariantFile(str(source)) as given,
        pysam.VariantFile(str(path), "wb", header=given.header) as out,
    ):
        for each in given:
            out.write(each)


class TestCalls:
    @pytest.mark.parametrize(
        ("call", "counts"),
        [
            ("0/0", {}),
            ("./.", {}),
            (".", {}),
            ("0", {}),
            ("1", {1: 1}),
            ("0/1", {1: 1}),
            ("1|0", {1: 1}),
            ("1/1", {1: 2}),
            ("1|2", {1: 1, 2: 1}),
            ("./2", {2: 1}),
            ("2/.", {2: 1}),
            ("0/0/1/1", {1: 2}),
            ("/1/2", {1: 1, 2: 1}),
            ("|0|1", {1: 1}),
        ],
    )
    def test_a_call_counts_the_alleles_that_it_names(
        self, call: str, counts: dict[int, int]
    ) -> None:
        assert calls_of(call, alt="G,T") == counts
        assert calls_of(f"{call}:12:1,2", alt="G,T", keys="GT:DP:AD") == counts

    def test_numbers_beside_the_genotype_are_no_calls(self) -> None:
        assert calls_of("0/0:1/1:1", keys="GT:XX:DP") == {}
        assert calls_of("1/1", keys="DP") == {}

    def test_two_digits_are_one_number(self) -> None:
        assert calls_of("10/0", alt=",".join("ACGT" * 3)) == {10: 1}


class TestBroken:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ([b"##fileformat=VCFv3.3\n"], "Line 1: this is no VCF of version 4"),
            ([b"##fileformat=VCFv4.2\n"], "#CHROM is missing"),
            ([b"##fileformat=VCFv4.2\n", b"1\t2\n"], "Line 2"),
            (lines(samples=("A", "A")), "'A' stands there twice"),
            (lines(samples=("A", "")), "sample 2 has no name"),
            (lines(record("0/1")), "Line 3: 10 columns, and the header has 11"),
            (lines(record("0/1\t0/0\t0/0")), "Line 3: 12 columns"),
            (lines(record("0/1\t0/2")), "Line 3: 'B' has allele 2, and there are 1"),
            (lines(record("0/1\t0/1x")), "Line 3: the genotype of 'B' is broken"),
            (lines(record("0/1\t0/1", keys="DP:GT")), "GT is not the first"),
            (lines(record("0/1\t0/1").replace("\t10\t", "\tx\t")), "POS"),
            (lines(record("0/1\t0/1", alt="")), "blank"),
            ([*lines(), b"1\t1\t.\tA\tG\t.\t.\t\xe9\tGT\t0/0\t0/0\n"], "Line 3: .*UTF-8"),
        ],
    )
    def test_broken_lines_are_named(self, content: list[bytes], words: str) -> None:
        with pytest.raises(Unreadable, match=words):
            list(Vcf(content).sites())

    def test_too_many_variants_for_a_record_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cvf_app.pipelines.carriers.MOST_VARIANTS", 3)
        found = [record("1/1\t0/0", info="GENE=NF1")] * 4
        with pytest.raises(Unreadable, match="'A' has more than 3 variants"):
            people(lines(*found))


class TestSubjects:
    def test_the_annotated_file_gives_what_stands_in_it(self) -> None:
        found = people(ANNOTATED.read_bytes().splitlines(keepends=True))
        missense, frame = Mutation.MISSENSE, Mutation.FRAMESHIFT
        assert found["P1"].variant == (
            Variant(gene="NF1", mutation=missense, af=0.25, ac=1),
            Variant(gene="PTEN", mutation=frame, af=0.1, ac=1),
            Variant(gene="PTEN", mutation=Mutation.INDEL, af=0.2, ac=1),
            Variant(gene="MECP2", mutation=Mutation.NONSENSE, ac=1),
        )
        assert found["P2"].variant == (
            Variant(gene="NF1", mutation=missense, af=0.25, ac=2),
            Variant(gene="PTEN", mutation=Mutation.INDEL, af=0.2, ac=1),
            Variant(gene="BRCA2", mutation=None, ac=1),
        )
        assert found["P3"].variant == (Variant(gene="PTEN", mutation=Mutation.INDEL, af=0.2, ac=1),)
        assert found["P4"].variant == ()
        counts = [found[name].eav["variantCount"] for name in ("P1", "P2", "P3", "P4")]
        # The first one carries an allele in no gene too; `*` is none.
        assert counts == [5, 3, 1, 0]

    def test_memory_decides_nothing(self) -> None:
        content = ANNOTATED.read_bytes().splitlines(keepends=True)
        assert people(content, pending=1) == people(content)

    def test_equal_variants_stay_two(self) -> None:
        found = people(lines(*[record("0/1\t0/0", info="GENE=NF1")] * 2), pending=1)
        assert found["A"].variant == (Variant(gene="NF1", ac=1),) * 2

    def test_a_file_without_samples_is_one_subject_by_its_name(self) -> None:
        content = lines("1\t10\t.\tA\tG,T\t.\t.\tGENE=NF1;MC=missense", samples=())
        (subject,) = people(content).values()
        assert subject.subject_id == "name"
        assert subject.variant == (Variant(gene="NF1", mutation=Mutation.MISSENSE),) * 2
        assert subject.eav["variantCount"] == 2

    def test_a_file_with_one_sample_is_one_subject_by_its_name(self) -> None:
        content = lines(record("1/1", info="GENE=NF1"), record("0/0"), samples=("A",))
        (subject,) = people(content).values()
        assert subject.subject_id == "name"
        # It is still the calls that count.
        assert subject.variant == (Variant(gene="NF1", ac=2),)
        assert subject.eav["variantCount"] == 1

    def test_bcf_gives_the_same_subjects(self, tmp_path: Path) -> None:
        path = tmp_path / "small.bcf"
        to_bcf(ANNOTATED, path)
        with path.open("rb") as file:
            assert next(lines_of_bcf(file)).startswith(b"##fileformat=VCFv4")
        binary = taken(path, tmp_path, "bcf")
        # BCF holds frequencies in 32 bits; as text they are the same six digits again.
        assert binary == taken(ANNOTATED, tmp_path)

    def test_a_damaged_bcf_is_unreadable(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bcf"
        path.write_bytes(b"BCF\2\2" + bytes(100))
        with pytest.raises(Unreadable, match="BCF"):
            taken(path, tmp_path, "bcf")

    def test_without_the_extra_what_to_install_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pysam", None)
        path = tmp_path / "x.bcf"
        path.write_bytes(b"BCF\2\2" + bytes(100))
        with pytest.raises(Unreadable, match="package pysam"):
            taken(path, tmp_path, "bcf")


class TestDeclared:
    @pytest.mark.parametrize("pending", [250_000, 1])
    def test_a_refused_subject_goes_with_all_its_parts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pending: int
    ) -> None:
        # With one call at a time a subject has many parts.
        monkeypatch.setitem(Carriers.__init__.__kwdefaults__, "pending", pending)
        report, found = judged(tmp_path, minimum=1, maximum=3)
        assert set(found) == {"P2", "P3"}
        assert found == {
            name: one for name, one in taken(ANNOTATED, tmp_path).items() if name in found
        }
        assert (report.subjects, report.refused, report.flagged) == (2, 2, 0)
        assert [(one.line, one.place, one.attribute) for one in report.refusals] == [
            (NAMES_LINE, "P1", "variantCount"),
            (NAMES_LINE, "P4", "variantCount"),
        ]

    def test_what_is_flagged_leaves_the_subject(self, tmp_path: Path) -> None:
        report, found = judged(tmp_path, mismatch="flag", maximum=3)
        plain = taken(ANNOTATED, tmp_path)
        assert (report.subjects, report.refused, report.flagged) == (4, 0, 1)
        assert (found["P1"].eav, found["P1"].variant) == ({}, plain["P1"].variant)
        assert found["P2"] == plain["P2"]

    def test_only_what_a_vcf_feeds_is_required_of_it(self, tmp_path: Path) -> None:
        report, found = judged(tmp_path, name="age", required=True)
        assert (report.refused, found) == (0, taken(ANNOTATED, tmp_path))

    def test_a_file_may_be_refused_to_the_last_subject(self, tmp_path: Path) -> None:
        report, found = judged(tmp_path, minimum=100)
        assert (report.subjects, report.refused, found) == (0, 4, {})


@pytest.mark.skipif(SHARED is None, reason=NO_SHARED)
class TestSharedFiles:
    @pytest.mark.parametrize("name", ["1kg_chr2_629_samples.vcf.gz", "example-4.1.vcf"])
    def test_carriers_and_counts_are_the_expected_ones(self, name: str) -> None:
        assert SHARED is not None
        expected = json.loads((SHARED / "data" / "vcf" / "expected.json").read_text())[name]
        with (SHARED / "data" / "vcf" / name).open("rb") as file:
            vcf = variants_of(file, "vcf", lambda _: None)
            sites = list(vcf.sites())
            text = opened(file, lambda _: None).stream.read().decode()
        plain = {(one.chrom, one.pos, one.ref, one.alt): one for one in read_plainly(text)}
        carriers: Counter[tuple[str, int, str, str]] = Counter()
        copies: Counter[tuple[str, int, str, str]] = Counter()
        alleles: Counter[str] = Counter()
        for site in sites:
            for sample, counts in site.calls:
                for number, many in counts:
                    key = (site.chrom, site.pos, site.ref, site.alts[number - 1])
                    carriers[key] += 1
                    copies[key] += many
                    alleles[vcf.samples[sample]] += 1
        named = [site for site in sites if site.alts != ["."]]
        assert len(vcf.samples) == expected["samples"]
        assert len(sites) == vcf.read_sites == expected["sites"]
        assert sum(len(site.alts) for site in named) == len(plain) == expected["altAlleles"]
        assert len(alleles) == expected["samplesWithAnyAlt"]
        assert sum(not site.calls for site in named) == expected["sitesWithNoCarrier"]
        assert [[one, alleles[one]] for one, _ in expected["sample"]] == expected["sample"]
        for one in expected["alleles"]:
            key = (one["chrom"], one["pos"], one["ref"], one["alt"])
            assert (carriers[key], copies[key]) == (one["carriers"], one["AC"])
            assert plain[key].called == one["AN_called"]
            share = copies[key] / plain[key].called if plain[key].called else None
            assert share == pytest.approx(one["af_called"], abs=1e-6)
            every = copies[key] / (2 * len(vcf.samples))
            assert every == pytest.approx(one["af_all_subjects"], abs=1e-6)

    def test_subjects_carry_the_expected_numbers(self, tmp_path: Path) -> None:
        assert SHARED is not None
        for name in ("1kg_chr2_629_samples.vcf.gz", "example-4.1.vcf"):
            expected = json.loads((SHARED / "data" / "vcf" / "expected.json").read_text())[name]
            found = taken(SHARED / "data" / "vcf" / name, tmp_path)
            assert len(found) == expected["samples"]
            counts = [[one, found[one].eav["variantCount"]] for one, _ in expected["sample"]]
            assert counts == expected["sample"]
            assert not any(one.variant for one in found.values())

    def test_the_vcf_route_answers_as_expected(self, tmp_path: Path) -> None:
        assert SHARED is not None
        folder = SHARED / "data" / "phenopackets"
        expected = json.loads((folder / "expected_tables.json").read_text())["variants.vcf"]
        found = taken(folder / "variants.vcf", tmp_path).values()
        truncating = {Mutation.FRAMESHIFT, Mutation.NONSENSE}

        def having(genes: set[str], kinds: set[Mutation]) -> int:
            return sum(
                any(
                    (not genes or one.gene in genes) and (not kinds or one.mutation in kinds)
                    for one in subject.variant
                )
                for subject in found
            )

        assert len(found) == expected["samples"]
        assert sum(bool(one.variant) for one in found) == expected["samplesWithAnyAlt"]
        assert having({"STXBP1", "NF1"}, set()) == expected["Q14"]
        assert having({"ANKRD11"}, truncating) == expected["Q15"]
        assert having(set(), {Mutation.MISSENSE}) == expected["Q16"]

    def test_bcf_of_the_same_gives_the_same(self, tmp_path: Path) -> None:
        assert SHARED is not None
        source, path = tmp_path / "x.vcf", tmp_path / "x.bcf"
        packed = SHARED / "data" / "vcf" / "1kg_chr2_629_samples.vcf.gz"
        content = gzip.decompress(packed.read_bytes())
        # BCF needs the contig declared.
        source.write_bytes(content.replace(b"#CHROM", b"##contig=<ID=2>\n#CHROM", 1))
        to_bcf(source, path)
        assert taken(path, tmp_path, "bcf") == taken(source, tmp_path)


def test_parts_of_a_file_come_by_its_name() -> None:
    vcf = Vcf(lines("1\t10\t.\tA\tG\t.\t.\t.", samples=()))
    assert [part.subject_id for part in subjects_of(vcf, "a/LRI.007.vcf.gz")] == ["LRI.007"]
