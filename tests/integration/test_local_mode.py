"""A local instance with its real stand-ins under its real guard; the app is a stand-in here."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cvf_app.local.processes import identify, send
from tests.support.canaille import canaille_python

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "tests" / "support" / "stand_in_app.py"


class Local:
    """The command line of local mode on one folder."""

    def __init__(self, folder: Path, canaille: Path) -> None:
        self.folder = folder
        self._environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "CV3_CANAILLE_VENV": str(canaille),
            "CV3_APP_COMMAND": shlex.join([sys.executable, str(STAND_IN)]) + " {fd}",
        }

    def __call__(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cvf_app.local", *words, "--data", str(self.folder)],
            env={**self._environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def status(self) -> dict:
        return json.loads(self("status", "--json").stdout or "{}")

    def pids(self) -> dict[str, int]:
        return {child["name"]: child["process"]["pid"] for child in self.status()["children"]}

    def until_ready(self) -> None:
        until = time.monotonic() + 30
        while self("status").returncode != 0:
            assert time.monotonic() < until, self.status()
            time.sleep(0.2)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    python = canaille_python()
    if python is None:
        pytest.skip("Canaille's virtual environment is missing: ./CafeVariome3.sh local makes it")
    made = Local(tmp_path_factory.mktemp("local") / "instance", python.parent.parent)
    ran = made("local")
    assert ran.returncode == 0, ran.stderr
    yield made
    made("stop")


class TestLocalMode:
    def test_a_second_run_finds_everything_kept(self, local):
        kept = (local.folder / "secrets" / "administrator.json").read_bytes()
        assert local("stop").returncode == 0
        assert local("status").returncode == 3
        assert local("local").returncode == 0
        assert (local.folder / "secrets" / "administrator.json").read_bytes() == kept

    @pytest.mark.parametrize("name", ["database", "broker", "identity", "app"])
    def test_a_killed_part_is_started_again(self, local, name):
        before = local.pids()[name]
        assert send(identify(before), signal.SIGKILL)
        until = time.monotonic() + 30
        while local.pids()[name] == before:
            assert time.monotonic() < until
            time.sleep(0.2)
        local.until_ready()

    def test_a_killed_guard_leaves_nothing_behind_and_start_heals(self, local):
        told = local.status()
        assert send(identify(told["guard"]["pid"]), signal.SIGKILL)
        until = time.monotonic() + 10
        while any(identify(child["process"]["pid"]) for child in told["children"]):
            assert time.monotonic() < until
            time.sleep(0.1)
        assert local("status").returncode == 3
        assert local("start").returncode == 0
        local.until_ready()

    def test_a_public_address_is_refused(self, local):
        local("stop")
        refused = local("local", CV3_BIND="0.0.0.0:5000")
        assert refused.returncode == 2
        assert "loopback only" in refused.stderr
        assert local("start").returncode == 0

    def test_a_taken_port_is_named_with_the_command_that_mends_it(self, local):
        local("stop")
        port = json.loads((local.folder / "local.json").read_bytes())["ports"]["app"]
        with socket.socket() as foreign:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            foreign.bind(("127.0.0.1", port))
            foreign.listen()
            refused = local("start")
            assert refused.returncode == 1
            assert str(port) in refused.stderr
            assert "--new-ports" in refused.stderr
            assert local("local", "--new-ports").returncode == 0

    def test_reset_asks_first(self, local):
        assert local("local", "--reset").returncode == 1
        assert (local.folder / "local.json").exists()
