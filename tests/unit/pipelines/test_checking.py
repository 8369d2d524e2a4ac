"""Declared attributes at ingest: what is refused, what is flagged, what comes through."""

import json
from pathlib import Path

import pytest

from cvf_app.ids import SourceId
from cvf_app.pipelines.checking import Checker, fed_by
from cvf_app.pipelines.model import RemapPipeline
from cvf_app.pipelines.take_in import Reading, Report, take_in
from cvf_app.sources.model import Declarations
from cvf_app.subject import Subject
from cvf_app.wire import convert, decode

DATA = Path(__file__).parents[2] / "data" / "attributes"
PLANTED = json.loads((DATA / "planted.json").read_text())
DECLARED = json.loads((DATA / "declarations.json").read_text())["attributes"]
COLUMNS = (DATA / "planted.csv").read_text().partition("\n")[0].split(",")[1:]


def pipeline(*columns: str) -> dict:
    directives = [
        {"directiveType": "termSet", "origin": name, "destination": "eav"} for name in columns
    ]
    return {"pipelineType": "remapPipeline", "pipelineName": "r", "directives": directives}


def take(folder: Path, path: Path, kind: str, **more) -> tuple[Report, dict[str, Subject]]:
    task = {
        "path": str(path),
        "fileFormat": kind,
        "filename": path.name,
        "sourceId": SourceId("s"),
        "target": str(folder / "out"),
        **more,
    }
    if kind == "csv":
        file = {"pipelineType": "filePipeline", "pipelineName": "f", "attribute": "id"}
        task = {"filePipeline": file, "remapPipeline": pipeline(*COLUMNS), **task}
    report = take_in(convert(task, Reading), lambda _: None)
    lines = (folder / "out").read_bytes().splitlines()
    return report, {one.subject_id: one for one in (decode(line, Subject) for line in lines)}


class TestPlantedFaults:
    def test_twenty_faults_give_twenty_reports_and_no_more(self, tmp_path: Path) -> None:
        report, subjects = take(tmp_path, DATA / "planted.csv", "csv", attributes=DECLARED)
        assert (report.rows, report.refused, report.flagged) == (200, 20, 0)
        told = [(each.line, each.attribute) for each in report.refusals]
        assert told == [(each["line"], each["attribute"]) for each in PLANTED]
        for each, planted in zip(report.refusals, PLANTED, strict=True):
            assert each.reason.startswith(f"{planted['attribute']}: ")
            assert planted["value"][:4] in each.reason
        assert len(subjects) == 180
        assert not {f"P{each['line'] - 2}" for each in PLANTED} & set(subjects)

    @pytest.mark.parametrize("mismatch", ["refuse", "flag"])
    def test_several_cores_find_the_same(self, tmp_path: Path, mismatch: str) -> None:
        more = {"attributes": DECLARED, "mismatch": mismatch}
        alone = take(tmp_path, DATA / "planted.csv", "csv", **more)
        together = take(tmp_path, DATA / "planted.csv", "csv", cores=2, sharedFrom=1, **more)
        assert together == alone

    def test_flagged_values_are_left_out_and_their_rows_stay(self, tmp_path: Path) -> None:
        more = {"attributes": DECLARED, "mismatch": "flag"}
        report, subjects = take(tmp_path, DATA / "planted.csv", "csv", **more)
        assert (report.refused, report.flagged, len(subjects)) == (0, 20, 200)
        told = [(each.line, each.attribute) for each in report.flags]
        assert told == [(each["line"], each["attribute"]) for each in PLANTED]
        for each in PLANTED:
            eav = subjects[f"P{each['line'] - 2}"].eav
            assert each["attribute"] not in eav
            assert "code" in eav or each["attribute"] == "code"

    def test_what_comes_through_is_typed_and_in_the_declared_unit(self, tmp_path: Path) -> None:
        _, subjects = take(tmp_path, DATA / "planted.csv", "csv", attributes=DECLARED)
        assert subjects["P2"].eav == {
            "age": 22,
            "weight": 69.85322498,
            "temperature": 37.0,
            "consent": True,
            "blood": "AB",
            "seen": "2024-05-01T13:30:05Z",
            "code": "AB2",
            "colour": "true",
        }
        assert subjects["P3"].eav["drugs"] == ("ibuprofen", "aspirin", "codeine")
        assert subjects["P3"].eav["seen"] == "2024-05-01T11:30:00Z"
        assert subjects["P1"].eav["drugs"] == ("aspirin", "codeine")
        assert subjects["P1"].eav["consent"] is False

    def test_what_is_not_declared_keeps_the_type_of_its_file(self, tmp_path: Path) -> None:
        _, subjects = take(tmp_path, DATA / "planted.csv", "csv")
        assert subjects["P0"].eav["age"] == "20"
        assert subjects["P1"].eav["colour"] == "7"

    def test_a_declared_type_wins_over_the_file(self, tmp_path: Path) -> None:
        declared = [{"name": "n", "valueType": {"type": "string"}}]
        file = tmp_path / "n.csv"
        file.write_text("id,n,m\na,1,1\nb,2,2\n")
        more = {"attributes": declared, "remapPipeline": pipeline("n", "m")}
        _, subjects = take(tmp_path, file, "csv", **more)
        assert subjects["a"].eav == {"n": "1", "m": 1}

    def test_two_faults_of_one_row_are_one_refused_row(self, tmp_path: Path) -> None:
        file = tmp_path / "n.csv"
        file.write_text("id,age,weight\na,x,y\n")
        more = {"attributes": DECLARED, "remapPipeline": pipeline("age", "weight")}
        report, subjects = take(tmp_path, file, "csv", **more)
        assert (report.refused, len(report.refusals), subjects) == (1, 2, {})

    def test_a_row_that_becomes_many_subjects_is_at_fault_once(self, tmp_path: Path) -> None:
        file = tmp_path / "n.csv"
        file.write_text("orpha,cases,age\n558,3,x\n558,2,5\n")
        expansion = {
            "pipelineType": "filePipeline",
            "pipelineName": "f",
            "columns": ["cases"],
            "subjectIdLocation": "assignByExpansion",
            "expansionPolicy": "individual",
        }
        more = {
            "attributes": DECLARED,
            "filePipeline": expansion,
            "remapPipeline": pipeline("age"),
        }
        report, subjects = take(tmp_path, file, "csv", **more)
        assert (report.refused, [each.line for each in report.refusals]) == (1, [2])
        assert len(subjects) == 2


def packet(number: int, value: float, unit: dict) -> dict:
    return {
        "id": f"p{number}",
        "subject": {"id": "s"},
        "measurements": [
            {
                "assay": {"id": "LOINC:29463-7", "label": "weight"},
                "value": {"quantity": {"unit": unit, "value": value}},
            }
        ],
        "metaData": {"phenopacketSchemaVersion": "2.0"},
    }


class TestPhenopackets:
    def test_numbers_are_converted_from_the_unit_that_they_bring(self, tmp_path: Path) -> None:
        units = [
            {"id": "UCUM:kg", "label": "kilogram"},
            {"id": "UCUM:[lb_av]", "label": "pound"},
            {"label": "g"},
            {"id": "UCUM:Cel", "label": "degree Celsius"},
        ]
        values = [70, 154, 70000, 37]
        packets = [packet(n, *pair) for n, pair in enumerate(zip(values, units, strict=True))]
        file = tmp_path / "packets.json"
        file.write_text(json.dumps(packets))
        declared = [
            {"name": "LOINC_29463-7", "valueType": {"type": "decimal", "unit": "kg", "maximum": 99}}
        ]
        report, subjects = take(tmp_path, file, "phenopacket", attributes=declared)
        assert [one.eav["LOINC_29463-7"] for one in subjects.values()] == [70.0, 69.85322498, 70.0]
        (refused,) = report.refusals
        assert (refused.line, refused.attribute) == (4, "LOINC_29463-7")
        assert refused.place == "packets.json, item 4"
        assert "Cel" in refused.reason


class TestRequired:
    @pytest.mark.parametrize(
        ("given", "fed"),
        [
            ([], {"a"}),
            ([{"patternSetType": "basic", "pattern": ".+", "replacement": "x"}], {"a"}),
            ([("b",)], {"b"}),
            ([(r"\1",)], set()),
            ([("b",), {"patternSetType": "basic", "pattern": "x", "replacement": "x"}], {"a", "b"}),
        ],
    )
    def test_what_a_pipeline_feeds_is_told_by_its_patterns(self, given, fed) -> None:
        sets = [
            {
                "patternSetType": "qualifier",
                "pattern": "(.)(.)",
                "qualifierReplacement": one[0],
                "valueReplacement": r"\2",
            }
            if isinstance(one, tuple)
            else one
            for one in given
        ]
        whole = pipeline("a")
        whole["directives"][0]["patternSets"] = sets
        read = convert(whole, RemapPipeline)
        assert fed_by(read, ("id", "a")) == frozenset(fed)
        assert fed_by(read, ("id",)) == frozenset()

    def test_what_a_file_does_not_feed_is_not_asked_of_its_rows(self) -> None:
        declared = convert({"attributes": DECLARED}, Declarations).attributes
        assert Checker(declared, fed=frozenset()).checked({})[1] == ()
        (fault,) = Checker(declared).checked({})[1]
        assert fault.attribute == "age"
