"""One thin path through everything over HTTP: a source, a file, a policy, a question, an answer."""

from pathlib import Path

import pytest

PACKETS = sorted((Path(__file__).parents[1] / "data" / "phenopackets").rglob("*.json"))


@pytest.fixture(scope="module")
async def source(node):
    source_id = await node.source("firstanswer")
    packets = [path.read_bytes() for path in PACKETS]
    content = b"[" + b",".join(packets) + b"]"
    file_id = await node.upload(source_id, "packets.json", content)
    job = await node.ingest(source_id, file_id)
    assert job["state"] == "complete", job
    return source_id


class TestFirstAnswer:
    async def test_a_person_gets_what_the_policy_allows(self, node, source):
        user_id = await node.person("firstperson")
        assert await node.ask({}, "firstperson") == []
        await node.group("count", [user_id], [source])
        (answer,) = await node.ask({}, "firstperson")
        assert answer["recordCount"] == len(PACKETS)
        assert "resultDetails" not in answer

    async def test_a_coarser_depth_is_honoured(self, node, source):
        user_id = await node.person("modest")
        await node.group("list", [user_id], [source])
        query = {"advanced": {"granularity": "boolean"}}
        (answer,) = await node.ask(query, "modest")
        assert answer["exist"] is True
        assert "recordCount" not in answer
