"""A real node in a process of its own, and a client that takes files in and asks it.

The node is that of the integration tests: the real app, on a real database and a real broker,
which are not in its tree of processes. It lives until its standard input ends.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import nodes

CHUNK = 16 * 2**20
_DAY = 24 * 3600
_LOOK_SECONDS = 0.05
_ENDED = ("complete", "error", "cancelled", "lost")


async def serve(folder: Path, mongo: str, redis: str) -> None:
    """Serve a node, say where it is, and go on until standard input ends."""
    async with nodes.node(folder, mongo, redis) as node:
        token = node.issuer.token("admin", exp=int(time.time()) + _DAY)
        user = (await node.call("GET", "/users/")).json[0]["userId"]
        print(json.dumps({"address": node.address, "token": token, "user": user}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def served(program: Path, folder: Path, mongo: str, redis: str) -> AsyncIterator["Served"]:
    """Give a node that `program --serve` serves in a child."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), "--serve", str(folder), mongo, redis),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        told = b""
        while not told.startswith(b'{"address"'):
            told = await child.stdout.readline() if child.stdout else b""
            if not told:
                raise SystemExit("the served instance ended before it was ready")
        where = json.loads(told)
        headers = {"Authorization": f"Bearer {where['token']}"}
        patience = aiohttp.ClientTimeout(total=600)
        # Shorter than the server's own, which would hang up on a request just then.
        connector = aiohttp.TCPConnector(keepalive_timeout=1)
        async with aiohttp.ClientSession(
            where["address"], headers=headers, timeout=patience, connector=connector
        ) as client:
            yield Served(client, child.pid, where["user"])
    finally:
        if child.stdin:
            child.stdin.close()
        await child.wait()


class Served:
    """A node, asked over HTTP."""

    def __init__(self, client: aiohttp.ClientSession, pid: int, user: str) -> None:
        """Ask by this client as this user."""
        self.client = client
        self.pid = pid
        self._user = user

    async def call(self, method: str, path: str, **sent: object) -> Any:  # noqa: ANN401 - its answer
        """Send a request and return the answer."""
        async with self.client.request(method, path, **sent) as answer:  # type: ignore[arg-type]  # options
            body = await answer.read()
            if answer.status >= 400:
                raise SystemExit(f"{method} {path}: {answer.status} {body.decode()[:500]}")
            return json.loads(body)

    async def source(self, name: str) -> str:
        """Make a source that may be asked for counts."""
        new = {"sourceType": "internal", "sourceName": name, "displayName": name}
        made = str((await self.call("POST", "/sources/", json=new))["sourceId"])
        group = {
            "groupName": name,
            "discoveryPolicy": "count",
            "assignedUsers": [self._user],
            "assignedSources": [made],
        }
        await self.call("POST", "/groups/", json=group)
        return made

    async def upload(self, source: str, path: Path) -> str:
        """Upload a file in chunks and return the data file's id."""
        asked = f"/sources/upload-token?sourceId={source}"
        headers = {"X-Upload-Token": (await self.call("GET", asked))["token"]}
        answer: dict[str, Any] = {}
        with path.open("rb") as file:
            total = max(1, -(-os.fstat(file.fileno()).st_size // CHUNK))
            for number in range(1, total + 1):
                form = aiohttp.FormData()
                form.add_field("resumableChunkNumber", str(number))
                form.add_field("resumableTotalChunks", str(total))
                form.add_field("resumableIdentifier", path.name)
                form.add_field("resumableFilename", path.name)
                piece = file.read(CHUNK)
                form.add_field("file", piece, filename=path.name, content_type="text/plain")
                to = f"/sources/{source}/upload"
                answer = await self.call("POST", to, data=form, headers=headers)
        return str(answer["dataFileId"])

    async def job(
        self, source: str, file: str, pipelines: dict[str, str], seen: Callable[[str], None]
    ) -> dict[str, Any]:
        """Take a file in to the end; `seen` hears of the stage that the job is in."""
        asked: dict[str, Any] = {"dataFileIDs": [file], **pipelines}
        job_id = (await self.call("POST", f"/sources/{source}/ingest", json=asked))["jobId"]
        while True:
            job: dict[str, Any] = await self.call("GET", f"/jobs/{job_id}")
            seen(job.get("stage", ""))
            if job["state"] in _ENDED:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        if job["state"] != "complete":
            raise SystemExit(json.dumps(job, indent=1))
        return job

    async def count(self, source: str) -> int:
        """Ask how many subjects a source has."""
        query = {"sources": {"sources": [source]}}
        answer = await self.call("POST", "/record/", json=query, headers={"Prefer": "wait=60"})
        return int(answer["responses"][0]["messageData"][0].get("recordCount", -1))
