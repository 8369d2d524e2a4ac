"""What stands in front of a Vault: writes down every request, passes it on, or answers instead."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

HOP = {"host", "content-length", "transfer-encoding", "connection", "content-encoding"}


@dataclass
class Front:
    """The front of one Vault."""

    behind: str
    address: str = ""
    instead: Callable[[web.Request], web.StreamResponse | None] = lambda _: None
    hangs: bool = False
    seen: list[tuple[str, str]] = field(default_factory=list)

    def logins(self) -> int:
        """Return how many tried to log in."""
        return sum(path.endswith("/login") for _, path in self.seen)

    def answers(self, status: int, **headers: str) -> None:
        """Answer everything alike from now on."""
        self.instead = lambda _: web.json_response({"errors": []}, status=status, headers=headers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        if self.hangs:
            await asyncio.sleep(30)
        mine = self.instead(request)
        if mine is not None:
            return mine
        headers = {name: text for name, text in request.headers.items() if name.lower() not in HOP}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as client,
            client.request(
                request.method,
                self.behind + request.raw_path,
                data=await request.read(),
                headers=headers,
                allow_redirects=False,
            ) as answer,
        ):
            body = await answer.read()
            kept = {name: text for name, text in answer.headers.items() if name.lower() not in HOP}
            return web.Response(status=answer.status, headers=kept, body=body)


@asynccontextmanager
async def front(behind: str) -> AsyncIterator[Front]:
    """Stand in front of a Vault until the end of the block."""
    made = Front(behind.rstrip("/"))
    app = web.Application(client_max_size=2**25)
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
