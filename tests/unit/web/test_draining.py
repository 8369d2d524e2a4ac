"""Leaving without turning anybody away; the whole of it: tests/integration."""

import asyncio
import os
import signal

import pytest
from quart import Quart

from cvf_app.web.draining import Draining


@pytest.fixture
def leaving():
    draining = Draining()
    app = Quart(__name__)
    draining.install(app)

    @app.get("/")
    async def page():
        return "here"

    return draining, app


class TestDraining:
    async def test_connections_are_kept_until_the_signal_comes(self, leaving):
        draining, app = leaving
        with draining.heard():
            assert "Connection" not in (await app.test_client().get("/")).headers
            os.kill(os.getpid(), signal.SIGWINCH)
            # The event loop hears of it when it looks for what has come in.
            await asyncio.sleep(0.01)
            assert (await app.test_client().get("/")).headers["Connection"] == "close"

    async def test_the_event_loop_is_as_it_was_afterwards(self, leaving):
        draining, _ = leaving
        with draining.heard():
            assert "create_server" in vars(asyncio.get_running_loop())
        assert "create_server" not in vars(asyncio.get_running_loop())
