"""A gate in front of a server: connections pass while it is open, and are refused while it is shut.

So a provider can be down for us alone, at once, and be back as quickly. It counts what passes.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Gate:
    """A loopback port that leads to another one."""

    target: str
    port: int = 0
    passed: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _passing: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Where a client finds what is behind the gate."""
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Let connections pass."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut every connection and refuse new ones."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._passing, return_exceptions=True)
        await server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        task = asyncio.current_task()
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        parts = urlsplit(self.target)
        there, back = await asyncio.open_connection(parts.hostname, parts.port)
        both = {writer, back}
        self._open |= both
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._open -= both
            for each in both:
                each.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
