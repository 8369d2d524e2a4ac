"""The books of a host on a real Redis: many workers, a Redis that forgets, dies and comes back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis as Client

from cvf_app.backends.redis import Redis
from cvf_app.ids import new_id
from cvf_app.jobs.budget import LAPSE_SECONDS, QUIET_SECONDS
from cvf_app.jobs.ledger import Ledger, Settle
from cvf_app.jobs.resources import Hosts
from cvf_app.jobs.sizes import Sizes
from cvf_app.jobs.workload import Limits
from tests.support import services

SIZES = Sizes(
    cores=4,
    memory_mib=1000,
    limits={"small": Limits(1, 100, 60), "large": Limits(4, 500, 60), "wide": Limits(3, 100, 60)},
    types={},
    stalled_after=8,
    grace=1,
)
AT_ONCE = Settle(0, 0)


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def program() -> Iterator[services.Program]:
    try:
        with services.valkey() as program:
            yield program
    except services.Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Desk:
    """Ledgers of one host, each as a process of its own would have it."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url, self._clock, self._name = url, clock, f"test-{new_id()[:8]}"
        self._open: list[Redis] = []

    def ledger(self, settle: Settle = AT_ONCE) -> Ledger:
        self._open.append(Redis.open(self._url, 4))
        return Ledger(
            self._open[-1], self._clock, SIZES, name=self._name, host="here", settle=settle
        )

    async def close(self) -> None:
        for redis in self._open:
            await redis.close()


@pytest.fixture
async def desk(program: services.Program, clock: Clock) -> AsyncIterator[Desk]:
    desk = Desk(program.url, clock)
    yield desk
    await desk.close()


@asynccontextmanager
async def away(program: services.Program) -> AsyncIterator[None]:
    program.kill()
    try:
        yield
    finally:
        program.start()


async def used(ledger: Ledger) -> int:
    (book,) = await ledger.books()
    return sum(claim.cores for claim in book.held)


class TestLedger:
    async def test_a_large_one_is_not_starved(self, desk: Desk) -> None:
        first, second = desk.ledger(), desk.ledger()
        assert await first.reserve("a", "small", 1.0)
        assert await second.reserve("b", "small", 2.0)
        assert not await first.reserve("big", "large", 3.0)
        for number in range(5):
            assert not await second.reserve(f"c{number}", "small", 4.0 + number)
        await first.release("a")
        assert not await second.reserve("c0", "small", 4.0)
        await second.release("b")
        assert await first.reserve("big", "large", 3.0)
        await first.release("big")
        assert await second.reserve("c0", "small", 4.0)

    async def test_many_at_once_never_take_more_than_there_is(self, desk: Desk) -> None:
        ledgers = [desk.ledger() for _ in range(6)]
        most = 0

        async def work(number: int) -> None:
            nonlocal most
            ledger = ledgers[number % len(ledgers)]
            while not await ledger.reserve(f"job-{number:02d}", "small", float(number)):  # noqa: ASYNC110 - others change it
                await asyncio.sleep(0.005)
            most = max(most, await used(ledger))
            await asyncio.sleep(0.01)
            await ledger.release(f"job-{number:02d}")

        async with asyncio.timeout(60):
            await asyncio.gather(*(work(number) for number in range(30)))
        assert 2 <= most <= 4
        assert await used(ledgers[0]) == 0

    async def test_what_a_dead_worker_held_comes_back(self, desk: Desk, clock: Clock) -> None:
        dead, alive = desk.ledger(), desk.ledger()
        assert await dead.reserve("a", "large", 1.0)
        for _ in range(int(LAPSE_SECONDS)):
            assert not await alive.reserve("b", "small", 2.0)
            clock.pass_(1)
            await alive.tick(())
        assert await alive.reserve("b", "small", 2.0)

    async def test_who_lives_keeps_what_it_holds(self, desk: Desk, clock: Clock) -> None:
        holder, other = desk.ledger(), desk.ledger()
        assert await holder.reserve("a", "large", 1.0)
        for _ in range(20):
            clock.pass_(1)
            await holder.tick(())
            assert not await other.reserve("b", "small", 2.0)

    async def test_a_redis_that_forgot_is_told_again(
        self, desk: Desk, clock: Clock, program: services.Program
    ) -> None:
        settle = Settle(redis=2.0, file=2.0)
        holder, other = desk.ledger(settle), desk.ledger(settle)
        await holder.tick(())
        clock.pass_(2)
        assert await holder.reserve("a", "large", 1.0)
        async with Client.from_url(program.url) as client:
            await client.flushall()
        assert not await other.reserve("b", "small", 2.0)
        clock.pass_(1)
        await holder.tick(())
        clock.pass_(1)
        assert not await other.reserve("b", "small", 2.0)
        assert await used(other) == 4

    async def test_without_redis_work_goes_on_and_the_host_is_not_overrun(
        self, desk: Desk, clock: Clock, program: services.Program
    ) -> None:
        settle = Settle(redis=2.0, file=2.0)
        holder, other = desk.ledger(settle), desk.ledger(settle)
        await holder.tick(())
        clock.pass_(2)
        assert await holder.reserve("a", "wide", 1.0)
        async with away(program):
            assert not await other.reserve("b", "small", 2.0)
            clock.pass_(1)
            await holder.tick(())
            clock.pass_(1)
            assert await other.reserve("b", "small", 2.0)
            assert not await other.reserve("c", "small", 3.0)
            assert await used(other) == 4
            clock.pass_(QUIET_SECONDS)
            await holder.tick(())
            await other.tick(())
        # Redis is back with what it knew when it went: nobody new goes before all have said so.
        assert not await other.reserve("c", "small", 3.0)
        await holder.tick(())
        await other.tick(())
        clock.pass_(2)
        assert not await holder.reserve("c", "small", 3.0)
        assert await used(other) == 4
        await holder.release("a")
        assert await other.reserve("c", "small", 3.0)

    async def test_people_see_what_is_used_and_what_waits(self, desk: Desk) -> None:
        ledger = desk.ledger()
        ledger.enforcement = "rlimits"
        assert await ledger.reserve("a", "small", 1.0)
        assert not await ledger.reserve("b", "large", 2.0)
        resources = await Hosts(ledger, SIZES).resources()
        (host,) = resources.hosts
        assert (host.host, host.enforcement) == ("here", "rlimits")
        assert (host.limits.cores, host.used.cores, host.available.cores) == (4, 1, 3)
        assert (host.used.memory_mib, host.available.memory_mib) == (100, 900)
        assert (host.running, host.waiting) == ({"small": 1}, {"large": 1})
        assert resources.sizes["large"].minutes == 1.0
