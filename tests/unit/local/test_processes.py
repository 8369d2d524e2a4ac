"""Processes are told apart by id and start time."""

import os
import signal
import subprocess
import sys

import msgspec
import pytest

from cvf_app.local.processes import end, identify, is_alive, send


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


class TestIdentity:
    def test_a_living_process_is_recognised(self):
        me = identify(os.getpid())
        assert me is not None
        assert is_alive(me)

    def test_a_process_that_got_the_id_later_is_somebody_else(self, sleeper):
        ours = identify(sleeper.pid)
        earlier = msgspec.structs.replace(ours, started="1")
        assert not is_alive(earlier)
        assert not send(earlier, signal.SIGKILL)
        assert sleeper.poll() is None

    def test_an_ended_process_is_gone_even_before_it_is_collected(self, sleeper):
        ours = identify(sleeper.pid)
        end(ours, patience=5)
        assert not is_alive(ours)
