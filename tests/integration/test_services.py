"""The servers of full mode: they start, answer, stop, keep their data, and say why not."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from scripts.services import processes
from scripts.services import running as programs
from scripts.services.asking import http_call
from scripts.services.cache import Cache, default_cache
from scripts.services.errors import Failed, NotAvailable
from scripts.services.home import Home
from scripts.services.known import KNOWN
from tests.support import servers, services, table

ROOT = Path(__file__).resolve().parents[2]
CACHE = Cache(default_cache())
NOT_HAD = 4
# Each is started, stopped and started again; the slow ones have a test of their own below.
QUICK = ("redis", "mongodb", "smtp", "prometheus", "alertmanager", "oidc-provider", "vault")
SLOW = ("keycloak", "neo4j", "mongodb-java")
ALIVE, SEALED = 200, 503


def up(name, data):
    try:
        return programs.up(KNOWN[name], CACHE, data)
    except NotAvailable as reason:
        pytest.skip(str(services.missing(name, str(reason))))


def down(name, data):
    return programs.down(KNOWN[name], data)


@pytest.fixture
def data(tmp_path):
    """A data folder; what was started in it is stopped."""
    yield tmp_path
    for name in KNOWN:
        down(name, tmp_path)


def script(*words, path=None, cache=None, data=None):
    """Run the script as a person would; return exit status, JSON and what it told."""
    env = dict(os.environ) | {"CV3_PYTHON": sys.executable, "CV3_VENV": sys.prefix}
    env.pop("JAVA_HOME", None)
    if path is not None:
        env["PATH"] = str(path)
    if cache is not None:
        env["CV3_SERVICES_CACHE"] = str(cache)
    command = ["/bin/sh", ROOT / "scripts" / "services.sh", *words]
    command += ["--data", str(data)] if data else []
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture
def bare_path(tmp_path):
    """A PATH with what a shell script needs, and neither Java nor Go nor Node.js nor apt."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dirname", "readlink", "sh"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


class TestEach:
    @pytest.mark.parametrize("name", [*QUICK, *SLOW])
    def test_it_answers_stops_and_comes_back_where_it_was(self, name, data):
        facts = up(name, data)
        note = table.stand_in if KNOWN[name].stands_in else table.real
        note(name, f"{KNOWN[name].what}, started here")
        service, home = KNOWN[name], Home(data / name)
        assert facts["state"] == "running"
        assert service.answers(home)
        if "credentials" in facts:
            assert stat.S_IMODE(Path(facts["credentials"]).stat().st_mode) == 0o600
        assert up(name, data)["pid"] == facts["pid"]
        assert down(name, data) == "stopped"
        assert not service.answers(home)
        assert down(name, data) == "did not run"
        again = up(name, data)
        assert again["address"] == facts["address"]
        assert again["pid"] != facts["pid"]

    @pytest.mark.parametrize("name", QUICK)
    def test_nobody_else_can_reach_it(self, name, data):
        up(name, data)
        addresses = {socket.gethostbyname(socket.gethostname())} - {"127.0.0.1", "127.0.1.1"}
        for address in addresses:
            for port in Home(data / name).ports().values():
                with socket.socket() as probe:
                    probe.settimeout(2)
                    assert probe.connect_ex((address, port)) != 0

    def test_vault_keeps_what_it_was_told(self, data):
        facts = up("vault", data)
        token = json.loads(Path(facts["credentials"]).read_bytes())["root_token"]
        mount = f"{facts['address']}/v1/sys/mounts/kept"
        status, _ = http_call(mount, "POST", {"type": "kv"}, token=token)
        assert status == 204
        secret = f"{facts['address']}/v1/kept/one"
        assert http_call(secret, "POST", {"is": "here"}, token=token)[0] == 204
        programs.kill(KNOWN["vault"], data)
        up("vault", data)
        assert http_call(secret, token=token)[1]["data"] == {"is": "here"}

    def test_a_vault_can_be_left_sealed(self, data):
        facts = up("vault-sealed", data)
        assert facts["sealed"] is True
        assert KNOWN["vault-sealed"].health(Home(data / "vault-sealed")) == SEALED

    def test_a_vault_is_sealed_and_unsealed(self):
        try:
            with servers.running("vault", own=True) as vault:
                vault.seal()
                assert http_call(f"{vault.address}/v1/sys/health")[0] == SEALED
                vault.unseal()
                assert http_call(f"{vault.address}/v1/sys/health")[0] == ALIVE
        except services.Missing as reason:
            pytest.skip(str(reason))


class TestProcesses:
    def test_what_was_killed_is_started_again(self, data):
        first = up("redis", data)
        programs.kill(KNOWN["redis"], data)
        assert programs.status(KNOWN["redis"], CACHE, data)["state"].startswith("ended")
        assert up("redis", data)["pid"] != first["pid"]

    def test_the_id_of_somebody_else_is_never_taken_for_ours(self, data):
        home = Home(data / "redis")
        home.make()
        home.keep_process(processes.Identity(pid=os.getpid(), started="long ago"))
        assert down("redis", data) == "had ended without being asked to"
        home.keep_process(processes.Identity(pid=os.getpid(), started="long ago"))
        assert up("redis", data)["pid"] != os.getpid()

    def test_two_data_folders_do_not_collide(self, data, tmp_path_factory):
        other = tmp_path_factory.mktemp("other")
        try:
            first, second = up("redis", data), up("redis", other)
            assert first["address"] != second["address"]
            assert down("redis", data) == "stopped"
            assert KNOWN["redis"].answers(Home(other / "redis"))
        finally:
            down("redis", other)

    def test_a_port_that_somebody_took_is_left_to_them(self, data):
        port = Home(data / "redis")
        up("redis", data)
        down("redis", data)
        taken = port.ports()["port"]
        with socket.socket() as somebody:
            somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            somebody.bind(("127.0.0.1", taken))
            somebody.listen()
            assert up("redis", data)["address"] != f"redis://127.0.0.1:{taken}/0"

    def test_a_start_that_fails_says_what_the_server_said(self, data):
        up("prometheus", data)
        down("prometheus", data)
        (data / "prometheus" / "prometheus.yml").write_text("nonsense: [")
        with pytest.raises(Failed, match=r"nonsense|yaml"):
            programs.up(KNOWN["prometheus"], CACHE, data)
        assert programs.status(KNOWN["prometheus"], CACHE, data)["state"] == "stopped"


class TestScript:
    NEEDS: ClassVar = {
        "keycloak": "java",
        "neo4j": "java",
        "mongodb-java": "java",
        "vault": "go",
        "oidc-provider": "node",
        "prometheus": "apt-get",
        "chromium": "apt-get",
    }

    @pytest.mark.parametrize("action", ["install", "up"])
    @pytest.mark.parametrize("name", NEEDS)
    def test_an_empty_machine_says_what_is_missing(self, name, action, tmp_path, bare_path):
        status, told, _ = script(action, name, path=bare_path, cache=tmp_path / "cache")
        assert status == NOT_HAD
        assert told[name]["state"] == "not available"
        assert f"no {self.NEEDS[name]} on the PATH" in told[name]["reason"]
        assert "install" in told[name]["reason"]

    def test_what_nobody_installed_names_the_command(self, tmp_path):
        status, told, _ = script("up", "vault", cache=tmp_path / "cache")
        assert status == NOT_HAD
        assert "services.sh install vault" in told["vault"]["reason"] or not shutil.which("go")

    def test_it_starts_says_where_and_stops(self, data):
        status, told, said = script("up", "redis", data=data)
        assert status == 0, said
        assert told["redis"]["address"].startswith("redis://127.0.0.1:")
        assert KNOWN["redis"].answers(Home(data / "redis"))
        status, told, _ = script("status", "redis", data=data)
        assert (status, told["redis"]["state"]) == (0, "running")
        status, told, _ = script("down", data=data)
        assert (status, told["redis"]["state"]) == (0, "stopped")

    def test_a_name_that_nobody_knows_is_refused_with_those_there_are(self):
        status, told, said = script("up", "oracle")
        assert (status, told) == (2, None)
        assert "oracle" in said
        assert "keycloak" in said

    def test_help_helps(self):
        done = subprocess.run(
            [ROOT / "scripts" / "services.sh", "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=dict(os.environ) | {"CV3_VENV": sys.prefix},
        )
        assert all(name in done.stdout for name in [*KNOWN, "install", "CV3_SERVICES_CACHE"])


class TestCache:
    def test_a_step_that_was_broken_off_leaves_nothing_and_can_be_made_again(self, tmp_path):
        cache = Cache(tmp_path / "cache")

        def broken(folder):
            (folder / "half").write_text("x")
            raise Failed("broken off")

        with pytest.raises(Failed):
            cache.make("thing", "making", broken)
        assert not cache.path("thing").exists()
        assert not [one for one in cache.folder.iterdir() if one.is_dir()]
        cache.make("thing", "making", lambda folder: (folder / "whole").write_text("y"))
        assert (cache.path("thing") / "whole").read_text() == "y"

    def test_what_is_there_is_left_alone(self, tmp_path):
        cache = Cache(tmp_path)
        cache.make("thing", "making", lambda folder: (folder / "first").touch())
        cache.make("thing", "making", lambda folder: (folder / "second").touch())
        assert [one.name for one in cache.path("thing").iterdir()] == ["first"]


class TestTable:
    def test_what_had_to_be_real_and_was_skipped_is_found(self):
        named = table.named_as_real("# why\nvault\nkeycloak  # this one\n\n")
        rows = {
            table.Row("vault", "skipped", "no Go"),
            table.Row("keycloak", "real", "Keycloak"),
            table.Row("mongodb", "skipped", "no address"),
        }
        assert table.wrongly_skipped(named, rows) == [table.Row("vault", "skipped", "no Go")]

    def test_the_names_of_ci_are_services(self):
        assert table.named_as_real(table.NAMED.read_text()) <= set(KNOWN)
