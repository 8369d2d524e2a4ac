"""Services that die under load, and what was promised for it (security design, 5.1).

A whole node answers twenty requests a second while a server is killed and started again. Statuses
are as promised, nothing that was acknowledged is lost, and nobody restarts the node.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace

import aiohttp
import pytest

from tests.support import nodes, servers, services
from tests.support.nodes import Answer, Node
from tests.support.outages import PROMISED_SECONDS, outage
from tests.support.proxy import Fault, Proxy
from tests.support.vaults import share

# The waits are what is tested: an outage has to last longer than the app's own time limits.
LONG = pytest.mark.timeout(240)


@dataclass
class Stage:
    """A node, its servers, and what it acknowledged."""

    node: Node
    mongodb: servers.Running
    redis: servers.Running
    vault: servers.Vault
    proxies: dict[str, Proxy]
    source: str
    acknowledged: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def live(self, _: int) -> Answer:
        return await self.node.call("GET", "/health/live", None)

    async def read(self, _: int) -> Answer:
        return await self.node.call("GET", f"/sources/{self.source}")

    async def write(self, _: int) -> Answer:
        """Make a source and keep its name when it was acknowledged."""
        name = f"load{next(self.numbers)}"
        new = {"sourceType": "internal", "sourceName": name, "displayName": name}
        answer = await self.node.call("POST", "/sources/", json=new)
        if answer.status == 200:
            self.acknowledged.add(name)
        return answer

    async def ask(self, _: int) -> Answer:
        """Ask a question and wait for its answer."""
        headers = {"Prefer": "wait=20"}
        return await self.node.call("POST", "/record/", json={}, headers=headers)

    @property
    def kinds(self) -> list[tuple[str, Callable[[int], Awaitable[Answer]]]]:
        return [("live", self.live), ("read", self.read), ("write", self.write), ("ask", self.ask)]

    async def kept(self) -> set[str]:
        """Return the names of all sources there are."""
        found = await self.node.call("GET", "/sources/")
        return {source["sourceName"] for source in found.json}


@pytest.fixture(scope="module")
async def stage(tmp_path_factory):
    try:
        with (
            servers.running("mongodb", own=True) as mongodb,
            servers.running("redis", own=True) as redis,
            servers.running("vault", own=True) as vault,
            pytest.MonkeyPatch.context() as environment,
        ):
            ours = share(vault, tmp_path_factory.mktemp("vault"))
            environment.setenv("VAULT_ROLE_ID", ours.login.role_id)
            environment.setenv("VAULT_SECRET_ID", ours.login.secret_id)
            proxies = {
                "mongodb": Proxy("127.0.0.1", mongodb.port),
                "redis": Proxy("127.0.0.1", redis.port),
            }
            for proxy in proxies.values():
                await proxy.start()
            mongo_url = f"mongodb://127.0.0.1:{proxies['mongodb'].port}/"
            redis_url = f"redis://127.0.0.1:{proxies['redis'].port}/0"
            try:
                async with nodes.node(
                    tmp_path_factory.mktemp("node"), mongo_url, redis_url, vault=ours
                ) as node:
                    # A connection that is kept open may be closed by the server just when it is
                    # used again, which would be counted as a fault here.
                    connector = aiohttp.TCPConnector(force_close=True)
                    async with aiohttp.ClientSession(connector=connector) as client:
                        alone = replace(node, client=client)
                        source = await alone.source("there")
                        yield Stage(alone, mongodb, redis, vault, proxies, source)
            finally:
                for proxy in proxies.values():
                    await proxy.stop()
    except services.Missing as reason:
        pytest.skip(str(reason))


@LONG
class TestMongoDB:
    async def test_killed_under_load_it_costs_time_and_nothing_else(self, stage):
        parts = await outage(
            stage.node,
            stage.kinds,
            lambda: asyncio.to_thread(stage.mongodb.kill),
            lambda: asyncio.to_thread(stage.mongodb.start),
        )
        assert all(parts.before(kind) == {200} for kind, _ in stage.kinds)
        assert {one.status for one in parts.during("live")} == {200}
        for kind in ("read", "write", "ask"):
            came = parts.during(kind)
            wrong = [(one.sent - parts.broken, one) for one in came if one.status != 503]
            assert not wrong
            assert all(one.retry_after for one in came)
            assert max(one.seconds for one in came) < PROMISED_SECONDS
        assert all(parts.after(kind) == {200} for kind, _ in stage.kinds)
        assert stage.acknowledged <= await stage.kept()

    async def test_a_connection_that_is_cut_costs_time_and_nothing_else(self, stage):
        proxy = stage.proxies["mongodb"]
        parts = await outage(
            stage.node, stage.kinds, lambda: proxy.set(Fault.CUT), lambda: proxy.set(Fault.NONE)
        )
        assert {one.status for one in parts.during("live")} == {200}
        assert {one.status for one in parts.during("read")} == {503}
        assert all(parts.after(kind) == {200} for kind, _ in stage.kinds)
        assert stage.acknowledged <= await stage.kept()


@LONG
class TestRedis:
    async def test_killed_under_load_local_questions_and_writes_go_on(self, stage):
        parts = await outage(
            stage.node,
            stage.kinds,
            lambda: asyncio.to_thread(stage.redis.kill),
            lambda: asyncio.to_thread(stage.redis.start),
        )
        for kind, _ in stage.kinds:
            assert {one.status for one in parts.during(kind)} == {200}, kind
            assert parts.after(kind) == {200}, kind
        assert stage.acknowledged <= await stage.kept()

    async def test_garbage_of_it_stops_nobody(self, stage):
        proxy = stage.proxies["redis"]
        parts = await outage(
            stage.node, stage.kinds, lambda: proxy.set(Fault.GARBAGE), lambda: proxy.set(Fault.NONE)
        )
        for kind, _ in stage.kinds:
            assert {one.status for one in parts.during(kind)} == {200}, kind
            assert parts.after(kind) == {200}, kind


@LONG
class TestVault:
    async def new_person(self, stage, name):
        new = {"username": name, "email": f"{name}@example.org", "role": "user"}
        return await stage.node.call("POST", "/users/", json=new)

    async def test_sealed_under_load_it_stops_what_needs_a_key_and_nothing_else(self, stage):
        refused = []

        async def seal():
            await asyncio.to_thread(stage.vault.seal)

        async def unseal():
            refused.append(await self.new_person(stage, "sealed"))
            await asyncio.to_thread(stage.vault.unseal)

        parts = await outage(stage.node, stage.kinds, seal, unseal)
        for kind, _ in stage.kinds:
            assert {one.status for one in parts.during(kind)} == {200}, kind
            assert parts.after(kind) == {200}, kind
        assert [(one.status, one.json["code"]) for one in refused] == [(503, "vault_unavailable")]
        assert refused[0].headers["Retry-After"]
        assert (await self.new_person(stage, "unsealed")).status == 200

    async def test_killed_under_load_it_comes_back_sealed_and_is_found_again(self, stage):
        parts = await outage(
            stage.node,
            stage.kinds,
            lambda: asyncio.to_thread(stage.vault.kill),
            lambda: asyncio.to_thread(stage.vault.start),
        )
        for kind, _ in stage.kinds:
            assert {one.status for one in parts.during(kind)} == {200}, kind
            assert parts.after(kind) == {200}, kind
        assert (await self.new_person(stage, "restarted")).status == 200
