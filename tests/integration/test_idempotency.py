"""A request that is sent twice under one key begins one job."""

from pathlib import Path

from tests.support.nodes import Node

PACKET = min((Path(__file__).parents[1] / "data" / "phenopackets").rglob("*.json"))


class TestIngest:
    async def test_the_same_key_returns_the_same_job_and_another_body_is_refused(
        self, node: Node
    ) -> None:
        source_id = await node.source("idempotent")
        file_id = await node.upload(source_id, "one.json", PACKET.read_bytes())
        path, key = f"/sources/{source_id}/ingest", {"Idempotency-Key": "one and only"}
        asked = {"dataFileIDs": [file_id]}
        first = await node.call("POST", path, json=asked, headers=key)
        assert first.status == 200, first.body
        assert (await node.ended(first.json["jobId"]))["state"] == "complete"
        again = await node.call("POST", path, json=asked, headers=key)
        assert again.json == first.json
        index = f"/sources/{source_id}/index"
        other = await node.call("POST", index, headers=key)
        assert other.status == 409
        assert "Idempotency-Key" in other.json["error"]
        without = await node.call("POST", path, json=asked)
        assert without.json["jobId"] != first.json["jobId"]
        await node.ended(without.json["jobId"])

    async def test_a_key_that_is_none_is_refused(self, node: Node) -> None:
        source_id = await node.source("idempotent2")
        for key in ("", "x" * 256):
            answer = await node.call(
                "POST", f"/sources/{source_id}/index", headers={"Idempotency-Key": key}
            )
            assert answer.status == 400
            assert answer.json["path"] == "$.Idempotency-Key"
