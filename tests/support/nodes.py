"""Whole nodes for tests: the real app served on loopback, on a real database and a real broker.

Each has a database and a data folder of its own. People log in at the peer of `peers/issuer.py`.
`node` serves it in this event loop; `kept` as processes of their own behind the real guard, in one
of the `SHAPES`.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from hypercorn.asyncio import serve
from hypercorn.config import Config as ServerConfig
from pymongo import uri_parser

from cvf_app.assembly import create_app, install
from cvf_app.backends.keystore import FileKeyStore, KeyStore
from cvf_app.config import Config, load
from cvf_app.duties import parse
from tests.support.peers.issuer import CLIENT, Issuer
from tests.support.services import free_port
from tests.support.vaults import Share

SOURCES = Path(__file__).resolve().parents[2] / "src"
FINISHED = ("complete", "error", "cancelled", "lost")


@dataclass
class Answer:
    """What the node answered."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Node:
    """A served instance."""

    address: str
    config: Config
    issuer: Issuer
    client: aiohttp.ClientSession
    folder: Path
    people: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, who: str | None = "admin", *, headers=None, **sent
    ) -> Answer:
        """Send a request as a person (by user name), or as nobody."""
        known = {"Authorization": f"Bearer {self.issuer.token(who)}"} if who else {}
        # Where duties are split, some pages are at another address, as behind a proxy.
        found = [each for start, each in self.elsewhere.items() if path.startswith(start)]
        address = found[0] if found else self.address
        request = self.client.request(
            method, address + path, headers=known | (headers or {}), **sent
        )
        async with request as response:
            return Answer(response.status, response.headers, await response.read())

    async def person(self, name: str, role: str = "user") -> str:
        """Give a person an account, a local user and a key; return the user's id."""
        new = {"username": name, "email": f"{name}@example.org", "role": role}
        answer = await self.call("POST", "/users/", json=new)
        assert answer.status == 200, answer.body
        self.people[name] = answer.json["userId"]
        return self.people[name]

    async def source(self, name: str) -> str:
        """Make a source and return its id."""
        answer = await self.call("POST", "/sources/", json=_source(name))
        assert answer.status == 200, answer.body
        return answer.json["sourceId"]

    async def upload(self, source_id: str, name: str, content: bytes) -> str:
        """Upload a file in one piece and return the data file's id."""
        token = await self.call("GET", f"/sources/upload-token?sourceId={source_id}")
        assert token.status == 200, token.body
        answer = await self.piece(source_id, token.json["token"], name, content)
        assert answer.status == 200, answer.body
        return answer.json["dataFileId"]

    async def piece(  # noqa: PLR0913, PLR0917 - what a chunk has to say
        self,
        source_id: str,
        token: str,
        name: str,
        content: bytes,
        number=1,
        total=1,
        identifier="",
    ) -> Answer:
        """Send one chunk of an upload."""
        form = aiohttp.FormData()
        form.add_field("resumableChunkNumber", str(number))
        form.add_field("resumableTotalChunks", str(total))
        form.add_field("resumableIdentifier", identifier or name)
        form.add_field("resumableFilename", name)
        form.add_field("file", content, filename=name, content_type="application/octet-stream")
        headers = {"X-Upload-Token": token}
        return await self.call("POST", f"/sources/{source_id}/upload", data=form, headers=headers)

    async def ended(self, job_id: str, seconds: float = 180) -> dict[str, Any]:
        """Return a job when it has ended; ask less and less often, as jobs get idle time only."""
        pause = 0.1
        async with asyncio.timeout(seconds):
            while True:
                job = (await self.call("GET", f"/jobs/{job_id}")).json
                if job["state"] in FINISHED:
                    return job
                await asyncio.sleep(pause)
                pause = min(1.2 * pause, 1.0)

    async def ingest(self, source_id: str, *data_file_ids: str, **more) -> dict[str, Any]:
        """Ingest files and return the ended job."""
        asked = {"dataFileIDs": list(data_file_ids)} | more
        answer = await self.call("POST", f"/sources/{source_id}/ingest", json=asked)
        assert answer.status == 200, answer.body
        return await self.ended(answer.json["jobId"])

    async def group(self, policy: str, users: list[str], sources: list[str], name="group") -> str:
        """Make a discovery group and return its id."""
        new = {
            "groupName": name,
            "discoveryPolicy": policy,
            "assignedUsers": users,
            "assignedSources": sources,
        }
        answer = await self.call("POST", "/groups/", json=new)
        assert answer.status == 200, answer.body
        return answer.json["groupId"]

    async def ask(self, query: dict[str, Any], who: str = "admin") -> list[dict[str, Any]]:
        """Ask a record query and return the answers of all sources."""
        headers = {"Prefer": "wait=30"}
        answer = await self.call("POST", "/record/", who, json=query, headers=headers)
        assert answer.status == 200, answer.body
        return [one for response in answer.json["responses"] for one in response["messageData"]]


@dataclass(frozen=True)
class Shape:
    """How an instance is divided into processes: `CV3_WORKERS`, and the words of `start`."""

    workers: int = 1
    duties: tuple[str, ...] = ()


SHAPES = {
    "one": Shape(),
    "three": Shape(workers=3),
    "split": Shape(
        duties=(
            "admin,exporter",
            "query",
            "record-compiler",
            "database-manager",
            "scheduler",
        )
    ),
}


@dataclass
class Kept(Node):
    """A served instance whose processes a guard keeps; `operate` is its command line."""

    environ: dict[str, str] = field(default_factory=dict)

    async def operate(self, *words: str, expect: int | None = 0, **environ: str) -> str:
        """Run a word of the command line from a folder that has nothing to do with it."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cvf_app.local", *words),
            env=self.environ | environ,
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
        if expect is not None:
            assert process.returncode == expect, told.decode()
        return told.decode()

    async def status(self) -> dict[str, Any]:
        """Return what the guard says."""
        return json.loads(await self.operate("status", "--json", expect=None))

    async def pids(self) -> dict[str, int]:
        """Return the process of each part that has one."""
        children = (await self.status())["children"]
        return {each["name"]: each["process"]["pid"] for each in children if "process" in each}


@asynccontextmanager
async def kept(
    folder: Path, mongo_url: str, redis_url: str, shape: Shape = SHAPES["one"], **environ: str
) -> AsyncIterator[Kept]:
    """Start a new instance as processes behind the guard, as `CafeVariome3.sh start` does."""
    async with installed(folder, mongo_url, redis_url) as (config, issuer):
        port = free_port()
        around = {
            name: value for name, value in os.environ.items() if not name.startswith("CV3_")
        } | {
            "PYTHONPATH": str(SOURCES),
            "CV3_CONFIG": str(folder / "instance_config.json"),
            "CV3_APP_PATH": str(folder),
            "CV3_BIND": f"127.0.0.1:{port}",
            "CV3_BIND_QUERY": f"127.0.0.1:{free_port()}",
            "CV3_WORKERS": str(shape.workers),
            **environ,
        }
        async with _client() as client:
            made = Kept(f"http://127.0.0.1:{port}", config, issuer, client, folder, environ=around)
            if "query" in shape.duties:
                made.elsewhere["/record"] = f"http://{around['CV3_BIND_QUERY']}"
            try:
                await made.operate("start", *shape.duties)
                yield made
            finally:
                await made.operate("stop")


def _source(name: str) -> dict[str, Any]:
    return {"sourceType": "internal", "sourceName": name, "displayName": name}


@asynccontextmanager
async def node(  # noqa: PLR0913, PLR0917 - where the servers are, and what differs
    folder: Path,
    mongo_url: str,
    redis_url: str,
    duties: str = "",
    more: dict[str, Any] | None = None,
    vault: Share | None = None,
) -> AsyncIterator[Node]:
    """Serve a new instance in this event loop until the end of the block.

    `more` are further blocks of its configuration. With a share of a Vault its login must stand
    in the environment.
    """
    async with (
        installed(folder, mongo_url, redis_url, more, vault) as (config, issuer),
        served(config, duties, issuer, folder) as made,
    ):
        yield made


@asynccontextmanager
async def installed(
    folder: Path,
    mongo_url: str,
    redis_url: str,
    more: dict[str, Any] | None = None,
    vault: Share | None = None,
) -> AsyncIterator[tuple[Config, Issuer]]:
    """Make a new instance that nobody serves yet, and an identity provider for it."""
    issuer = Issuer()
    await issuer.start()
    try:
        blocks = {"Secrets": {"Provider": "vault"}, "Vault": vault.block} if vault else {}
        config = _config(folder, mongo_url, redis_url, issuer, blocks | (more or {}))
        keys: KeyStore = vault.open() if vault else FileKeyStore.open(folder / "keys", create=True)
        await keys.write_secret("identity/scim", {"client_id": "scim", "client_secret": "x"})
        await keys.close()
        await install(config, username="admin", subject="admin", email="admin@example.org")
        yield config, issuer
    finally:
        await issuer.stop()


@asynccontextmanager
async def beside(
    first: Node, duties: str = "", config: Config | None = None
) -> AsyncIterator[Node]:
    """Serve another app of the same instance, as a second process would."""
    async with served(config or first.config, duties, first.issuer, first.folder) as made:
        made.people = first.people
        yield made


@asynccontextmanager
async def served(config: Config, duties: str, issuer: Issuer, folder: Path) -> AsyncIterator[Node]:
    port = free_port()
    server = ServerConfig()
    server.bind = [f"127.0.0.1:{port}"]
    server.accesslog = server.errorlog = None
    stop = asyncio.Event()
    app = create_app(config, parse(duties))
    serving = asyncio.create_task(serve(app, server, shutdown_trigger=stop.wait))
    try:
        async with _client() as client:
            made = Node(f"http://127.0.0.1:{port}", config, issuer, client, folder)
            await _ready(made, serving)
            yield made
    finally:
        stop.set()
        await serving


def _client() -> aiohttp.ClientSession:
    # Hypercorn closes what was quiet for five seconds; what we send in that moment would be lost.
    connector = aiohttp.TCPConnector(keepalive_timeout=2)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120))


async def _ready(made: Node, serving: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(30):
        while True:
            if serving.done():
                serving.result()
            try:
                answer = await made.call("GET", "/health/ready", None)
                if answer.status == 200:
                    return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


def _config(
    folder: Path, mongo_url: str, redis_url: str, issuer: Issuer, more: dict[str, Any]
) -> Config:
    file = folder / "instance_config.json"
    blocks = {
        "Mode": "local",
        **where(mongo_url, redis_url),
        "Data": {"UploadPath": str(folder / "data")},
        "Identity": {"Provider": "oidc", "Issuer": issuer.address, "Client": CLIENT},
        "Secrets": {"Provider": "file", "Path": str(folder / "keys")},
        "Metrics": {"Prometheus": {"Enabled": True, "Key": "scrape"}},
    }
    file.write_text(json.dumps(blocks | more))
    return load(file)


def where(mongo_url: str, redis_url: str) -> dict[str, Any]:
    """Return the blocks of a configuration that name these servers, and a new database."""
    found = uri_parser.parse_uri(mongo_url)
    host, port = found["nodelist"][0]
    redis = (
        {"Path": redis_url.removeprefix("unix://").partition("?")[0]}
        if redis_url.startswith("unix://")
        else _host_and_port(redis_url)
    )
    return {
        "MongoDB": {
            "Host": host,
            "Port": port,
            "User": found["username"] or "",
            "Password": found["password"] or "",
            "Database": f"cv3_test_{uuid4().hex[:12]}",
        },
        "Redis": redis,
    }


def _host_and_port(redis_url: str) -> dict[str, Any]:
    host, _, port = redis_url.removeprefix("redis://").partition("/")[0].rpartition(":")
    return {"Host": host, "Port": port}
