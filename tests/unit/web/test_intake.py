"""A body is read no faster than it is used."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from quart import Quart, request

from cvf_app.errors import TimedOut
from cvf_app.web import intake
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


class Server:
    """Hands a body over as Hypercorn does: ten pieces at most, and in the end the disconnect."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.queue: asyncio.Queue[dict[str, object]] = asyncio.Queue(10)
        self.status: object = None

    async def hand_over(self) -> None:
        piece = bytes(PIECE)
        for _ in range(self.pieces):
            await self.queue.put({"type": "http.request", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        await self.queue.put({"type": "http.request", "body": b"", "more_body": False})

    async def send(self, message: dict[str, object]) -> None:
        self.status = message.get("status", self.status)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await self.queue.put({"type": "http.disconnect"})


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

    async def test_a_body_that_nobody_wanted_is_taken_to_its_end(
        self, app: Quart, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake, "LINGER_SECONDS", 3600.0)
        server = Server(pieces=10 * ENOUGH // PIECE)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(server.hand_over())
            await app.asgi_app(scope(), server.queue.get, server.send)  # type: ignore[arg-type]  # a plain dictionary stands in for the server's types
        assert server.status == 404

    async def test_a_sender_who_comes_to_no_end_is_left(
        self, app: Quart, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake, "LINGER_SECONDS", 0.01)
        server = Server(pieces=10**9)
        sender = asyncio.create_task(server.hand_over())
        async with asyncio.timeout(60):
            await app.asgi_app(scope(), server.queue.get, server.send)  # type: ignore[arg-type]  # a plain dictionary stands in for the server's types
        assert server.status == 404
        sender.cancel()

    async def test_a_whole_body_is_not_waited_for_again(
        self, app: Quart, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake, "LINGER_SECONDS", 3600.0)
        received: list[str] = []

        @app.post("/")
        async def answer() -> str:
            await request.get_data()
            return ""

        async def receive() -> dict[str, object]:
            if received:
                await asyncio.Event().wait()
            received.append("")
            return {"type": "http.request", "body": b"all", "more_body": False}

        async def send(_: object) -> None:
            """Hear nothing."""

        async with asyncio.timeout(60):
            await app.asgi_app(scope(), receive, send)  # type: ignore[arg-type]  # a plain dictionary stands in for the server's types

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
