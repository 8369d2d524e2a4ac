"""Files that several members of a crew work on, and the head of files that nothing is kept of."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cvf_app.pipelines.model import Unreadable
from cvf_app.pipelines.preview import Preview, preview
from cvf_app.pipelines.take_in import Reading, Report, take_in
from cvf_app.wire import convert
from tests.unit.pipelines.test_take_in import FILE, REMAP

PACKET = {"subject": {"sex": "MALE"}, "phenotypicFeatures": [{"type": {"id": "HP:0001250"}}]}
ROWS = 30_000


def _task(folder: Path, content: bytes, kind: str, **more: Any) -> Reading:
    path = folder / "in"
    path.write_bytes(content)
    task = {
        "path": str(path),
        "fileFormat": kind,
        "filename": f"f/x.{kind}",
        "sourceId": "s",
        "target": str(folder / "out"),
        "refusals": str(folder / "refused"),
        "sharedFrom": 1,
        **more,
    }
    if kind == "csv":
        task |= {"filePipeline": FILE, "remapPipeline": REMAP}
    return convert(task, Reading)


def _both(folder: Path, content: bytes, kind: str) -> tuple[Report, bytes]:
    """Take a file in by one and by two, and return what is the same in both."""
    found = []
    for cores in (1, 2):
        task = _task(folder, content, kind, cores=cores)
        report = take_in(task, lambda _: None)
        out, refused = (folder / "out").read_bytes(), (folder / "refused").read_bytes()
        assert refused.count(b"\n") == report.refused
        assert sorted(path.name for path in folder.iterdir()) == ["in", "out", "refused"]
        found.append((report, out, refused))
    assert found[0] == found[1]
    return found[0][:2]


def _table() -> bytes:
    """Make rows of which some repeat an id far away, some are refused, and some go over lines."""
    rows = []
    for n in range(ROWS):
        name = "" if n % 997 == 0 else f"P{n % (ROWS - 500)}"
        cell = f'"line {n}\n""{n}"""' if n % 3 == 0 else f"{n}"
        rows.append(f"{name},{cell}" + (",x" if n % 1999 == 0 else ""))
    return ("id,a\n" + "\n".join(rows) + "\n").encode()


def _packets(count: int) -> list[bytes]:
    return [json.dumps({"id": f"p{n % (count - 3)}", **PACKET}).encode() for n in range(count)]


def _zip(entries: dict[str, bytes], **how: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **how) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


class TestSideBySide:
    def test_a_table_gives_the_same(self, tmp_path: Path) -> None:
        report, out = _both(tmp_path, _table(), "csv")
        assert report.rows == ROWS
        assert report.refused > 40
        assert report.subjects == out.count(b"\n")

    @pytest.mark.parametrize("form", ["lines", "list"])
    def test_phenopackets_give_the_same(self, tmp_path: Path, form: str) -> None:
        packets = _packets(6000)
        content = b"\n".join(packets) if form == "lines" else b"[" + b",\n".join(packets) + b"]"
        report, _ = _both(tmp_path, content, "phenopacket")
        assert (report.rows, report.subjects) == (6000, 5997)

    def test_an_archive_of_small_and_large_files_gives_the_same(self, tmp_path: Path) -> None:
        packets = _packets(3003)
        entries = {f"c{n % 5}/{n}.json": packet for n, packet in enumerate(packets[:1000])}
        entries["c1/many.jsonl"] = b"\n".join(packets[1000:3000])
        entries["c1/one.json"] = packets[3000] + b" " * 300_000
        entries |= {f"c2/{n}.json": packets[n] for n in (3001, 3002)}
        report, out = _both(tmp_path, _zip(entries), "zip")
        assert report.rows == 3003
        assert b'"cohort":"c4"' in out

    @pytest.mark.parametrize(
        ("content", "kind", "words"),
        [
            (_table() + b"P1,\xff\n", "csv", "not valid UTF-8"),
            (_table() + b'P1,x"y\n"\n' + _table(), "csv", "quoting is broken"),
            (
                _table() + b'P1,"open\n' + (b"P1," + b"," * 99 + b"\n") * 90_000,
                "csv",
                "never closed",
            ),
            (b"nope,a\nP1,x\n", "csv", "no column 'id'"),
            (b"nope,a\n", "csv", "no column 'id'"),
            (b"\n".join([*_packets(5000), b'{"id": 3}']), "phenopacket", "line 5001"),
            (b"[" + b",".join([*_packets(5000), b"{}"]) + b"]", "phenopacket", "item 5001"),
            (b"[" + b",".join(_packets(5000)) + b",3]", "phenopacket", "item 5001"),
        ],
        ids=str.split("encoding quoting open column header line item list"),
    )
    def test_a_fault_is_the_same(
        self, tmp_path: Path, content: bytes, kind: str, words: str
    ) -> None:
        said = []
        for cores in (1, 2):
            with pytest.raises(Unreadable, match=words) as fault:
                take_in(_task(tmp_path, content, kind, cores=cores), lambda _: None)
            said.append(fault.value.sentence)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "refused"]
        assert said[0] == said[1]

    def test_a_damaged_small_file_is_named(self, tmp_path: Path) -> None:
        whole = _zip({"a/b.json": _packets(9)[0] * 1})
        broken = bytearray(whole)
        broken[45] ^= 0xFF
        with pytest.raises(Unreadable, match=r"a/b\.json"):
            take_in(_task(tmp_path, bytes(broken), "zip"), lambda _: None)


class TestPreview:
    def _preview(self, folder: Path, content: bytes, kind: str, rows: int = 20) -> Preview:
        found = preview(_task(folder, content, kind, rows=rows, refusals=None), lambda _: None)
        assert [path.name for path in folder.iterdir()] == ["in"]
        return found

    def test_shows_the_head_of_a_table(self, tmp_path: Path) -> None:
        content = b"id,a\nP1,1\n,2\nP2,2\nP1,true\n" + b"P3,x\n" * 30 + b'P4,"broken'
        found = self._preview(tmp_path, content, "csv")
        assert [one.subject_id for one in found.subjects] == ["P1", "P2", "P3"]
        assert found.report.rows == 20
        assert found.report.subjects == 3
        assert [one.line for one in found.report.refusals] == [3]
        assert found.report.types == {"a": "string"}

    @pytest.mark.parametrize("form", ["lines", "list", "zip", "packed lines"])
    def test_shows_the_first_phenopackets(self, tmp_path: Path, form: str) -> None:
        packets = _packets(60)
        many = b"\n".join([*packets, b"broken"])
        content = {
            "lines": many,
            "list": b"[" + b",".join(packets) + b"]",
            "zip": _zip({f"c/{n}.json": packet for n, packet in enumerate(packets)}),
            "packed lines": _zip({"c/many.jsonl": many}),
        }[form]
        kind = "phenopacket" if form in {"lines", "list"} else "zip"
        found = self._preview(tmp_path, content, kind)
        assert found.report.rows == 20
        assert found.report.subjects == 20
        assert len(found.subjects) == 10
        assert found.report.types["variantCount"] == "number"
