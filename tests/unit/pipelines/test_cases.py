"""The worked examples: twenty inputs with two pipelines each, and the subjects they give."""

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cvf_app.ids import SourceId
from cvf_app.pipelines.check import check
from cvf_app.pipelines.demographics import settle
from cvf_app.pipelines.expand import Origin, separator, stage
from cvf_app.pipelines.merge import Types, merge
from cvf_app.pipelines.model import FilePipeline, Refusal, RemapPipeline, Unreadable
from cvf_app.pipelines.read import Table
from cvf_app.pipelines.remap import Remap
from cvf_app.pipelines.take_in import Reading, take_in
from cvf_app.subject import Subject, SubjectId
from cvf_app.wire import convert, decode, encode

CASES = json.loads((Path(__file__).parents[2] / "data" / "pipelines" / "cases.json").read_text())[
    "cases"
]


def _run(case: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[Any], dict[str, int]]:
    file = check(convert(case["filePipeline"], FilePipeline))
    remap = Remap(check(convert(case["remapPipeline"], RemapPipeline)))
    refused: list[Refusal] = []
    staged: dict[str, dict[str, list[str]]] = {}
    parts: dict[str, list[Any]] = {}
    unmatched: dict[tuple[str, str, str], None] = {}
    types = Types()
    try:
        table = Table(
            io.BytesIO(case["content"].encode()),
            separator(file),
            refuse=refused.append,
            advance=lambda _: None,
        )
        for row in stage(table, file, Origin(SourceId("s"), case["file"]), refused.append):
            cells = staged.setdefault(row.subject_id, {})
            for name, values in row.cells.items():
                known = cells.setdefault(name, [])
                known.extend(value for value in values if value not in known)
            part = remap.part(row)
            types.see(part.subject.eav)
            parts.setdefault(row.subject_id, []).append(part.subject)
            unmatched.update(dict.fromkeys((row.subject_id, *pair) for pair in part.unmatched))
    except Unreadable as fault:
        return {}, [fault.sentence], [], {}
    subjects = [json.loads(encode(types.typed(merge(found)))) for found in parts.values()]
    counts: dict[str, int] = {}
    for _, origin, _ in unmatched:
        counts[origin] = counts.get(origin, 0) + 1
    return staged, [refusal.reason for refusal in refused], subjects, counts


class TestWorkedExamples:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_the_pipelines_give_the_expected_subjects(self, case: dict[str, Any]) -> None:
        staged, problems, subjects, unmatched = _run(case)
        expected = case["expected"]
        if case.get("idsGenerated"):
            subjects = [{k: v for k, v in one.items() if k != "subjectId"} for one in subjects]
            if "staged" in expected:
                assert list(staged.values()) == list(expected["staged"].values())
        elif "staged" in expected:
            assert staged == expected["staged"]
        assert subjects == expected["subjects"]
        if "unmatched" in expected:
            assert unmatched == expected["unmatched"]
        wanted = expected.get("problems", [])
        assert len(problems) == len(wanted)
        for problem, sentence in zip(problems, wanted, strict=True):
            # The examples count rows; we say lines, and name a column within a whole sentence.
            assert sentence.rpartition(": ")[2].removeprefix("no ") in problem

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_a_whole_file_gives_them_too(self, case: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "in").write_bytes(case["content"].encode())
        task = {
            "path": str(tmp_path / "in"),
            "fileFormat": "tsv" if case["file"].endswith(".tsv") else "csv",
            "filename": case["file"],
            "sourceId": "s",
            "target": str(tmp_path / "out"),
            "filePipeline": case["filePipeline"],
            "remapPipeline": case["remapPipeline"],
        }
        expected = case["expected"]
        try:
            report = take_in(convert(task, Reading), lambda _: None)
        except Unreadable:
            assert expected["subjects"] == []
            return
        lines = (tmp_path / "out").read_bytes().splitlines()
        subjects = [decode(line, Subject) for line in lines]
        if case.get("idsGenerated"):
            subjects = [msgspec.structs.replace(one, subject_id=SubjectId("")) for one in subjects]
        # The examples stand before demographic codes move to fields.
        wanted = [
            settle(convert({"subjectId": "", **one}, Subject)) for one in expected["subjects"]
        ]
        assert subjects == wanted
        assert report.unmatched == expected.get("unmatched", report.unmatched)
