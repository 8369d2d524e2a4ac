"""Whether a child answers: its port accepts, its socket says PONG, or its page gives 200."""

import asyncio
import contextlib
from pathlib import Path

from cvf_app.local.children import Child
from cvf_app.local.ports import LOOPBACK, Address, reachable, written

_PATIENCE_SECONDS = 5.0
_OK = "200"


async def answers(child: Child, private: Path | None = None, path: str = "") -> bool:
    """Say whether the child is ready now: asked on its private socket where it has one.

    `path` asks another page than the one that says that it has started.
    """
    asked = path or child.path
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            if private is not None:
                pipes = await asyncio.open_unix_connection(str(private))
                return (await _page(*pipes, LOOPBACK, asked))[0] == _OK
            if child.socket is not None:
                return b"PONG" in await _ask_socket(child)
            host, port = child.bind or (LOOPBACK, child.port)
            if asked:
                return (await page((host, port), asked))[0] == _OK
            return await _accepts(port)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


async def page(address: Address, path: str) -> tuple[str, bytes]:
    """Return status and body of a page, the status empty when it gave none."""
    host, port = address
    pipes = await asyncio.open_connection(reachable(host), port)
    return await _page(*pipes, written((reachable(host), port)), path)


async def _page(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str
) -> tuple[str, bytes]:
    try:
        # HTTP/1.0, so that the body ends where the connection does.
        ask = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        writer.write(ask.encode())
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].split()
        return (words[1].decode() if len(words) > 1 else ""), body
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
