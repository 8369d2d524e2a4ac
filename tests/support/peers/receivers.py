"""What the peers of log receivers share: a loopback server that is well, away, slow or mad."""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from aiohttp import web

OK, DOWN, HANGING, GARBAGE, REFUSING = "ok", "down", "hanging", "garbage", "refusing"


@dataclass
class Receiver(ABC):
    """A server on loopback; `mood` says how it answers, `faults` what was wrong with a push."""

    mood: str = OK
    address: str = ""
    lines: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    pushes: int = 0
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    _release: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self):
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        self._release.set()
        await self._runner.cleanup()

    def become(self, mood: str) -> None:
        """Answer in another way from now on; requests that hang are let go."""
        self.mood = mood
        self._release.set()
        self._release = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.Response:
        self.pushes += 1
        if self.mood == DOWN:
            return web.Response(status=503, text="no")
        if self.mood == HANGING:
            self.hung.set()
            await self._release.wait()
            return web.Response(status=503, text="late")
        if self.mood == GARBAGE:
            return web.Response(text="<html>Please log in</html>", content_type="text/html")
        if self.mood == REFUSING:
            return web.Response(status=400, text="never")
        status, body = self.take(request, await request.read())
        return web.Response(status=status, body=body)

    @abstractmethod
    def take(self, request: web.Request, body: bytes) -> tuple[int, bytes]:
        """Look at a push; return status and body of the answer."""

    def refuse(self, status: int, fault: str) -> tuple[int, bytes]:
        """Write down what is wrong."""
        self.faults.append(fault)
        return status, fault.encode()
