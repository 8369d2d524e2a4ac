"""Whole files: what is taken, and what a steward is told of a file that is not."""

import io
import json
import stat
import zipfile
from pathlib import Path

import pytest

from cvf_app.errors import Invalid
from cvf_app.ids import SourceId
from cvf_app.pipelines.check import check
from cvf_app.pipelines.model import FilePipeline, RemapPipeline, Unreadable
from cvf_app.pipelines.take_in import Reading, Report, take_in
from cvf_app.records.model import RecordQuery
from cvf_app.subject import Subject
from cvf_app.wire import convert, decode
from tests.support.evaluate import matching_ids
from tests.support.shared import NO_SHARED, SHARED

PACKETS = Path(__file__).parents[2] / "data" / "phenopackets"
FILE = {"pipelineType": "filePipeline", "pipelineName": "f", "attribute": "id"}
REMAP = {
    "pipelineType": "remapPipeline",
    "pipelineName": "r",
    "directives": [{"directiveType": "termSet", "origin": "a", "destination": "eav"}],
}


EXPANDED = {"attribute": None, "columns": ["a"], "expansionPolicy": "individual"}


def _take(folder: Path, content: bytes, kind: str, name: str = "x") -> tuple[Report, list[Subject]]:
    path = folder / "in"
    path.write_bytes(content)
    task = {
        "path": str(path),
        "fileFormat": kind,
        "filename": name,
        "sourceId": SourceId("s"),
        "target": str(folder / "out"),
    }
    if kind in {"csv", "tsv"}:
        task |= {"filePipeline": FILE, "remapPipeline": REMAP}
    told: list[float] = []
    report = take_in(convert(task, Reading), told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert not list(folder.glob("out.*"))
    return report, [decode(line, Subject) for line in (folder / "out").read_bytes().splitlines()]


def _zip(**entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def _packets() -> list[Path]:
    return sorted(PACKETS.rglob("*.json"))


class TestTables:
    def test_rows_of_one_subject_meet_wherever_they_stand(self, tmp_path: Path) -> None:
        report, subjects = _take(tmp_path, b"id,a\nP1,x\nP2,y\nP1,z\n", "csv")
        assert report.rows == 3
        assert [one.eav["a"] for one in subjects] == [("x", "z"), "y"]

    def test_a_cell_of_many_lines_and_separators_is_read_once(self, tmp_path: Path) -> None:
        long = "a,\n" * 300_000
        content = f'id,a\nP1,"{long}"\n'.encode()
        _, (subject,) = _take(tmp_path, content, "csv")
        assert subject.eav["a"] == long.strip()

    def test_words_for_missing_values_give_none(self, tmp_path: Path) -> None:
        (tmp_path / "in").write_bytes(b"id,a\nP1,NA\nNA,x\nP2,N/A\nP3,NAM\n")
        task = {
            "path": str(tmp_path / "in"),
            "fileFormat": "csv",
            "filename": "x",
            "sourceId": "s",
            "target": str(tmp_path / "out"),
            "filePipeline": FILE | {"missing": ["NA", "N/A"]},
            "remapPipeline": REMAP,
        }
        report = take_in(convert(task, Reading), lambda _: None)
        lines = (tmp_path / "out").read_bytes().splitlines()
        assert [decode(line, Subject).eav for line in lines] == [{}, {}, {"a": "NAM"}]
        assert [one.line for one in report.refusals] == [3]

    @pytest.mark.skipif(SHARED is None, reason=NO_SHARED)
    def test_a_long_table_with_a_row_filter_answers_as_the_phenopackets(
        self, tmp_path: Path
    ) -> None:
        assert SHARED is not None
        data = SHARED / "data" / "phenopackets"
        (tmp_path / "in").write_bytes((data / "features_long.tsv").read_bytes())
        terms = {"patternSetType": "basic", "pattern": r"HP:(\d{7})", "replacement": r"\1"}
        task = {
            "path": str(tmp_path / "in"),
            "fileFormat": "tsv",
            "filename": "features_long.tsv",
            "sourceId": "s",
            "target": str(tmp_path / "out"),
            "filePipeline": FILE
            | {
                "attribute": "packet_id",
                "internalDelimiter": "\\t",
                "rowFilter": {"column": "status", "equals": "observed"},
            },
            "remapPipeline": REMAP
            | {
                "directives": [
                    {
                        "directiveType": "termSet",
                        "origin": "feature",
                        "destination": "hpo",
                        "patternSets": [terms],
                    }
                ]
            },
        }
        report = take_in(convert(task, Reading), lambda _: None)
        lines = (tmp_path / "out").read_bytes().splitlines()
        subjects = [decode(line, Subject) for line in lines]
        figures = json.loads((data / "expected_tables.json").read_text())["features_long.tsv"]
        # Of two subjects every row says that a feature was excluded.
        assert (report.rows, report.subjects) == (figures["rows"], figures["subjects"] - 2)
        for asked in json.loads((data / "expected.json").read_text())["queries"][:6]:
            query = json.dumps(asked["query"]).replace("HP:", "")
            found = matching_ids(decode(query.encode(), RecordQuery), subjects)
            assert sorted(found) == sorted(asked["subjectIds"]), asked["id"]

    def test_refused_rows_are_reported_with_their_line(self, tmp_path: Path) -> None:
        report, subjects = _take(tmp_path, b"id,a\nP1,x\n,y\nP3,y,z\n", "csv")
        assert len(subjects) == 1
        assert [one.line for one in report.refusals] == [3, 4]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b'id,a\nP1,"x\nP2,y\n', "Line 2"),
            (b'id,a\nP1,x\nP2,x"y"\n', "Line 3"),
            (b"id,a\nP1,x\nP2,\xe9\n", "Line 3"),
            (b"nope,a\nP1,x\n", "'id'"),
            (b"id,,a\nP1,x\n", "Column 2"),
            (b" ", "empty"),
            (b"\x89PNG\r\n\x1a\n\0\0", "not a table"),
            (b"PK\x03\x04....", "not a table"),
        ],
    )
    def test_a_fault_of_the_content_fails_the_file(
        self, tmp_path: Path, content: bytes, words: str
    ) -> None:
        with pytest.raises(Unreadable, match=words):
            _take(tmp_path, content, "csv")
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


class TestPhenopackets:
    def test_one_a_list_and_lines_give_the_same_subjects(self, tmp_path: Path) -> None:
        found = [json.loads(path.read_text()) for path in _packets()]
        as_list = json.dumps(found, indent=1).encode()
        as_lines = "\n".join(map(json.dumps, found)).encode()
        _, first = _take(tmp_path, as_list, "phenopacket")
        _, second = _take(tmp_path, as_lines, "phenopacket")
        third = [_take(tmp_path, path.read_bytes(), "phenopacket")[1][0] for path in _packets()]
        assert len(first) == len(found) == 5
        assert first == second == third

    def test_excluded_features_are_kept_apart(self, tmp_path: Path) -> None:
        path = next(PACKETS.glob("11q*/*.json"))
        _, (subject,) = _take(tmp_path, path.read_bytes(), "phenopacket")
        assert subject.age == 6
        assert len(subject.hpo) == 7
        assert "0000243" in subject.excluded_hpo

    @pytest.mark.parametrize(
        "content",
        [
            b"{}",
            b'{"id": "x", "name": "y"}',
            b'{"id": "x", "subject": 3}',
            b'{"id": "x", "subject": {}',
            b'[{"id": "x", "subject": {}}',
            b'[{"id": "x", "subject": {}},]',
            b'[{"id": "x", "subject": {}}] x',
            b'{"id": "x", "subject": {}, "genes": []}',
            b'{"id": "x", "phenotypicFeatures": [{"negated": true}]}',
            b"hello",
        ],
    )
    def test_what_is_no_phenopacket_is_unreadable(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(Unreadable):
            _take(tmp_path, content, "phenopacket")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b'{"id": "x", "subject": {"ageAtCollection": "P3Y"}}', "version"),
            (b'{"id": "x", "subject": {}, "variants": [{}]}', "version"),
            (b'{"id": "x", "proband": {}}', "Families"),
        ],
    )
    def test_another_kind_of_packet_is_named(
        self, tmp_path: Path, content: bytes, words: str
    ) -> None:
        with pytest.raises(Unreadable, match=words):
            _take(tmp_path, content, "phenopacket")


class TestArchives:
    def test_the_cohort_is_the_folder(self, tmp_path: Path) -> None:
        packet = _packets()[0].read_bytes()
        _, (subject,) = _take(tmp_path, _zip(**{"p/NF1/a.json": packet, "r.txt": b""}), "zip")
        assert subject.eav["cohort"] == "NF1"

    @pytest.mark.parametrize(
        "entries",
        [
            {"../a.json": b"{}"},
            {"/a.json": b"{}"},
            {"C:\\a.json": b"{}"},
            {"a\\..\\..\\a.json": b"{}"},
            {"a.zip": b"PK"},
            {"a.json": b" " * 40_000_000},
            {"a.txt": b"x"},
            {"a.json": b"PK\x03\x04"},
        ],
    )
    def test_what_is_not_to_be_trusted_is_refused(
        self, tmp_path: Path, entries: dict[str, bytes]
    ) -> None:
        with pytest.raises(Unreadable):
            _take(tmp_path, _zip(**entries), "zip")

    def test_links_encryption_and_damage_are_refused(self, tmp_path: Path) -> None:
        link = zipfile.ZipInfo("a.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(link, "/etc/passwd")
        whole = _zip(**{"a.json": _packets()[0].read_bytes()})
        encrypted = bytearray(whole)
        encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
        damaged = bytearray(whole)
        damaged[60] ^= 0xFF
        for content in (file.getvalue(), bytes(encrypted), bytes(damaged), whole[:-30]):
            with pytest.raises(Unreadable):
                _take(tmp_path, content, "zip")


class TestCheck:
    @pytest.mark.parametrize(
        ("change", "path"),
        [
            ({"batchSize": 2}, "$.attribute"),
            ({"internalDelimiter": "ab"}, "$.internalDelimiter"),
            ({"subjectIdLocation": "assignPerBatch"}, "$.subjectIdLocation"),
            ({"grouping": "customized"}, "$.groupColumns"),
            ({"pipelineName": " "}, "$.pipelineName"),
            ({"attribute": " id"}, "$.attribute"),
            ({"rowFilter": {"column": "", "equals": "x"}}, "$.rowFilter.column"),
            ({"rowFilter": {"column": "x", "equals": "x "}}, "$.rowFilter.equals"),
            ({"missing": ["NA", ""]}, "$.missing[1]"),
            ({"missing": ["NA", "NA"]}, "$.missing[1]"),
            ({"missing": [str(n) for n in range(101)]}, "$.missing"),
            ({"attribute": None, "batchSize": 0}, "$.batchSize"),
            ({"attribute": None, "batchSize": 2, "prefix": "x" * 101}, "$.prefix"),
            ({"attribute": None, "columns": ["a"]}, "$.expansionPolicy"),
            (EXPANDED | {"columns": ["a", "a"]}, "$.columns[1]"),
            (EXPANDED | {"columns": ["a", ""]}, "$.columns[1]"),
            (EXPANDED | {"newAttribute": " "}, "$.newAttribute"),
        ],
    )
    def test_contradictions_name_their_member(self, change: dict[str, object], path: str) -> None:
        with pytest.raises(Invalid) as fault:
            check(convert(FILE | change, FilePipeline))
        assert fault.value.path == path

    def test_directives_are_bounded_and_name_their_member(self) -> None:
        (plain,) = REMAP["directives"]
        one = {"patternSetType": "basic", "pattern": "a", "replacement": "b"}
        for change, path in (
            ({"origin": ""}, "$.directives[0].origin"),
            ({"patternSets": [one] * 101}, "$.directives[0].patternSets"),
            (
                {"patternSets": [one | {"pattern": "a" * 2001}]},
                "$.directives[0].patternSets[0].pattern",
            ),
            (
                {"patternSets": [one | {"replacement": "a" * 2001}]},
                "$.directives[0].patternSets[0].replacement",
            ),
            ({"destination": "subject"}, "$.directives[0].origin"),
        ):
            with pytest.raises(Invalid) as fault:
                check(convert(REMAP | {"directives": [plain | change]}, RemapPipeline))
            assert fault.value.path == path
        many = [plain | {"patternSets": [one] * 100}] * 21
        with pytest.raises(Invalid) as fault:
            check(convert(REMAP | {"directives": many}, RemapPipeline))
        assert fault.value.path == "$.directives[20]"

    @pytest.mark.parametrize(
        ("pattern", "replacement", "member"),
        [
            ("(?=a)b", "x", "pattern"),
            (r"(a)\1", "x", "pattern"),
            ("(", "x", "pattern"),
            ("(a)", r"\2", "replacement"),
            ("(a)", r"\g<name>", "replacement"),
        ],
    )
    def test_a_pattern_that_cannot_be_used_is_named(
        self, pattern: str, replacement: str, member: str
    ) -> None:
        sets = [{"patternSetType": "basic", "pattern": pattern, "replacement": replacement}]
        directive = {**REMAP["directives"][0], "patternSets": sets}
        with pytest.raises(Invalid) as fault:
            check(convert(REMAP | {"directives": [directive]}, RemapPipeline))
        assert fault.value.path == f"$.directives[0].patternSets[0].{member}"

    def test_a_stray_source_type_is_dropped(self) -> None:
        given = decode(json.dumps(FILE | {"sourceType": "x"}).encode(), FilePipeline)
        assert check(given) == convert(FILE, FilePipeline)
