"""What the provider publishes is remembered, and the provider is left in peace."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from cvf_app.errors import Unavailable
from cvf_app.users.identity.cached import Remembered


class Published:
    """A thing that a provider publishes, on a clock that tests move."""

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.up = True
        self.asked = 0
        self.holds = set()
        self.remembered = self.make()

    def make(self, pause=timedelta(seconds=10)):
        return Remembered("it", self.fetch, timedelta(minutes=10), lambda: self.now, pause=pause)

    async def fetch(self):
        self.asked += 1
        if not self.up:
            raise Unavailable("down")
        return self.asked

    def wait(self, **shift):
        self.now += timedelta(**shift)


@pytest.fixture
def published():
    return Published()


class TestRemembered:
    async def test_fresh_thing_is_not_asked_for_again(self, published):
        assert [await published.remembered.get() for _ in range(5)] == [1] * 5

    async def test_stale_thing_is_fetched_again(self, published):
        await published.remembered.get()
        published.wait(minutes=11)
        assert await published.remembered.get() == 2

    async def test_thousand_bogus_wishes_ask_once_in_ten_seconds(self, published):
        await published.remembered.get()
        published.wait(seconds=11)
        for _ in range(1000):
            await published.remembered.renew()
        assert published.asked == 2
        published.wait(seconds=11)
        await published.remembered.renew()
        assert published.asked == 3

    async def test_bad_answer_keeps_the_last_good_one_for_a_day(self, published):
        await published.remembered.get()
        published.up = False
        published.wait(hours=23)
        assert await published.remembered.get() == 1
        published.wait(hours=2)
        with pytest.raises(Unavailable):
            await published.remembered.get()
        published.up = True
        published.wait(seconds=11)
        assert await published.remembered.get() == 4

    async def test_provider_that_never_answered_is_unavailable(self, published):
        published.up = False
        with pytest.raises(Unavailable):
            await published.remembered.get()


class Keys(Published):
    """Things in a list, some of them new."""

    async def fetch(self):
        await super().fetch()
        return frozenset(self.holds)

    def pick(self, name):
        return lambda held: name if name in held else None


@pytest.fixture
def keys():
    return Keys()


class TestFind:
    async def test_known_part_asks_nobody(self, keys):
        keys.holds.add("old")
        for _ in range(3):
            assert await keys.remembered.find(keys.pick("old")) == "old"
        assert keys.asked == 1

    async def test_new_part_is_fetched_at_once_when_the_pause_is_over(self, keys):
        await keys.remembered.get()
        keys.holds.add("new")
        keys.wait(seconds=11)
        assert await keys.remembered.find(keys.pick("new")) == "new"
        assert keys.asked == 2

    async def test_new_part_within_the_pause_is_waited_for(self, keys):
        remembered = keys.make(pause=timedelta(milliseconds=20))
        await remembered.get()
        keys.holds.add("new")
        found = await asyncio.gather(*(remembered.find(keys.pick("new")) for _ in range(50)))
        assert set(found) == {"new"}
        assert keys.asked == 2

    async def test_thousand_bogus_parts_are_one_fetch_and_no_queue(self, keys):
        await keys.remembered.get()
        keys.wait(seconds=11)
        for number in range(1000):
            assert await keys.remembered.find(keys.pick(number)) is None
        found = await asyncio.gather(*(keys.remembered.find(keys.pick(n)) for n in range(1000)))
        assert set(found) == {None}
        assert keys.asked == 2

    async def test_part_that_the_provider_itself_named_is_fetched_during_the_flood(self, keys):
        await keys.remembered.get()
        keys.wait(seconds=11)
        assert await keys.remembered.find(keys.pick("bogus")) is None
        keys.holds.add("new")
        assert await keys.remembered.find(keys.pick("new")) is None
        assert await keys.remembered.find(keys.pick("new"), trusted=True) == "new"
        assert await keys.remembered.find(keys.pick("new")) == "new"

    async def test_part_that_is_gone_is_dropped_with_the_next_good_answer(self, keys):
        keys.holds.add("old")
        assert await keys.remembered.find(keys.pick("old")) == "old"
        keys.holds.clear()
        keys.wait(minutes=10)
        assert await keys.remembered.find(keys.pick("old")) is None

    async def test_unknown_part_while_the_provider_is_down_is_unavailable(self, keys):
        keys.holds.add("old")
        await keys.remembered.get()
        keys.up = False
        keys.wait(seconds=11)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await keys.remembered.find(keys.pick("new"))
        assert await keys.remembered.find(keys.pick("old")) == "old"
        assert keys.asked == 2

    async def test_clock_that_was_put_back_makes_nobody_wait(self, keys):
        keys.wait(hours=1)
        await keys.remembered.get()
        keys.wait(hours=-1)
        keys.holds.add("new")
        assert await keys.remembered.find(keys.pick("new")) == "new"
