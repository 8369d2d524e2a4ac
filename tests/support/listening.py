"""Listeners of `/updates` for tests: over server-sent events or a websocket, alike to use."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

CLOSED = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)


@dataclass
class Ear:
    """What somebody was told: updates in `heard`, words about the stream in `notices`."""

    heard: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    over: bool = False
    code: int | None = None
    last_id: str = ""
    task: "asyncio.Task[None] | None" = None

    def take(self, said: dict[str, Any]) -> None:
        self.last_id = said.get("id", self.last_id)
        (self.notices if "event" in said else self.heard).append(said)

    def of(self, *names: str) -> list[tuple[str, str, Any]]:
        """Return what was heard of these interfaces, in short."""
        return [
            (said["interface"], said["operation"], said["data"])
            for said in self.heard
            if said["interface"] in names
        ]

    def events(self) -> list[str]:
        return [said["event"] for said in self.notices]

    async def until(self, condition, seconds: float = 15) -> None:
        """Wait until a condition of this ear holds."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self):  # noqa: ASYNC110 - any condition may be asked
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError((self.heard, self.notices)) from None


def of_thing(thing: str, *operations: str):
    """Return a condition: of a thing (by its id anywhere in the data) all this was heard."""

    def holds(ear: Ear) -> bool:
        found = [said["operation"] for said in ear.heard if thing in json.dumps(said["data"])]
        return set(operations) <= set(found)

    return holds


@asynccontextmanager
async def sse(node, who, query="", *, last_id="", token=None):
    """Listen over server-sent events until the end of the block."""
    ear = Ear()
    headers = {"Authorization": f"Bearer {token or node.issuer.token(who)}"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.get(f"{node.address}/updates{query}", headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        ear.task = asyncio.create_task(_read_events(ear, response))
        try:
            await ear.until(lambda each: each.notices)
            yield ear
        finally:
            ear.task.cancel()
            await asyncio.gather(ear.task, return_exceptions=True)


async def _read_events(ear, response):
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "data":
            ear.take(json.loads(value))
    ear.over = True


@asynccontextmanager
async def socket(  # noqa: PLR0913 - what a listener may send
    node, who, query="", *, hello=None, headers=None, token=None
):
    """Listen over a websocket; with `hello` the token goes in the first message."""
    ear = Ear()
    token = token or node.issuer.token(who)
    sent = headers or {}
    if hello is None:
        sent = {"Authorization": f"Bearer {token}", **sent}
    async with aiohttp.ClientSession() as client:
        address = f"{node.address}/updates/ws{query}"
        async with client.ws_connect(address, headers=sent) as connection:
            if hello is not None:
                await connection.send_json({"token": token, **hello})
            ear.task = asyncio.create_task(_read_socket(ear, connection))
            try:
                await ear.until(lambda each: each.notices or each.over)
                yield ear
            finally:
                ear.task.cancel()
                await asyncio.gather(ear.task, return_exceptions=True)


async def _read_socket(ear, connection):
    while True:
        message = await connection.receive()
        if message.type in CLOSED:
            break
        ear.take(json.loads(message.data))
    ear.code, ear.over = connection.close_code, True
    ear.notices.append({"event": "close", "reason": message.extra})
