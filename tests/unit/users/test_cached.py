"""What the provider publishes is remembered, and the provider is left in peace."""

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
        self.remembered = Remembered("it", self.fetch, timedelta(minutes=10), lambda: self.now)

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
