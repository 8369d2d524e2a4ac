"""The routes of a query: whose it is, its events, waiting for it, and the history of one's own."""

import asyncio
import json
from uuid import uuid4

import pytest

from tests.support.world import disclosing, seen


@pytest.fixture(scope="module")
async def world(node):
    return await disclosing(node, "query")


class TestQueries:
    async def submitted(self, world, who="queryreader", **headers):
        answer = await world.node.call("POST", "/record/", who, json={}, headers=headers)
        return answer, answer.headers["Location"].rpartition("/")[2]

    @pytest.mark.parametrize("form", ["/record/{}", "/record/history/{}", "/record/{}/events"])
    async def test_anothers_query_and_none_at_all_are_404_alike(self, world, form):
        _, query_id = await self.submitted(world)
        for who in ("querystranger", "queryserver", "admin"):
            theirs, none = [
                await world.node.call("GET", form.format(each), who)
                for each in (query_id, str(uuid4()))
            ]
            assert theirs.status == 404
            assert seen(theirs) == seen(none)

    async def test_events_end_with_done_and_resume_after_the_last_one_seen(self, world):
        _, query_id = await self.submitted(world)
        whole = await self.events(world, query_id)
        numbers = [event["id"] for event in whole[:-1]]
        assert numbers == ["1", "2", "3", "4"]
        assert whole[-1]["event"] == "done"
        assert json.loads(whole[-1]["data"])["status"] == "complete"
        for last in numbers:
            left = await self.events(world, query_id, {"Last-Event-ID": last})
            assert left == whole[int(last) :]
        for strange in ("x", "-1", "9" * 30):
            assert await self.events(world, query_id, {"Last-Event-ID": strange}) == whole

    async def events(self, world, query_id, headers=None):
        async with asyncio.timeout(20):
            answer = await world.node.call(
                "GET", f"/record/{query_id}/events", "queryreader", headers=headers
            )
        assert answer.headers["Content-Type"] == "text/event-stream"
        blocks = answer.body.decode().split("\n\n")
        return [
            dict(line.split(": ", 1) for line in block.splitlines())
            for block in blocks
            if block and not block.startswith(":")
        ]

    async def test_prefer_wait_gives_the_answer_and_without_it_the_id(self, world):
        waited, query_id = await self.submitted(world, Prefer="respond-async, wait=20")
        assert waited.status == 200
        assert waited.headers["Preference-Applied"] == "wait=20"
        kept = await world.node.call("GET", f"/record/history/{query_id}", "queryreader")
        assert waited.json == kept.json
        assert waited.json["status"] == "complete"
        for headers in ({}, {"Prefer": "wait=0"}, {"Prefer": "wait=soon"}):
            at_once, query_id = await self.submitted(world, **headers)
            assert at_once.status == 202
            assert at_once.json == {"queryID": query_id}
            assert "Preference-Applied" not in at_once.headers

    async def test_a_history_is_paged_newest_first_and_one_s_own(self, world):
        await world.node.person("queryhistory")
        made = [(await self.submitted(world, "queryhistory"))[1] for _ in range(5)]
        pages = [await self.page(world, f"limit=2&page={page}") for page in range(4)]
        assert pages == [made[4:2:-1], made[2:0:-1], made[:1], []]
        assert await self.page(world, "") == made[::-1]
        for wrong in ("limit=0", "limit=101", "limit=x", "page=-1", "page=²"):
            answer = await world.node.call("GET", f"/record/history?{wrong}", "queryhistory")
            assert answer.status == 400
            assert answer.json["path"] == f"$.{wrong.partition('=')[0]}"

    async def page(self, world, asked):
        answer = await world.node.call("GET", f"/record/history?{asked}", "queryhistory")
        return [item["query"]["messageAttributes"]["messageId"] for item in answer.json]
