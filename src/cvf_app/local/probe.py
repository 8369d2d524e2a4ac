"""Whether a child answers: its port accepts, its socket says PONG, or its page gives 200."""

import asyncio
import contextlib

from cvf_app.local.children import Child
from cvf_app.local.ports import LOOPBACK

_PATIENCE_SECONDS = 5.0


async def answers(child: Child) -> bool:
    """Say whether the child is ready now."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            if child.socket is not None:
                return b"PONG" in await _ask_socket(child)
            if child.path:
                return await page(child.port, child.path) == "200"
            return await _accepts(child.port)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


async def page(port: int, path: str) -> str:
    """Return the status of a page of a child, or nothing when it gave none."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        ask = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(ask.encode())
        await writer.drain()
        words = (await reader.readline()).split()
        return words[1].decode() if len(words) > 1 else ""
    finally:
        await _close(writer)


async def _ask_socket(child: Child) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(child.socket))
    try:
        writer.write(b"PING\r\n")
        await writer.drain()
        return await reader.readline()
    finally:
        await _close(writer)


async def _accepts(port: int) -> bool:
    _, writer = await asyncio.open_connection(LOOPBACK, port)
    await _close(writer)
    return True


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
