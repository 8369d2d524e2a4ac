"""Declared attributes on a real node: at ingest, and through changes of their types."""

import csv
import json
import re
from pathlib import Path

import pytest

from tests.support.tables import as_json, as_sheet

DATA = Path(__file__).parents[1] / "data" / "attributes"
DECLARATIONS = json.loads((DATA / "declarations.json").read_text())
PLANTED = json.loads((DATA / "planted.json").read_text())
TABLE = (DATA / "planted.csv").read_bytes()
VCF = DATA.parent / "vcf" / "annotated.vcf"
COLUMNS = TABLE.decode().partition("\n")[0].split(",")[1:]

PLAIN = re.compile(r"0|[1-9][0-9]*")


async def pipelines(node, *columns) -> tuple[str, str]:
    """Make a pair of pipelines that keeps these columns as attributes."""
    directives = [
        {"directiveType": "termSet", "origin": name, "destination": "eav"} for name in columns
    ]
    pair = (
        {"pipelineType": "filePipeline", "pipelineName": "f", "attribute": "id"},
        {"pipelineType": "remapPipeline", "pipelineName": "r", "directives": directives},
    )
    made = [await node.call("POST", "/pipelines/", json=one) for one in pair]
    return tuple(answer.json["pipelineId"] for answer in made)


async def take_in(node, source_id, content, *columns, name="table.csv") -> dict:
    file, remap = await pipelines(node, *columns)
    file_id = await node.upload(source_id, name, content)
    job = await node.ingest(source_id, file_id, pipelineID=file)
    assert job["state"] == "complete", job
    asked = {"dataFileIDs": [file_id], "pipelineID": remap}
    answer = await node.call("POST", f"/sources/{source_id}/remap", json=asked)
    job = await node.ended(answer.json["jobId"])
    assert job["state"] == "complete", job
    return job["result"]


async def change(node, source_id, asked, *, method="PATCH", words="") -> dict:
    """Change declarations and return the result of the job."""
    path = f"/sources/{source_id}/attributes{words}"
    answer = await node.call(method, path, json=asked)
    assert answer.status == 200, answer.body
    job = await node.ended(answer.json["jobId"])
    assert job["state"] == "complete", job
    return job["result"]


def declared(name: str, kind: str, **more) -> dict:
    return {"attributes": [{"name": name, "valueType": {"type": kind, **more}}]}


async def known(node, source_id) -> dict[str, dict]:
    answer = await node.call("GET", f"/sources/{source_id}/attributes")
    assert answer.status == 200, answer.body
    return {one["name"]: one for one in answer.json["attributes"]}


@pytest.fixture
async def see(node, request):
    """Return what looks at all subjects of a source, as one who may."""
    name = "see" + "".join(filter(str.isalnum, request.node.name))[:40]
    user_id = await node.person(name)

    async def look(source_id) -> dict[str, dict]:
        if source_id not in seen:
            await node.group("detailedList", [user_id], [source_id], name=source_id)
            seen.add(source_id)
        answers = await node.ask({"sources": {"sources": [source_id]}}, name)
        found = [one for one in answers if one["sourceId"] == source_id]
        subjects = found[0]["resultDetails"]["subjects"] if found else []
        return {one["subjectId"]: one.get("EAV", {}) for one in subjects}

    seen: set[str] = set()
    return look


@pytest.fixture(scope="module")
async def guarded(node):
    return await node.source("refusing")


class TestIngest:
    async def test_twenty_planted_faults_give_twenty_reports(self, node, see):
        source_id = await node.source("planted")
        assert (await change(node, source_id, DECLARATIONS, method="PUT"))["outcome"] == "changed"
        result = await take_in(node, source_id, TABLE, *COLUMNS)
        assert (result["rows"], result["subjects"], result["refused"]) == (200, 180, 20)
        told = [(one["filename"], one["line"], one["attribute"]) for one in result["refusals"]]
        assert told == [("table.csv", one["line"], one["attribute"]) for one in PLANTED]
        subjects = await see(source_id)
        assert len(subjects) == 180
        assert subjects["P2"]["weight"] == 69.85322498
        assert subjects["P2"]["temperature"] == 37.0
        assert subjects["P3"]["drugs"] == ["ibuprofen", "aspirin", "codeine"]

    @pytest.mark.parametrize("kind", ["xlsx", "json"])
    async def test_other_tables_are_judged_as_csv_is(self, node, see, kind):
        header, *rows = csv.reader(TABLE.decode().splitlines())
        # What looks like a number is one, as a spreadsheet program would have it.
        cells = [[int(one) if PLAIN.fullmatch(one) else one or None for one in row] for row in rows]
        assert any(type(one) is int for row in cells for one in row)
        content = (as_sheet if kind == "xlsx" else as_json)(header, cells)
        source_id = await node.source(f"planted{kind}")
        await change(node, source_id, DECLARATIONS, method="PUT")
        result = await take_in(node, source_id, content, *COLUMNS, name=f"table.{kind}")
        assert (result["rows"], result["subjects"], result["refused"]) == (200, 180, 20)
        # A row of JSON is named by its number, without a header before it.
        before = 1 if kind == "json" else 0
        told = [(one["line"] + before, one["attribute"]) for one in result["refusals"]]
        assert told == [(one["line"], one["attribute"]) for one in PLANTED]
        same = await node.source(f"plantedbeside{kind}")
        await change(node, same, DECLARATIONS, method="PUT")
        await take_in(node, same, TABLE, *COLUMNS)
        assert await see(source_id) == await see(same)

    async def test_a_subject_of_a_vcf_is_refused_with_its_variants(self, node, see):
        source_id = await node.source("plantedvcf")
        asked = declared("variantCount", "integer", maximum=3)
        # Another file brings the age.
        asked["attributes"] += [{"name": "age", "required": True, "valueType": {"type": "integer"}}]
        await change(node, source_id, asked)
        file_id = await node.upload(source_id, "calls.vcf", VCF.read_bytes())
        job = await node.ingest(source_id, file_id)
        assert job["state"] == "complete", job
        result = job["result"]
        assert (result["rows"], result["subjects"], result["refused"]) == (6, 3, 1)
        (refusal,) = result["refusals"]
        assert (refusal["line"], refusal["attribute"]) == (9, "variantCount")
        assert set(await see(source_id)) == {"P2", "P3", "P4"}
        rows = await node.call("GET", f"{result['report']}/refusals")
        assert rows.status == 200
        told = list(csv.reader(rows.body.decode().splitlines()))
        assert [row[:2] for row in told[1:]] == [["calls.vcf, P1", "9"]]

    async def test_what_is_flagged_leaves_its_row(self, node, see):
        source_id = await node.source("flagged")
        await change(node, source_id, DECLARATIONS | {"onMismatch": "flag"}, method="PUT")
        result = await take_in(node, source_id, TABLE, *COLUMNS)
        assert (result["subjects"], result["refused"], result["flagged"]) == (200, 0, 20)
        assert len(result["flags"]) == 20
        assert len(await see(source_id)) == 200


class TestKnown:
    async def test_declared_and_inferred_attributes_stand_together(self, node):
        source_id = await node.source("known")
        content = b"id,n,word,day,many\na,1,red,2024-05-01,x\nb,2.5,blue,2024-05-02,y\n"
        await take_in(node, source_id, content, "n", "word", "day", "many")
        await change(node, source_id, declared("n", "decimal", unit="kg"))
        found = await known(node, source_id)
        assert found["n"]["declared"] is True
        assert found["n"]["valueType"] == {"type": "decimal", "unit": "kg"}
        assert found["word"]["declared"] is False
        assert found["word"]["valueType"] == {"type": "choice", "options": ["blue", "red"]}
        schema = (await node.call("GET", f"/sources/{source_id}/attributes/schema")).json
        assert schema["properties"]["n"]["x-unit"] == "kg"
        assert list(schema["properties"]) == ["n", "day", "many", "word"]

    async def test_only_data_admins_may_see_and_change_them(self, node):
        source_id = await node.source("guarded")
        await node.person("passerby")
        path = f"/sources/{source_id}/attributes"
        for where in (path, f"{path}/schema", f"/sources/{source_id}/eav-index"):
            assert (await node.call("GET", where, "passerby")).status == 403
        assert (await node.call("PUT", path, "passerby", json={})).status == 403

    @pytest.mark.parametrize(
        ("asked", "path"),
        [
            (declared("a", "decimal", unit="furlongs of gold"), "$.attributes[0].valueType.unit"),
            (declared("a", "integer", minimum=2, maximum=1), "$.attributes[0].valueType.maximum"),
            (declared("a", "string", pattern="("), "$.attributes[0].valueType.pattern"),
            (declared("a.b", "string"), "$.attributes[0].name"),
            (declared("a", "choice", options=[]), "$.attributes[0].valueType.options"),
            ({"removed": ["a"]}, "$.removed[0]"),
        ],
    )
    async def test_what_cannot_be_declared_is_refused_at_once(self, node, guarded, asked, path):
        answer = await node.call("PATCH", f"/sources/{guarded}/attributes", json=asked)
        assert (answer.status, answer.json["path"]) == (400, path)


class TestRetyping:
    @pytest.fixture
    async def filled(self, node, request):
        """Return a source with two files that share a subject."""
        source_id = await node.source("".join(filter(str.isalnum, request.node.name))[:60])
        first = b"id,n,m,t\na,1,70,2024-05-01\nb,2,80,2024-05-02\nc,,90,\n"
        second = b"id,n\nc,3\nd,4\n"
        await take_in(node, source_id, first, "n", "m", "t")
        await take_in(node, source_id, second, "n", name="second.csv")
        return source_id

    async def test_there_and_back_again(self, node, filled, see):
        before = await see(filled)
        assert before["a"] == {"n": 1, "m": 70, "t": "2024-05-01"}
        result = await change(node, filled, declared("n", "string"))
        assert result == {"outcome": "changed", "subjects": 5, "changed": 4, "faults": []}
        assert {one["n"] for one in (await see(filled)).values()} == {"1", "2", "3", "4"}
        texts = {"attribute": "n", "relation": "stringIs", "value": "3"}
        numbers = {"attribute": "n", "relation": "numericEquals", "value": 3}
        await change(node, filled, declared("n", "integer", maximum=4))
        assert await see(filled) == before
        alone = {"sources": {"sources": [filled]}}
        user = await node.person("thereandback")
        await node.group("count", [user], [filled], name=f"count {filled}")
        (answer,) = await node.ask({**alone, "eav": [numbers]}, "thereandback")
        assert answer["recordCount"] == 1
        (answer,) = await node.ask({**alone, "eav": [texts]}, "thereandback")
        assert answer["recordCount"] == 0

    async def test_units_are_converted_with_the_declaration(self, node, filled, see):
        await change(node, filled, declared("m", "decimal", unit="kg"))
        assert (await see(filled))["a"]["m"] == 70.0
        await change(node, filled, declared("m", "decimal", unit="g"))
        assert (await see(filled))["a"]["m"] == 70000.0
        await change(node, filled, declared("m", "integer"))
        assert (await see(filled))["a"]["m"] == 70000

    async def test_a_refused_change_leaves_everything_as_it_was(self, node, filled, see):
        await change(node, filled, declared("t", "dateTime"))
        before = await see(filled), await known(node, filled)
        source = (await node.call("GET", f"/sources/{filled}")).json
        both = [
            {"name": "n", "valueType": {"type": "string"}},
            {"name": "t", "valueType": {"type": "integer"}},
            {"name": "m", "valueType": {"type": "integer", "maximum": 75}},
        ]
        result = await change(node, filled, {"onMismatch": "flag", "attributes": both})
        assert result["outcome"] == "refused"
        faults = {one["attribute"]: one for one in result["faults"]}
        assert set(faults) == {"t", "m"}
        assert faults["t"]["count"] == 2
        assert faults["t"]["examples"] == ["2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z"]
        assert "no whole number" in faults["t"]["reasons"][0]
        assert faults["m"]["examples"] == ["80", "90"]
        assert (await see(filled), await known(node, filled)) == before
        assert (await node.call("GET", f"/sources/{filled}")).json == source
        folder = node.folder / "data" / "work" / filled
        assert not folder.exists() or not list(folder.iterdir())

    async def test_a_check_changes_nothing(self, node, filled, see):
        before = await see(filled), await known(node, filled)
        result = await change(node, filled, declared("n", "string"), words="?check=true")
        assert (result["outcome"], result["changed"]) == ("fits", 4)
        assert (await see(filled), await known(node, filled)) == before

    async def test_what_is_required_must_be_there_over_all_files(self, node, filled):
        required = {"name": "n", "required": True, "valueType": {"type": "integer"}}
        result = await change(node, filled, {"attributes": [required]})
        assert result["outcome"] == "changed"
        required = {"name": "m", "required": True, "valueType": {"type": "integer"}}
        result = await change(node, filled, {"attributes": [required]})
        assert (result["outcome"], result["faults"][0]["count"]) == ("refused", 1)
        assert "required" in result["faults"][0]["reasons"][0]

    async def test_a_removed_declaration_leaves_the_values(self, node, filled, see):
        await change(node, filled, declared("n", "string"))
        before = await see(filled)
        await change(node, filled, {"removed": ["n"]})
        assert await see(filled) == before
        assert (await known(node, filled))["n"]["declared"] is False
        await change(node, filled, {"attributes": []}, method="PUT")
        assert all(not one["declared"] for one in (await known(node, filled)).values())
