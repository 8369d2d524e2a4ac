"""How streams of updates are opened, and who is turned away at the door."""

import aiohttp
import pytest

from tests.support.listening import of_thing, socket


@pytest.fixture(autouse=True, scope="module")
async def _ann(node):
    await node.person("ann")


class TestOpening:
    async def test_a_stream_without_a_good_token_is_refused(self, node):
        assert (await node.call("GET", "/updates", None)).status == 401
        bad = {"Authorization": "Bearer nonsense"}
        assert (await node.call("GET", "/updates", None, headers=bad)).status == 401
        token = node.issuer.token("admin")
        assert (await node.call("GET", f"/updates?token={token}", None)).status == 401
        unknown = {"Authorization": f"Bearer {node.issuer.token('nobodyhere')}"}
        assert (await node.call("GET", "/updates", None, headers=unknown)).status == 403
        for headers, status in ((bad, 401), (unknown, 403)):
            assert await refusal(node, headers) == status

    async def test_the_answer_to_head_ends(self, node):
        answer = await node.call("HEAD", "/updates")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")

    async def test_a_token_may_come_as_the_first_word(self, node):
        async with socket(node, "admin", hello={}) as ear:
            source = await node.source("firstword")
            await ear.until(of_thing(source, "insert"))

    @pytest.mark.parametrize("hello", [{"token": "nonsense"}, {"more": 1}, {"token": 5}], ids=str)
    async def test_a_bad_first_word_closes_with_a_reason(self, node, hello):
        async with socket(node, "admin", hello=hello) as ear:
            await ear.until(lambda each: each.over)
        assert ear.code == 1008
        assert ear.notices[-1]["reason"]

    async def test_silence_closes(self, node):
        async with node.client.ws_connect(f"{node.address}/updates/ws") as connection:
            await connection.receive(30)
            assert connection.close_code == 1008

    async def test_a_listener_has_nothing_to_say(self, node):
        headers = {"Authorization": f"Bearer {node.issuer.token('ann')}"}
        async with node.client.ws_connect(f"{node.address}/updates/ws", headers=headers) as ear:
            assert (await ear.receive_json())["event"] == "ready"
            await ear.send_str("hello")
            await ear.receive(10)
            assert ear.close_code == 1008

    async def test_pages_of_other_origins_may_not_open_one(self, node):
        token = {"Authorization": f"Bearer {node.issuer.token('ann')}"}
        for origin in ("https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1"):
            assert await refusal(node, token | {"Origin": origin}) == 403
            assert await refusal(node, {"Origin": origin}) == 403
        async with socket(node, "ann", headers={"Origin": node.address}) as ear:
            assert ear.events() == ["ready"]


async def refusal(node, headers):
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with node.client.ws_connect(f"{node.address}/updates/ws", headers=headers):
            raise AssertionError("it was opened")
    return caught.value.status
