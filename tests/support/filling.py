"""Sources filled with one file each over HTTP, and asked by two people of different depths."""

from typing import Any

from tests.support.nodes import Node

ASKER, LISTER = "expected", "expectedlist"


class Asked:
    """A source with the job that filled it, and whoever may see all of it."""

    def __init__(self, node: Node, source_id: str, result: dict[str, Any]) -> None:
        """Ask this source; `result` is the job's."""
        self.node = node
        self.source_id = source_id
        self.result = result

    async def _ask(self, query, who):
        (found,) = await self.node.ask(query | {"sources": {"sources": [self.source_id]}}, who)
        assert found["sourceId"] == self.source_id
        return found["recordCount"], found["resultDetails"]["subjects"]

    async def count(self, **query) -> int:
        return (await self._ask(query, LISTER))[0]

    async def ids(self, **query) -> list[str]:
        """Return the ids at the depth of a list."""
        count, subjects = await self._ask(query, LISTER)
        assert len(subjects) == count
        assert all(set(one) == {"subjectId"} for one in subjects)
        return [one["subjectId"] for one in subjects]

    async def documents(self, **query) -> list[dict[str, Any]]:
        count, subjects = await self._ask(query, ASKER)
        assert len(subjects) == count
        return subjects


class Filling:
    """Makes sources out of files, by each of the roads."""

    def __init__(self, node) -> None:
        self.node = node
        self.made = 0
        self.users: list[str] = []

    async def begin(self) -> "Filling":
        self.users = [await self.node.person(name) for name in (ASKER, LISTER)]
        return self

    async def take(self, name: str, content: bytes, reading=None, mapping=None) -> Asked:
        """Take one file in as a source of its own; a table needs its pipelines."""
        node = self.node
        self.made += 1
        number = self.made
        source_id = await node.source(f"expected{number}")
        for user, depth in zip(self.users, ("detailedList", "list"), strict=True):
            await node.group(depth, [user], [source_id], f"expected {depth} {number}")
        file_id = await node.upload(source_id, name, content)
        more = {} if reading is None else {"pipelineID": await self._pipeline(reading)}
        job = await node.ingest(source_id, file_id, **more)
        if mapping is not None and job["state"] == "complete":
            asked = {"dataFileIDs": [file_id], "pipelineID": await self._pipeline(mapping)}
            answer = await node.call("POST", f"/sources/{source_id}/remap", json=asked)
            job = await node.ended(answer.json["jobId"])
        assert job["state"] == "complete", job
        assert job["result"]["refused"] == 0
        return Asked(node, source_id, job["result"])

    async def _pipeline(self, given) -> str:
        answer = await self.node.call("POST", "/pipelines/", json=given)
        assert answer.status == 200, answer.body
        return answer.json["pipelineId"]


def reading(**more) -> dict[str, Any]:
    return {"pipelineType": "filePipeline", "pipelineName": "f", **more}


def mapping(*directives: tuple[str, str, list[dict[str, str]]]) -> dict[str, Any]:
    made = [
        {
            "directiveType": "termSet",
            "origin": origin,
            "destination": destination,
            "patternSets": sets,
        }
        for origin, destination, sets in directives
    ]
    return {"pipelineType": "remapPipeline", "pipelineName": "r", "directives": made}
