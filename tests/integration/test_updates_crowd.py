"""Open streams of updates by the hundred, slow ones, cut ones, and a server that stops."""

import asyncio
import json
import signal
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from pymongo import monitoring
from redis.asyncio import Redis

from cvf_app.backends.stream import Stream
from cvf_app.updates.model import Change, Operation
from cvf_app.wire import encode
from tests.support import nodes, services
from tests.support.crowd import GRACE_SECONDS, dropped, join, open_streams, until, worker
from tests.support.listening import of_thing, socket, sse
from tests.support.services import redis_url as address_of

CROWD = 500
PEOPLE = 10


class Reads(monitoring.CommandListener):
    """Counts what is read of the database, by collection."""

    def __init__(self):
        self.count = Counter()

    def started(self, event):
        if event.command_name == "find":
            self.count[event.command["find"]] += 1

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


READS = Reads()
# Clients that are opened from now on are listened to; there is no way back, and it only counts.
monitoring.register(READS)


@pytest.fixture(scope="module")
async def node(tmp_path_factory, mongo_url, redis_url):
    async with nodes.node(tmp_path_factory.mktemp("crowd"), mongo_url, redis_url) as made:
        for number in range(PEOPLE):
            await made.person(f"member{number}")
        yield made


def stream_of(node):
    redis = node.config.redis
    url = address_of(host=redis.host, port=int(redis.port), path=redis.path)
    return Stream.open(url, f"cv3-updates:{node.config.mongo_db.database}")


async def rename(node, source, text):
    change = {"sourceType": "internal", "displayName": text}
    assert (await node.call("PATCH", f"/sources/{source}", json=change)).status == 200


async def shared_source(node, name):
    source = await node.source(name)
    await node.group("count", list(node.people.values()), [source], name)
    return source


class TestCrowd:
    async def test_five_hundred_are_told_and_half_of_them_are_cut(self, node):
        source = await shared_source(node, "crowded")
        async with worker(node) as (served, process):
            tokens = [node.issuer.token(name) for name in node.people]
            began = time.perf_counter()
            members, reading = [], []
            try:
                for number in range(CROWD):
                    member = await join(served, tokens[number % PEOPLE])
                    members.append(member)
                    reading.append(asyncio.create_task(member.read()))
                await until(lambda: all(b"event: ready" in each.heard for each in members))
                print(f"{CROWD} open after {time.perf_counter() - began:.2f} s")
                assert await open_streams(served) == CROWD
                size = resident(process.pid)
                for text in ("once for all", "twice for all"):
                    began = time.perf_counter()
                    await rename(node, source, text)
                    await until(lambda text=text: all(text.encode() in m.heard for m in members))
                    print(f"{CROWD} told after {time.perf_counter() - began:.2f} s")
                began = time.perf_counter()
                for member in members[::2]:
                    member.cut()
                await until(lambda: _open_is(served, CROWD // 2))
                print(f"{CROWD // 2} cut and gone after {time.perf_counter() - began:.2f} s")
                began = time.perf_counter()
                await rename(node, source, "for those who stay")
                await until(lambda: all(b"who stay" in m.heard for m in members[1::2]))
                print(f"{CROWD // 2} told after {time.perf_counter() - began:.2f} s")
                print(f"worker {size} MiB with {CROWD}, {resident(process.pid)} MiB with half")
                assert (await served.call("GET", "/health/ready", None)).status == 200
                began = time.perf_counter()
                process.send_signal(signal.SIGTERM)
                # Far less than the graceful time, which is a minute here.
                async with asyncio.timeout(GRACE_SECONDS / 2):
                    assert await process.wait() == 0
                print(f"stopped after {time.perf_counter() - began:.2f} s")
                await until(lambda: all(m.over for m in members[1::2]))
                assert all(b"event: closed" in m.heard for m in members[1::2])
                assert "Traceback" not in (node.folder / "worker.log").read_text()
            finally:
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)
                for member in members:
                    member.writer.transport.abort()

    async def test_one_message_is_one_look_up_for_everybody(self, node):
        source = await shared_source(node, "looked")
        tokens = [node.issuer.token(name) for name in node.people]
        members = [await join(node, tokens[n % PEOPLE]) for n in range(60)]
        reading = [asyncio.create_task(member.read()) for member in members]
        try:
            await until(lambda: all(b"event: ready" in each.heard for each in members))
            tasks = len(asyncio.all_tasks())
            READS.count.clear()
            await rename(node, source, "looked at once")
            await until(lambda: all(b"looked at once" in each.heard for each in members))
            # The request itself, then one look-up: the source, its index, and its groups.
            assert READS.count["sources"] <= 6
            assert READS.count["groups"] <= 2
            assert READS.count["users"] <= 2
            for member in members:
                member.cut()
            await until(lambda: _open_is(node, 0))
            await until(lambda: len(asyncio.all_tasks()) <= tasks - len(members))
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def test_there_is_an_end_to_what_one_may_open(self, node, monkeypatch):
        monkeypatch.setattr("cvf_app.updates.hub.MOST_OF_ONE", 1)
        async with sse(node, "member0"):
            assert (await node.call("GET", "/updates", "member0")).status == 429
            monkeypatch.setattr("cvf_app.updates.hub.MOST_OPEN", 1)
            answer = await node.call("GET", "/updates", "member1")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            headers = {"Authorization": f"Bearer {node.issuer.token('member1')}"}
            for sent in (headers, {}):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    async with node.client.ws_connect(f"{node.address}/updates/ws", headers=sent):
                        pass
                assert caught.value.status == 503


async def _open_is(node, number):
    return await open_streams(node) == number


def resident(pid):
    """Return how many MiB a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 // 2**20


async def flood(node, source, count):
    """Announce the same thing many times, as if it were new each time."""
    stream = stream_of(node)
    change = Change(interface="sources", operation=Operation.INSERT, ids=(source,))
    for _ in range(count // 50):
        await stream.add([encode(change)] * 50)
    await stream.close()


class TestStop:
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    async def test_open_streams_do_not_hold_up_a_stop(self, node, loop):
        if loop == "uvloop":
            pytest.importorskip("uvloop")
        async with (
            worker(node, loop) as (served, process),
            sse(served, "admin") as one,
            socket(served, "admin") as other,
        ):
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(GRACE_SECONDS / 2):
                assert await process.wait() == 0
            for ear in (one, other):
                await ear.until(lambda each: each.over)
        assert one.events() == ["ready", "closed"]
        assert "stopped" in one.notices[-1]["reason"]
        assert other.code == 1001


class TestSlow:
    async def test_who_does_not_read_is_dropped_with_a_reason(self, node):
        source = await shared_source(node, "flooded")
        change = {"sourceType": "internal", "sourceDescription": "x" * 30_000}
        assert (await node.call("PATCH", f"/sources/{source}", json=change)).status == 200
        token = node.issuer.token("member0")
        before = await dropped(node, "slow")
        slow = await join(node, token, buffer=4096)
        async with sse(node, "admin", "?interface=sources") as quick:
            await until(lambda: _open_is(node, 2))
            await flood(node, source, 1000)
            await until(lambda: _dropped_is(node, before + 1))
            reading = asyncio.create_task(slow.read())
            await until(lambda: b"event: dropped" in slow.heard)
            await until(lambda: _open_is(node, 1))
            await quick.until(lambda ear: len(ear.of("sources")) >= 1000, 60)
            assert not quick.over
        last = bytes(slow.heard).rpartition(b"data: ")[2]
        assert b'"reason":"You read more slowly' in last
        slow.cut()
        await reading

    async def test_who_never_reads_again_is_given_up(self, node):
        source = await shared_source(node, "stuck")
        change = {"sourceType": "internal", "sourceDescription": "x" * 30_000}
        assert (await node.call("PATCH", f"/sources/{source}", json=change)).status == 200
        before = await dropped(node, "slow")
        slow = await join(node, node.issuer.token("member0"), buffer=4096)
        headers = {"Authorization": f"Bearer {node.issuer.token('member0')}"}
        async with aiohttp.ClientSession() as client:
            address = f"{node.address}/updates/ws"
            async with client.ws_connect(address, headers=headers) as connection:
                await connection.receive()
                transport = connection._response.connection.transport  # noqa: SLF001 - to stall it
                transport.pause_reading()
                await until(lambda: _open_is(node, 2))
                await flood(node, source, 1500)
                await until(lambda: _dropped_is(node, before + 2))
                await until(lambda: _open_is(node, 0))
                transport.resume_reading()
                while not (message := await connection.receive(20)).type.name.startswith("CLOS"):
                    assert json.loads(message.data)["interface"] == "sources"
        slow.cut()


async def _dropped_is(node, number):
    return await dropped(node, "slow") == number


@pytest.fixture
async def fragile(tmp_path, mongo_url):
    """A node with a Redis of its own, which can be killed."""
    try:
        with services.valkey() as program:
            async with nodes.node(tmp_path, mongo_url, program.url) as made:
                yield made, program
    except services.Missing as missing:
        pytest.skip(str(missing))


class TestRedisAway:
    async def test_writes_succeed_and_are_told_when_it_is_back(self, fragile):
        node, program = fragile
        source = await node.source("kept")
        async with sse(node, "admin", "?interface=sources") as ear:
            await rename(node, source, "before")
            await ear.until(of_thing(source, "update"))
            program.kill()
            try:
                began = time.perf_counter()
                for number in range(20):
                    await rename(node, source, f"during {number}")
                other = await node.source("fresh")
                print(f"21 writes without Redis took {time.perf_counter() - began:.2f} s")
                # A stream may be opened meanwhile; it is told to reload when news come again.
                async with socket(node, "admin") as late:
                    assert late.events() == ["ready"]
            finally:
                program.start()
            await ear.until(of_thing(other, "insert"), 30)
            await ear.until(lambda each: any("during 19" in str(d) for *_, d in each.of("sources")))
            await rename(node, source, "after")
            await ear.until(lambda each: any("after" in str(d) for *_, d in each.of("sources")))
            assert not ear.over

    async def test_a_redis_that_comes_back_empty_means_reset(self, fragile):
        node, program = fragile
        source = await node.source("forgotten")
        async with sse(node, "admin") as ear:
            await rename(node, source, "before")
            await ear.until(of_thing(source, "update"))
            async with Redis.from_url(program.url) as client:
                await client.flushall()
            program.kill()
            program.start()
            await ear.until(lambda each: "reset" in each.events(), 30)
            await rename(node, source, "after")
            await ear.until(lambda each: any("after" in str(d) for *_, d in each.of("sources")))
            last_id = ear.last_id
        async with sse(node, "admin", last_id=last_id) as back:
            assert back.events() == ["ready"]

    async def test_more_than_can_wait_means_reset(self, fragile, monkeypatch):
        node, program = fragile
        monkeypatch.setattr("cvf_app.updates.pending.MOST", 3)
        async with nodes.beside(node) as second, sse(node, "admin") as ear:
            program.kill()
            try:
                for number in range(6):
                    await second.source(f"many{number}")
            finally:
                program.start()
            await ear.until(lambda each: "reset" in each.events(), 30)
