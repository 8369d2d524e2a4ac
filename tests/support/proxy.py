"""A small proxy between the app and a server, which breaks the connection in chosen ways.

It runs in the event loop of the test, on a port of its own that stays the same.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from tests.support.services import free_port

_PIECE = 64 * 1024


class Fault(Enum):
    """What the proxy does to what passes."""

    NONE = "passes everything on"
    CUT = "ends all connections and takes no new ones"
    SILENT = "takes connections and passes nothing on"
    SLOW = "passes everything on, after `delay` seconds"
    GARBAGE = "answers with random bytes in place of the server's"


class Proxy:
    """One proxy in front of one server."""

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self.delay = 2.0
        self._target = (host, port)
        self._fault = Fault.NONE
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._listen()

    async def stop(self) -> None:
        await self._close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def set(self, fault: Fault) -> None:
        """Begin with a fault, or end all with `Fault.NONE`; what is open is cut either way."""
        await self._close()
        self._fault = fault
        if fault is not Fault.CUT:
            await self._listen()

    @asynccontextmanager
    async def broken(self, fault: Fault) -> AsyncIterator[None]:
        """Have a fault until the end of the block."""
        await self.set(fault)
        try:
            yield
        finally:
            await self.set(Fault.NONE)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._take(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            self._drop(writer)
            return
        self._open.add(back)
        both = (self._pass(reader, back), self._pass(there, writer, answers=True))
        await asyncio.gather(*both)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                if self._fault is Fault.SILENT:
                    continue
                if self._fault is Fault.SLOW:
                    await asyncio.sleep(self.delay)
                if self._fault is Fault.GARBAGE and answers:
                    piece = os.urandom(len(piece))
                writer.write(piece)
                await writer.drain()
        self._drop(writer)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.transport.abort()
