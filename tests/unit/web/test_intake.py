"""A body is read no faster than it is used."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from quart import Quart, request

from cvf_app.errors import TimedOut
from cvf_app.web.intake import ENOUGH, PatientConnection, PatientRequest, incoming, install

PIECE = 64 * 1024


def scope() -> dict[str, object]:
    return {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"here")],
        "http_version": "1.1",
        "extensions": {},
    }


@pytest.fixture
def app() -> Quart:
    made = Quart(__name__)
    install(made)
    return made


class TestBodies:
    async def test_nothing_more_is_received_while_nobody_reads(self, app: Quart) -> None:
        received = 0
        gate = asyncio.Event()
        sizes: list[int] = []

        @app.post("/")
        async def handler() -> str:
            await gate.wait()
            async for piece in request.body:
                sizes.append(len(piece))
                await asyncio.sleep(0)
            return ""

        async def receive() -> dict[str, object]:
            nonlocal received
            if received >= 10 * ENOUGH:
                await asyncio.Event().wait()
            received += PIECE
            over = received >= 10 * ENOUGH
            return {"type": "http.request", "body": bytes(PIECE), "more_body": not over}

        async def send(_: object) -> None:
            gate.set()

        answering = asyncio.create_task(app.asgi_app(scope(), receive, send))  # type: ignore[arg-type]  # a plain dictionary stands in for the server's types
        for _ in range(200):
            await asyncio.sleep(0)
        assert ENOUGH <= received <= ENOUGH + PIECE
        gate.set()
        await asyncio.sleep(0.1)
        answering.cancel()
        assert sum(sizes) == 10 * ENOUGH
        assert max(sizes) <= ENOUGH + PIECE

    async def test_every_request_of_an_app_is_a_patient_one(self, app: Quart) -> None:
        assert app.request_class is PatientRequest
        assert app.asgi_http_class is PatientConnection


class TestIncoming:
    async def test_the_pieces_come_as_they_were_sent(self, app: Quart) -> None:
        async with app.test_request_context("/", method="POST", data=b"content"):
            assert b"".join([piece async for piece in incoming()]) == b"content"

    async def test_a_silent_sender_is_not_waited_for(self, app: Quart) -> None:
        async with app.test_request_context("/", method="POST"):
            request.body_timeout = 0.01  # type: ignore[assignment]  # a fraction is enough here

            async def silent() -> AsyncIterator[bytes]:
                await asyncio.Event().wait()
                yield b""

            request.body = silent()  # type: ignore[assignment]  # it is only walked
            with pytest.raises(TimedOut):
                await anext(incoming())
