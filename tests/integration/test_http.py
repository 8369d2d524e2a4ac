"""The guarded client with real names and real sockets."""

import asyncio

import pytest

from cvf_app.backends.http import Http
from cvf_app.errors import PeerFailed, Unavailable

REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n"
HTML = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"
ENDLESS = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
ANSWERS = {"/redirect": REDIRECT, "/html": HTML, "/endless": ENDLESS}


async def answer(reader, writer):
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
    try:
        writer.write(ANSWERS.get(path, b""))
        while path == "/endless":
            writer.write(b" " * 2**20)
            await writer.drain()
        if path == "/silent":
            await asyncio.sleep(5)
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def address():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.fixture
async def http(address):
    client = Http.open(frozenset({address}), total_seconds=2, least_seconds=0)
    yield client
    await client.close()


class TestHttp:
    async def test_redirect_is_answered_and_not_followed(self, http, address):
        assert (await http.send("GET", f"{address}/redirect")).status == 302

    @pytest.mark.parametrize("path", ["/html", "/redirect", "/endless", "/silent", "/nothing"])
    async def test_configured_service_that_answers_badly_is_named(self, http, address, path):
        with pytest.raises(Unavailable, match="The term service"):
            await http.get_json(address + path, service="The term service")

    @pytest.mark.parametrize("host", ["localhost", "0x7f.1", "nobody.invalid"])
    async def test_name_that_leads_inside_fails_like_any_other(self, http, host):
        with pytest.raises(PeerFailed) as caught:
            await http.send("GET", f"https://{host}/")
        assert caught.value.sentence == "The address could not be reached."
