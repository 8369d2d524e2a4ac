"""One open stream: bounded, and ended with a reason."""

import asyncio

import pytest

from cvf_app.principal import Principal, Role
from cvf_app.updates.listener import MOST_WAITING, Frame, Listener
from cvf_app.updates.model import Admitted, Notice

ANN = Principal(user_id="ann", username="ann", role=Role.USER)


@pytest.fixture
async def listener():
    return Listener(Admitted(ANN, 1e12), frozenset({"jobs"}))


class TestListener:
    async def test_what_is_offered_comes_in_its_order(self, listener):
        for word in (b"1", b"2"):
            assert listener.offer(Frame(word))
        assert [(await listener.next(1)).body for _ in range(2)] == [b"1", b"2"]
        assert await listener.next(0.01) is None

    async def test_who_waits_is_woken(self, listener):
        waiting = asyncio.create_task(listener.next(5))
        await asyncio.sleep(0)
        listener.offer(Frame(b"1"))
        assert (await waiting).body == b"1"

    async def test_who_does_not_keep_up_is_dropped_with_a_reason(self, listener):
        assert all(listener.offer(Frame(b"x")) for _ in range(MOST_WAITING))
        assert not listener.offer(Frame(b"x"))
        assert listener.offer(Frame(b"y"))  # nobody is there to be told, and once is enough
        frame = await listener.next(1)
        assert (frame.event, frame.last, frame.cause) == ("dropped", True, "slow")
        assert await listener.next(0.01) is None
        assert not listener.hears("jobs")

    async def test_an_end_comes_before_all_that_waits_and_only_once(self, listener):
        listener.offer(Frame(b"secret"))
        listener.end(Notice(event="closed", reason="one"), "role")
        listener.end(Notice(event="closed", reason="two"), "stopping")
        frame = await listener.next(1)
        assert (frame.reason, frame.cause, frame.last) == ("one", "role", True)
        assert await listener.next(0.01) is None
