"""The head of a file of any format, without reading the rest."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from cvf_app.errors import Invalid
from cvf_app.files.formats import FileFormat
from cvf_app.pipelines.model import FilePipeline
from cvf_app.sources.sample import columns_of, sample
from tests.support.tables import as_csv, as_json, as_lines, as_packed_csv, as_sheet

HEADER = ("id", "a")
ROWS = [(f"P{number}", number) for number in range(30)]
DATA = Path(__file__).parents[2] / "data"
PIPELINE = FilePipeline(pipeline_name="f", internal_delimiter=";")


def kept(folder: Path, content: bytes) -> Path:
    path = folder / "in"
    path.write_bytes(content)
    return path


def zipped(count: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.json", json.dumps({"id": f"P{number}"}))
    return file.getvalue()


class TestSample:
    @pytest.mark.parametrize(
        ("content", "name", "kind"),
        [
            (as_csv(HEADER, ROWS), "x.csv", "csv"),
            (as_csv(HEADER, ROWS, "\t"), "x.tsv", "tsv"),
            (as_packed_csv(HEADER, ROWS), "x.csv.gz", "csv"),
            (as_sheet(HEADER, ROWS), "x.xlsx", "xlsx"),
        ],
    )
    def test_tables_show_ten_rows(
        self, tmp_path: Path, content: bytes, name: str, kind: FileFormat
    ) -> None:
        path = kept(tmp_path, content)
        found = sample(path, name, kind, None)
        assert found == [{"id": f"P{number}", "a": f"{number}"} for number in range(10)]
        assert columns_of(path, kind, None) == HEADER

    @pytest.mark.parametrize("content", [as_json(HEADER, ROWS), as_lines(HEADER, ROWS)])
    def test_json_shows_ten_objects(self, tmp_path: Path, content: bytes) -> None:
        path = kept(tmp_path, content)
        assert sample(path, "x.json", "json", None)[9] == {"id": "P9", "a": 9}
        assert len(sample(path, "x.json", "json", None)) == 10
        assert columns_of(path, "json", None) == HEADER

    def test_the_pipeline_names_the_separator(self, tmp_path: Path) -> None:
        path = kept(tmp_path, as_csv(HEADER, ROWS, ";"))
        assert columns_of(path, "csv", PIPELINE) == HEADER
        assert sample(path, "x.csv", "csv", None)[0] == {"id": "P0", "a": "0"}

    def test_phenopackets_show_documents(self, tmp_path: Path) -> None:
        packet = json.dumps({"id": "a", "subject": {}})
        path = kept(tmp_path, f"[{','.join([packet] * 20)}]".encode())
        assert sample(path, "x.json", "phenopacket", None) == [json.loads(packet)] * 10
        assert sample(kept(tmp_path, zipped(20)), "x.zip", "zip", None)[9] == {"id": "P9"}

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_vcf_shows_sites(self, tmp_path: Path, packed: bool) -> None:
        content = (DATA / "vcf" / "annotated.vcf").read_bytes()
        path = kept(tmp_path, gzip.compress(content) if packed else content)
        first, *more = sample(path, "x.vcf", "vcf", None)
        assert (first["CHROM"], first["POS"], first["P2"]) == ("1", "100", "1|1:8")
        assert len(more) == 5

    def test_of_many_samples_the_first_are_shown(self, tmp_path: Path) -> None:
        names = "\t".join(f"S{number}" for number in range(30))
        calls = "\t".join(["0/1"] * 30)
        head = (
            f"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}"
        )
        path = kept(tmp_path, f"{head}\n1\t1\t.\tA\tG\t.\t.\t.\tGT\t{calls}\n".encode())
        (site,) = sample(path, "x.vcf", "vcf", None)
        assert site["S9"] == "0/1"
        assert "S10" not in site
        assert site["moreSamples"] == 20


class TestHead:
    """A file that goes on for ever shows that only its head is read."""

    def test_only_the_head_of_a_packed_table_is_unpacked(self, tmp_path: Path) -> None:
        # What comes after the head is damaged, and nobody sees it.
        content = bytearray(as_packed_csv(HEADER, [(f"P{n}", n * n) for n in range(400_000)]))
        content[-100_000:] = bytes(100_000)
        assert len(sample(kept(tmp_path, bytes(content)), "x.csv.gz", "csv", None)) == 10

    def test_only_the_head_of_json_is_read(self, tmp_path: Path) -> None:
        content = as_json(HEADER, [(f"P{n}", n) for n in range(100_000)])[:-2] + b"rubbish"
        assert len(sample(kept(tmp_path, content), "x.json", "json", None)) == 10

    def test_a_document_that_does_not_fit_is_not_shown(self, tmp_path: Path) -> None:
        content = json.dumps({"id": "a", "subject": {"x": "y" * 2**21}}).encode()
        with pytest.raises(Invalid, match="too large to be shown"):
            sample(kept(tmp_path, content), "x.json", "phenopacket", None)

    @pytest.mark.parametrize(
        ("content", "name", "kind"),
        [
            (b"##fileformat=VCFv4.2\nrubbish\n", "x.vcf", "vcf"),
            (b"id,,a\n", "x.csv", "csv"),
            (b"PK\x03\x04", "x.zip", "zip"),
            (b"", "x.csv", "csv"),
            (b"id,a\n", "x.json", "json"),
        ],
    )
    def test_what_cannot_be_read_says_so(
        self, tmp_path: Path, content: bytes, name: str, kind: FileFormat
    ) -> None:
        with pytest.raises(Invalid):
            sample(kept(tmp_path, content), name, kind, None)
