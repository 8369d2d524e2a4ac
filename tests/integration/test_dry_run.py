"""A dry run shows what a data file would give, and leaves everything as it was."""

import json

import pytest

from tests.unit.pipelines.test_take_in import FILE, REMAP
from tests.unit.pipelines.test_vcf import ANNOTATED, to_bcf

TABLE = b"id,a\nP1,7\n,8\nP2,9\nP1,x\n"


@pytest.fixture(scope="module")
async def source_id(node):
    return await node.source("trial")


@pytest.fixture(scope="module")
async def table(node, source_id):
    return await node.upload(source_id, "trial.csv", TABLE)


async def _try(node, source_id, **asked):
    return await node.call("POST", f"/sources/{source_id}/dry-run", json=asked)


async def _kept(node, pipeline):
    answer = await node.call("POST", "/pipelines/", json=pipeline)
    assert answer.status == 200, answer.body
    return answer.json["pipelineId"]


class TestDryRun:
    async def test_shows_subjects_and_report_and_keeps_nothing(
        self, node, source_id, table
    ) -> None:
        before = (await node.call("GET", f"/sources/{source_id}")).json
        files = {path for path in node.folder.rglob("*") if path.is_file()}
        answer = await _try(
            node, source_id, dataFileID=table, filePipeline=FILE, remapPipeline=REMAP
        )
        assert answer.status == 200, answer.body
        assert answer.json["subjects"] == [
            {"subjectId": "P1", "EAV": {"a": ["7", "x"]}},
            {"subjectId": "P2", "EAV": {"a": "9"}},
        ]
        report = answer.json["report"]
        assert (report["rows"], report["subjects"], report["refused"]) == (4, 2, 1)
        assert report["refusals"] == [{"line": 3, "reason": "no subject id"}]
        assert report["types"] == {"a": "string"}
        assert (await node.call("GET", f"/sources/{source_id}")).json == before
        new = {path for path in node.folder.rglob("*") if path.is_file()} - files
        assert [path for path in new if "log" not in path.name] == []

    async def test_takes_kept_pipelines_and_so_many_rows(self, node, source_id, table) -> None:
        asked = {
            "dataFileID": table,
            "pipelineID": await _kept(node, FILE),
            "remapPipelineID": await _kept(node, REMAP),
            "rows": 1,
        }
        answer = await _try(node, source_id, **asked)
        assert answer.json["subjects"] == [{"subjectId": "P1", "EAV": {"a": 7}}]
        assert answer.json["report"]["types"] == {"a": "number"}

    async def test_shows_phenopackets_without_pipelines(self, node, source_id) -> None:
        packet = json.dumps({"id": "p", "subject": {"sex": "MALE"}}).encode()
        file = await node.upload(source_id, "trial.json", packet)
        answer = await _try(node, source_id, dataFileID=file)
        assert [one["sex"] for one in answer.json["subjects"]] == ["male"]

    @pytest.mark.parametrize("kind", ["vcf", "bcf"])
    async def test_shows_the_first_sites_of_variants_without_pipelines(
        self, node, source_id, tmp_path, kind
    ) -> None:
        path = ANNOTATED
        if kind == "bcf":
            path = tmp_path / "small.bcf"
            to_bcf(ANNOTATED, path)
        file = await node.upload(source_id, f"trial.{kind}", path.read_bytes())
        whole = (await _try(node, source_id, dataFileID=file)).json
        assert (whole["report"]["rows"], whole["report"]["subjects"]) == (6, 4)
        assert whole["report"]["types"] == {"variantCount": "number"}
        assert [one["EAV"]["variantCount"] for one in whole["subjects"]] == [5, 3, 1, 0]
        head = (await _try(node, source_id, dataFileID=file, rows=1)).json
        assert (head["report"]["rows"], head["report"]["subjects"]) == (1, 4)
        assert head["subjects"][1] == {
            "subjectId": "P2",
            "VARIANT": [{"gene": "NF1", "mutation": "missense", "af": 0.25, "ac": 2}],
            "EAV": {"variantCount": 1},
        }

    async def test_a_fault_of_the_content_is_told(self, node, source_id) -> None:
        file = await node.upload(source_id, "broken.csv", b'id,a\nP1,"x\n')
        answer = await _try(node, source_id, dataFileID=file, filePipeline=FILE)
        assert answer.status == 400
        assert "Line 2" in answer.body.decode()

    @pytest.mark.parametrize(
        ("change", "path"),
        [
            ({"dataFileID": "nonsense"}, "$.dataFileID"),
            ({"pipelineID": "nonsense"}, "$.pipelineID"),
            ({"remapPipelineID": "nonsense"}, "$.remapPipelineID"),
            ({"pipelineID": "x", "filePipeline": FILE}, "$.filePipeline"),
            ({"filePipeline": FILE | {"attribute": ""}}, "$.filePipeline.attribute"),
            ({"filePipeline": FILE, "rows": 0}, "$.rows"),
            ({"filePipeline": FILE, "rows": 10_001}, "$.rows"),
        ],
    )
    async def test_what_does_not_fit_names_its_member(
        self, node, source_id, table, change, path
    ) -> None:
        answer = await _try(node, source_id, **({"dataFileID": table} | change))
        assert answer.status == 400
        assert path in answer.body.decode()

    async def test_a_file_of_another_source_is_like_none(self, node, table) -> None:
        other = await node.source("othertrial")
        first = await _try(node, other, dataFileID=table, filePipeline=FILE)
        second = await _try(node, other, dataFileID="nonsense", filePipeline=FILE)
        said = [{**one.json, "traceId": ""} for one in (first, second)]
        assert first.status == second.status
        assert said[0] == said[1]
        assert (await _try(node, "nonsense", dataFileID=table)).status == 404

    async def test_a_table_needs_a_file_pipeline(self, node, source_id, table) -> None:
        assert (await _try(node, source_id, dataFileID=table)).status == 409
