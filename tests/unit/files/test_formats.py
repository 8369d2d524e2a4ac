"""Formats are found by content, and a name that says something else is refused."""

import gzip
import io
import zipfile

import pytest

from cvf_app.errors import Invalid
from cvf_app.files.formats import ALL_FORMATS, check_head, format_of, recognise

VCF = b"##fileformat=VCFv4.2\n#CHROM\tPOS\n"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PACKET = b'{"id": "a", "subject": {"id": "b"}, "metaData": {}}'


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"<x/>")
    return file.getvalue()


def packed(content: bytes) -> bytes:
    # Without the time: tests are named by such content, and several processes name them alike.
    return gzip.compress(content, mtime=0)


WORKBOOK = zipped("docProps/app.xml", "xl/workbook.xml")
# Its directory says what it is, its first entry does not.
ODD_WORKBOOK = zipped("a.txt", "xl/workbook.xml")


class TestContent:
    @pytest.mark.parametrize(
        ("content", "name", "kind"),
        [
            (b"id,a\n1,2\n", "x.csv", "csv"),
            (b"id;a\n1;2\n", "x.csv", "csv"),
            (b"id\ta\n1\t2\n", "x.tsv", "tsv"),
            (b"id\ta\n1\t2\n", "x.txt", "tsv"),
            (b"id,a\n1,2\n", "x.txt", "csv"),
            (b"[id],a\n1,2\n", "x.csv", "csv"),
            (b"\xef\xbb\xbfid,a\n", "x.csv", "csv"),
            ("id,a\n".encode("utf-16"), "x.csv", "csv"),
            (b"id,a\nP,\xe9\n", "x.csv", "csv"),
            (packed(b"id,a\n1,2\n"), "x.csv.gz", "csv"),
            (packed(b"id\ta\n1\t2\n"), "x.tsv.gz", "tsv"),
            (packed(b"id,a\n1,2\n"), "x.gz", "csv"),
            (VCF, "x.vcf", "vcf"),
            (VCF, "x.csv", "vcf"),
            (VCF, "x.json", "vcf"),
            (packed(VCF), "x.vcf.gz", "vcf"),
            (packed(VCF), "x.vcf", "vcf"),
            (b"BCF\2\2....", "x.bcf", "bcf"),
            (packed(b"BCF\2\2\0\0"), "x.bcf", "bcf"),
            (packed(b"BCF\2\2\0\0"), "x.vcf", "bcf"),
            (PACKET, "x.json", "phenopacket"),
            (b"\n [" + PACKET + b"]", "x.json", "phenopacket"),
            (PACKET + b"\n" + PACKET, "x.jsonl", "phenopacket"),
            (packed(PACKET), "x.json.gz", "phenopacket"),
            (b'{"id": "a", "diseases": [ {"term": {}}]}', "x.json", "phenopacket"),
            (b'{"id": "a", "proband": {}}', "x.json", "phenopacket"),
            (b"[]", "x.json", "phenopacket"),
            (b'["a", "b"]', "x.json", "phenopacket"),
            (b'[{"id": "a", "subject": "b"}]', "x.json", "json"),
            (b'[{"id": "a", "x": {"metaData": 1}}]', "x.json", "json"),
            (b'[{"id": "a", "x": "\\"metaData\\": {"}]', "x.json", "json"),
            (b'[{"id": "a", "diseases": ["b", "c"]}]', "x.json", "json"),
            (b'{"id": "a"}\n{"id": "b"}\n', "x.json", "json"),
            (b'{"id": "a"}\n', "x.jsonl", "json"),
            (b'{"id": "a"}\n', "x.json", "phenopacket"),
            (b'[{"id": "a"}]', "x.csv", "json"),
            (WORKBOOK, "x.xlsx", "xlsx"),
            (WORKBOOK, "x.zip", "xlsx"),
            (ODD_WORKBOOK, "x.xlsx", "xlsx"),
            (zipped("a/b.json"), "x.zip", "zip"),
            (zipped("a/b.json"), "x.xlsx", "zip"),
            (zipped("a/b.json")[:-20], "x.zip", "zip"),
        ],
    )
    def test_the_content_says_what_a_file_is(self, content: bytes, name: str, kind: str) -> None:
        file = io.BytesIO(content)
        assert recognise(file, name) == kind
        assert file.tell() == 0

    def test_the_first_bytes_are_enough_for_all_but_odd_archives(self) -> None:
        assert check_head(WORKBOOK[:200], "xlsx") == "xlsx"
        assert check_head(packed(VCF * 500)[:100], "vcf") == "vcf"
        assert check_head(PACKET[:40], "phenopacket") == "phenopacket"

    @pytest.mark.parametrize(
        ("content", "name", "words"),
        [
            (PNG, "x.csv", "not a table"),
            (PNG, "x.json", "not phenopackets"),
            (PNG, "x.zip", "not a zip"),
            (b"%PDF-1.7", "x.tsv", "not a table"),
            (b"\xd0\xcf\x11\xe0", "x.xlsx", "not a spreadsheet"),
            (WORKBOOK, "x.csv", "not a table"),
            (zipped("a.json"), "x.json", "not phenopackets"),
            (packed(PNG), "x.csv.gz", "not a table"),
            (packed(WORKBOOK), "x.xlsx.gz", "not a spreadsheet"),
            (b"id,a\n", "x.vcf", "not a VCF"),
            (b"id,a\n", "x.json", "not phenopackets"),
            (b"id,a\n", "x.xlsx", "not a spreadsheet"),
            (b"\x1f\x8bnot gzip", "x.csv.gz", "not a table"),
            (PNG, "x", "no kind of file"),
        ],
    )
    def test_a_contradiction_is_refused(self, content: bytes, name: str, words: str) -> None:
        with pytest.raises(Invalid, match=words):
            recognise(io.BytesIO(content), name)


class TestAllowed:
    def test_a_table_that_is_a_vcf_needs_vcf_allowed(self) -> None:
        assert recognise(io.BytesIO(VCF), "x.csv", ("csv", "vcf")) == "vcf"
        with pytest.raises(Invalid, match="By its content this file is a VCF"):
            recognise(io.BytesIO(VCF), "x.csv", ("csv",))

    def test_packed_files_need_gz(self) -> None:
        content = packed(b"id,a\n")
        assert recognise(io.BytesIO(content), "x.csv", ("csv", "gz")) == "csv"
        with pytest.raises(Invalid, match="unpack it first"):
            recognise(io.BytesIO(content), "x.csv", ("csv",))

    @pytest.mark.parametrize(
        "name", ["x.csv", "X.CSV", "x.csv.gz", "x.vcf.bgz", "x.gz", "a.b.xlsx", "x.ndjson", "x.bcf"]
    )
    def test_known_endings_are_taken(self, name: str) -> None:
        format_of(name, ALL_FORMATS)

    @pytest.mark.parametrize("name", ["x", "x.exe", "x.csv.exe", "x.exe.gz", ".csv", "x.xls"])
    def test_other_endings_are_not(self, name: str) -> None:
        with pytest.raises(Invalid):
            format_of(name, ALL_FORMATS)

    @pytest.mark.parametrize("name", ["x.tsv", "x.csv.gz", "x.json", "x.bcf"])
    def test_the_published_list_takes_what_it_names(self, name: str) -> None:
        format_of("x.csv", (".CSV", "vcf"))
        with pytest.raises(Invalid, match="csv, vcf"):
            format_of(name, (".CSV", "vcf"))
