"""Files of every format, taken in by a whole node: found, shown, ingested, answering."""

import gzip
from typing import NamedTuple

import pytest

from cvf_app.ids import new_id
from tests.support.faults import failed, refused
from tests.support.tables import as_csv, as_json, as_packed_csv, as_sheet
from tests.unit.pipelines.test_vcf import ANNOTATED

HEADER = ("id", "terms", "score")
ROWS = [
    ("P1", "HP:0001250", 1),
    ("P2", "HP:0001250 HP:0001263", 2.5),
    ("P3", None, 3),
    ("P1", "HP:0001263", None),
]
TERMS = {"patternSetType": "basic", "pattern": r"HP:(\d{7})", "replacement": r"\1"}
DIRECTIVES = [
    {
        "directiveType": "termSet",
        "origin": "terms",
        "destination": "hpo",
        "patternSets": [TERMS],
    },
    {"directiveType": "termSet", "origin": "score", "destination": "eav", "patternSets": []},
]
SHEET = as_sheet(HEADER, ROWS)
TABLES = {
    "plain.csv": (as_csv(HEADER, ROWS), "csv"),
    "packed.csv.gz": (as_packed_csv(HEADER, ROWS), "csv"),
    "sheet.xlsx": (SHEET, "xlsx"),
    "table.json": (as_json(HEADER, ROWS), "json"),
}
VCF = ANNOTATED.read_bytes()
VARIANTS = {"plain.vcf": VCF, "packed.vcf.gz": gzip.compress(VCF), "named.csv": VCF}


@pytest.fixture(scope="module")
async def pipelines(node):
    """The ids of a file pipeline and a remap pipeline."""
    reading = {"pipelineType": "filePipeline", "pipelineName": "read", "attribute": "id"}
    mapping = {"pipelineType": "remapPipeline", "pipelineName": "map", "directives": DIRECTIVES}
    answers = [await node.call("POST", "/pipelines/", json=one) for one in (reading, mapping)]
    return [answer.json["pipelineId"] for answer in answers]


@pytest.fixture
async def source(node):
    """A source that one person may count in."""
    name = f"formats{new_id()[:8]}"
    source_id = await node.source(name)
    await node.group("count", [await node.person(name)], [source_id], name)
    return Source(source_id, name)


class Source(NamedTuple):
    """A source, and who may ask it."""

    source_id: str
    person: str

    async def count(self, node, **query):
        """Return how many subjects answer."""
        (found,) = await node.ask(query, self.person)
        assert found["sourceId"] == self.source_id
        return found["recordCount"]


async def files(node, source_id):
    found = await node.call("GET", f"/sources/{source_id}/datafiles")
    return {one["filename"]: one for one in found.json}


class TestTables:
    @pytest.mark.parametrize("name", TABLES)
    async def test_a_table_is_found_shown_and_answers(self, node, pipelines, source, name):
        content, kind = TABLES[name]
        source_id = source.source_id
        file_id = await node.upload(source_id, name, content)
        assert (await files(node, source_id))[name]["fileFormat"] == kind
        shown = (await node.call("GET", f"/datafiles/{file_id}/sample")).json
        assert [row["id"] for row in shown] == ["P1", "P2", "P3", "P1"]
        sent = {"dataFileIDs": [file_id]}
        refused(node, await node.call("POST", f"/sources/{source_id}/ingest", json=sent), 400)
        reading, mapping = pipelines
        job = await node.ingest(source_id, file_id, pipelineID=reading)
        assert job["state"] == "complete", job
        assert (job["result"]["rows"], job["result"]["refused"]) == (4, 0)
        answer = await node.call(
            "POST", f"/sources/{source_id}/remap", json=sent | {"pipelineID": mapping}
        )
        job = await node.ended(answer.json["jobId"])
        assert job["state"] == "complete", job
        assert job["result"]["subjects"] == 3
        assert (await files(node, source_id))[name]["isProcessed"]
        assert await source.count(node) == 3
        assert await source.count(node, hpo=[{"terms": ["0001250"]}]) == 2
        # Only numbers are greater, so the cells came as numbers.
        above = {"attribute": "score", "relation": "numericGreaterThan", "value": 2}
        assert await source.count(node, eav=[above]) == 2


class TestVariants:
    @pytest.mark.parametrize("name", VARIANTS)
    async def test_a_vcf_needs_no_pipeline(self, node, source, name):
        source_id = source.source_id
        file_id = await node.upload(source_id, name, VARIANTS[name])
        assert (await files(node, source_id))[name]["fileFormat"] == "vcf"
        shown = (await node.call("GET", f"/datafiles/{file_id}/sample")).json
        assert shown[0]["P2"] == "1|1:8"
        job = await node.ingest(source_id, file_id)
        assert job["state"] == "complete", job
        assert (job["result"]["rows"], job["result"]["subjects"]) == (6, 4)
        missense = [{"genes": ["NF1"], "mutation": ["missense"]}]
        assert await source.count(node, variants=missense) == 2
        frameshift = [{"genes": ["PTEN"], "mutation": ["frameshift"]}]
        assert await source.count(node, variants=frameshift) == 1

    async def test_a_broken_vcf_fails_with_its_line(self, node):
        source_id = await node.source("brokenvcf")
        broken = VCF.replace(b"1|1:8", b"1|7:8")
        file_id = await node.upload(source_id, "x.vcf", broken)
        job = await node.ingest(source_id, file_id)
        failed(node, job, "Line 10: 'P2' has allele 7")


class TestNames:
    async def test_what_is_not_what_its_name_says_is_refused(self, node):
        source_id = await node.source("names")
        token = await node.call("GET", f"/sources/upload-token?sourceId={source_id}")
        for name in ("sheet.csv", "sheet.vcf", "sheet.json"):
            answer = await node.piece(source_id, token.json["token"], name, SHEET)
            refused(node, answer, 400)
        assert await files(node, source_id) == {}
