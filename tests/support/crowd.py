"""Many listeners at once, as light as they can be, and a worker of its own for them."""

import asyncio
import os
import re
import socket
import struct
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.support.nodes import Node
from tests.support.services import free_port

GRACE_SECONDS = 60
RESET = struct.pack("ii", 1, 0)


@asynccontextmanager
async def worker(node: Node, loop: str = "asyncio"):
    """Serve the node's instance once more, in a process of its own; yields its node and process."""
    port = free_port()
    surroundings = os.environ | {
        "CV3_CONFIG": str(node.folder / "instance_config.json"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = ["-m", "hypercorn", "cvf_app.app:app", "-w", "0", "-b", f"127.0.0.1:{port}"]
    with (node.folder / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *("-k", loop, "--graceful-timeout", str(GRACE_SECONDS)),
            env=surroundings,
            stdout=log,
            stderr=log,
        )
    try:
        made = Node(f"http://127.0.0.1:{port}", node.config, node.issuer, node.client, node.folder)
        made.people = node.people
        async with asyncio.timeout(60):
            while True:
                try:
                    if (await made.call("GET", "/health/ready", None)).status == 200:
                        break
                except aiohttp.ClientConnectionError:
                    assert process.returncode is None, (node.folder / "worker.log").read_text()
                await asyncio.sleep(0.1)
        yield made, process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass
class Member:
    """One raw connection that reads server-sent events."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: bytearray = field(default_factory=bytearray)
    over: bool = False

    async def read(self) -> None:
        try:
            while piece := await self.reader.read(2**16):
                self.heard += piece
        except ConnectionError:
            pass
        self.over = True

    def cut(self) -> None:
        """Cut the connection hard: no farewell, a reset."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


async def join(node: Node, token: str, query: str = "", *, buffer: int = 0) -> Member:
    """Open one; with a small buffer of the socket it is a slow one as long as nobody reads."""
    host, _, port = node.address.removeprefix("http://").partition(":")
    raw = socket.socket()
    if buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=2**16)
    lines = [
        f"GET /updates{query} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: Bearer {token}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    await writer.drain()
    return Member(reader, writer)


async def open_streams(node: Node) -> int:
    """Return the gauge of open streams."""
    answer = await node.call("GET", "/metrics", None, headers={"Authorization": "Bearer scrape"})
    return int(float(re.search(rb"^cv3_updates_open ([0-9.]+)$", answer.body, re.MULTILINE)[1]))


async def dropped(node: Node, reason: str) -> int:
    """Return the counter of dropped streams."""
    answer = await node.call("GET", "/metrics", None, headers={"Authorization": "Bearer scrape"})
    pattern = rb'^cv3_updates_dropped_total\{reason="%s"\} ([0-9.]+)$' % reason.encode()
    found = re.search(pattern, answer.body, re.MULTILINE)
    return int(float(found[1])) if found else 0


async def until(condition, seconds: float = 60) -> None:
    """Wait until a condition holds; it may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.2)
