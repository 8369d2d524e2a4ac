"""An instance of full mode as an operator keeps it: real processes behind the real guard."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from cvf_app.local.children import Child
from cvf_app.local.guard import Guard
from cvf_app.local.layout import Layout
from cvf_app.local.processes import identify, send
from tests.support import nodes, services
from tests.support.filling import reading

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "CafeVariome3.sh"
UNIT = ROOT / "docs" / "operations" / "cafe-variome.service"


@pytest.fixture(scope="module")
async def three(tmp_path_factory, mongo_url, redis_url):
    """One instance with three workers, for tests that leave it running."""
    folder = tmp_path_factory.mktemp("three")
    async with nodes.kept(folder, mongo_url, redis_url, nodes.SHAPES["three"]) as made:
        yield made


async def until(true, seconds=30):
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - other processes are watched
            await asyncio.sleep(0.1)


def environment_of(pid: int) -> dict[str, str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(each.partition("=")[::2] for each in raw.split("\0") if each)


@asynccontextmanager
async def load(node, *, fresh: int = 6, kept: int = 6):
    """Ask all the time, over new connections and over ones that are kept; count how it went."""
    seen: Counter[str] = Counter()
    stop = asyncio.Event()
    token = {"Authorization": f"Bearer {node.issuer.token('admin')}"}

    async def ask(client, path, headers):
        while not stop.is_set():
            try:
                async with client.get(node.address + path, headers=headers) as answer:
                    await answer.read()
                    seen[str(answer.status)] += 1
            except (aiohttp.ClientError, OSError) as fault:
                seen[repr(fault)] += 1
            # What is asked must not take the cores from what is replaced.
            await asyncio.sleep(0.05)

    limits = aiohttp.ClientTimeout(total=60)
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), timeout=limits
        ) as new,
        aiohttp.ClientSession(timeout=limits) as reused,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(fresh):
            group.create_task(ask(new, "/health/live", {}))
        for _ in range(kept):
            group.create_task(ask(reused, "/sources/", token))
        try:
            yield seen
        finally:
            stop.set()


class TestProcesses:
    async def test_several_workers_answer_on_one_address(self, three):
        pids = await three.pids()
        assert sorted(pids) == ["app-1", "app-2", "app-3"]
        metrics = {environment_of(pid)["PROMETHEUS_MULTIPROC_DIR"] for pid in pids.values()}
        assert metrics == {str(three.folder / "metrics")}
        for _ in range(10):
            assert (await three.call("GET", "/sources/")).status == 200

    async def test_no_request_is_lost_while_every_process_is_replaced(self, three):
        before = await three.pids()
        async with load(three) as seen:
            await until(lambda: asyncio.sleep(0, sum(seen.values()) > 100))
            for _ in range(2):
                told = await three.operate("reload")
                assert "every process is new" in told
            enough = sum(seen.values()) + 100
            await until(lambda: asyncio.sleep(0, sum(seen.values()) > enough))
        after = await three.pids()
        assert not set(before.values()) & set(after.values())
        assert set(seen) == {"200"}, seen
        assert not any(identify(pid) for pid in before.values())

    async def test_a_killed_worker_comes_back_and_the_others_stay(self, three):
        before = await three.pids()
        assert send(identify(before["app-2"]), signal.SIGKILL)

        async def is_back():
            told = {each["name"]: each for each in (await three.status())["children"]}
            again = told["app-2"]
            return again["state"] == "running" and again["process"]["pid"] != before["app-2"]

        await until(is_back)
        after = await three.pids()
        assert (after["app-1"], after["app-3"]) == (before["app-1"], before["app-3"])

    async def test_a_wrong_configuration_is_not_loaded_and_nothing_stops(self, three):
        before = await three.pids()
        file = three.folder / "instance_config.json"
        right = file.read_text()
        try:
            file.write_text(json.dumps(json.loads(right) | {"Nothing": {}}))
            told = await three.operate("reload", expect=2)
            assert "Nothing" in told
            # This one can be read, but there are no keys.
            broken = {"Secrets": {"Provider": "file", "Path": "/dev/null/x"}}
            file.write_text(json.dumps(json.loads(right) | broken))
            told = await three.operate("reload", expect=1)
            assert "the old one goes on" in told
        finally:
            file.write_text(right)
        assert await three.pids() == before
        assert (await three.call("GET", "/sources/")).status == 200
        await three.operate("reload")

    async def test_logs_and_status_are_shown_by_name(self, three):
        told = await three.operate("logs", "app-1", "guard", "--lines", "3")
        assert "hypercorn.log" in told
        assert "guard.log" in told
        assert "access.log" not in told
        told = await three.operate("status")
        assert told.count("running") == 3

    async def test_health_names_each_service_with_version_and_mode(self, three):
        health = (await three.call("GET", "/health/ready", None)).json
        services_told = health["services"]
        assert set(services_told) == {"database", "broker", "identity", "secrets", "mail"}
        assert services_told["broker"]["name"] in {"Redis", "Valkey"}
        assert services_told["broker"]["version"].count(".") == 2
        assert services_told["broker"]["mode"] == "standalone"
        assert services_told["database"]["version"]
        assert all(each["milliseconds"] >= 0 for each in services_told.values())

    async def test_the_doctor_says_what_is_wrong_and_what_to_do(self, three):
        async def examined(code, **environ):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cvf_app.console", "doctor", "--json"),
                env=three.environ | environ,
                cwd="/",
                stdout=asyncio.subprocess.PIPE,
            )
            told, _ = await process.communicate()
            assert process.returncode == code, told.decode()
            return {each["check"]: each for each in json.loads(told)}

        found = await examined(1)
        (wrong,) = (each for each in found.values() if each["state"] == "fault")
        file = three.folder / "instance_config.json"
        assert wrong["advice"] == f"chmod 600 {file}"
        file.chmod(0o600)
        found = await examined(0)
        assert found["mail"]["state"] == "warning"
        assert "the instance runs" in found["address"]["found"]
        for name in ("configuration", "database", "schema", "broker", "identity", "clock"):
            assert found[name]["state"] == "ok", found[name]
        assert found["data folder"]["state"] == "ok"
        found = await examined(1, CV3__MongoDB__Database="nobody_made_it")
        assert "cvf db create" in found["schema"]["found"]
        found = await examined(
            1,
            CV3__MongoDB__Port="1",
            CV3__Redis__Path="/nowhere",
            CV3__Data__UploadPath="/dev/null/x",
        )
        for name in ("database", "broker", "data folder"):
            assert found[name]["state"] == "fault"
            assert found[name]["advice"]


class TestDuties:
    async def test_each_word_is_a_process_with_a_pid_file_and_a_log(
        self, tmp_path, mongo_url, redis_url
    ):
        shape = nodes.SHAPES["split"]
        async with nodes.kept(tmp_path, mongo_url, redis_url, shape) as node:
            pids = await node.pids()
            assert set(pids) == {word.replace(",", "+") for word in shape.duties}
            for name, pid in pids.items():
                assert (tmp_path / f"hypercorn-{name}.pid").read_text() == str(pid)
                assert (tmp_path / f"hypercorn-{name}.log").exists()
                assert environment_of(pid)["CV3_DUTIES"] == name.replace("+", ",")
            # The pages of a duty are where it is, and nowhere else.
            assert (await node.call("GET", "/users/")).status == 200
            assert (await node.call("GET", "/record/history")).status == 200
            node.elsewhere.clear()
            assert (await node.call("GET", "/record/history")).status == 404
            assert "hypercorn-query.log" in await node.operate("logs", "query")
            # A second start is none.
            assert "runs already" in await node.operate("start")
            await node.operate("reload")
            assert not set(pids.values()) & set((await node.pids()).values())
        assert not list(tmp_path.glob("*.pid"))

    async def test_a_word_that_is_no_duty_is_refused(self, tmp_path, mongo_url, redis_url):
        async with nodes.kept(tmp_path, mongo_url, redis_url, CV3_APP_MODULE="") as node:
            await node.operate("stop")
            told = await node.operate("start", "query", "nothing", expect=2)
            assert "'nothing' is no duty" in told
            told = await node.operate("start", expect=2, CV3_WORKERS="many")
            assert "CV3_WORKERS" in told


@pytest.fixture
async def plain(tmp_path, mongo_url, redis_url):
    """The operator's words on an app that is not ours; each test starts it."""
    shutil.copy(ROOT / "tests" / "support" / "plain_app.py", tmp_path)
    async with nodes.kept(tmp_path, mongo_url, redis_url, CV3_APP_MODULE="plain_app:app") as node:
        yield node


class TestParameters:
    async def test_each_published_variable_has_its_effect(self, tmp_path, mongo_url, redis_url):
        (tmp_path / "other").mkdir()
        program = tmp_path / "my-hypercorn"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/arguments"\n'
            f'exec "{sys.executable}" -m hypercorn "$@"\n'
        )
        program.chmod(0o755)
        shutil.copy(ROOT / "tests" / "support" / "plain_app.py", tmp_path)
        async with nodes.kept(
            tmp_path,
            mongo_url,
            redis_url,
            CV3_APP_MODULE="plain_app:app",
            CV3_HYPERCORN_PATH=str(program),
            CV3_LOGFILE="other/server.log",
            CV3_ACCESS_LOG_FILE="other/asked.log",
            CV3_ERROR_LOG_FILE="other/errors.log",
            CV3_PIDFILE="other/server.pid",
            CV3_GRACEFUL_TIMEOUT="7",
        ) as node:
            answer = await node.call("GET", "/health/live", None)
            assert answer.json == {"plain": True}
            given = (tmp_path / "arguments").read_text().split("\n")
            assert given[0] == "plain_app:app"
            assert given[given.index("--graceful-timeout") + 1] == "7"
            assert (tmp_path / "other" / "server.log").exists()
            assert "GET /health/live" in (tmp_path / "other" / "asked.log").read_text()
            assert "Running on" in (tmp_path / "other" / "errors.log").read_text()
            (pid,) = (await node.pids()).values()
            assert (tmp_path / "other" / "server.pid").read_text() == str(pid)
            assert not (tmp_path / "hypercorn.log").exists()

    async def test_a_foreign_process_of_a_stale_pid_file_is_left_alone(self, plain, tmp_path):
        await plain.operate("stop")
        assert "not running" in await plain.operate("stop")
        foreign = await asyncio.create_subprocess_exec("sleep", "300")
        try:
            (tmp_path / "hypercorn.pid").write_text(str(foreign.pid))
            lie = {"pid": foreign.pid, "started": "1"}
            (tmp_path / "run" / "guard.lock").write_text(json.dumps(lie))
            child = {"name": "app", "state": "running", "doing": "", "restarts": 0, "process": lie}
            told = {"guard": lie, "state": "ready", "address": "", "children": [child]}
            (tmp_path / "run" / "status.json").write_text(json.dumps(told))
            await plain.operate("status", expect=3)
            await plain.operate("stop")
            await plain.operate("start")
            pid = (await plain.pids())["app"]
            assert (tmp_path / "hypercorn.pid").read_text() == str(pid)
            assert foreign.returncode is None
        finally:
            foreign.kill()
            await foreign.wait()

    async def test_a_taken_address_is_named(self, plain):
        await plain.operate("stop")
        host, port = plain.environ["CV3_BIND"].split(":")
        with socket.socket() as foreign:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            foreign.bind((host, int(port)))
            foreign.listen()
            assert plain.environ["CV3_BIND"] in await plain.operate("start", expect=1)

    async def test_two_instances_run_side_by_side(self, plain, tmp_path_factory):
        folder = tmp_path_factory.mktemp("second")
        for name in ("instance_config.json", "plain_app.py"):
            shutil.copy(plain.folder / name, folder)
        second = {
            "CV3_CONFIG": str(folder / "instance_config.json"),
            "CV3_APP_PATH": str(folder),
            "CV3_BIND": f"127.0.0.1:{services.free_port()}",
        }
        first = await plain.pids()
        await plain.operate("start", **second)
        told = json.loads(await plain.operate("status", "--json", **second))
        assert told["address"] == f"http://{second['CV3_BIND']}"
        await plain.operate("stop", **second)
        assert await plain.pids() == first
        assert (await plain.call("GET", "/health/live", None)).status == 200


class TestStop:
    async def ask_slowly(self, node, seconds):
        arrived = node.folder / "arrived"
        asking = asyncio.create_task(
            node.call("GET", f"/slow?seconds={seconds}&arrived={arrived}", None)
        )
        await until(lambda: asyncio.sleep(0, arrived.exists()))
        return asking

    async def test_a_running_request_is_answered_before_the_end(self, plain):
        asking = await self.ask_slowly(plain, 3)
        await plain.operate("stop")
        assert (await asking).json == {"slow": True}

    async def test_a_reload_waits_for_running_requests_too(self, plain):
        asking = await self.ask_slowly(plain, 3)
        await plain.operate("reload")
        assert (await asking).json == {"slow": True}

    async def test_the_time_limit_ends_what_does_not_end(self, plain):
        await plain.operate("restart", CV3_GRACEFUL_TIMEOUT="1")
        asking = await self.ask_slowly(plain, 200)
        # Without the limit this would take as long as the request.
        async with asyncio.timeout(60):
            await plain.operate("stop")
        # Or its connection ends with the process.
        with suppress(aiohttp.ClientError):
            assert (await asking).status == 500

    async def test_a_running_job_may_end_too(self, tmp_path, mongo_url, redis_url):
        async with nodes.kept(tmp_path, mongo_url, redis_url) as node:
            source = await node.source("stopped")
            rows = "".join(f"s{number},{number % 90}\n" for number in range(3_000))
            file = await node.upload(source, "many.csv", f"subjectID,age\n{rows}".encode())
            pipeline = await node.call("POST", "/pipelines/", json=reading(attribute="subjectID"))
            asked = {"dataFileIDs": [file], "pipelineID": pipeline.json["pipelineId"]}
            answer = await node.call("POST", f"/sources/{source}/ingest", json=asked)
            path = f"/jobs/{answer.json['jobId']}"

            async def runs():
                return (await node.call("GET", path)).json["state"] == "running"

            await until(runs)
            await node.operate("stop")
            await node.operate("start")
            job = await node.ended(answer.json["jobId"])
            assert job["state"] == "complete", job
            assert job.get("attempts", 1) == 1
            assert job["result"]["subjects"] == 3_000

    async def test_a_killed_guard_leaves_nothing_behind_and_start_heals(self, plain):
        told = await plain.status()
        assert send(identify(told["guard"]["pid"]), signal.SIGKILL)
        (pid,) = (each["process"]["pid"] for each in told["children"])
        await until(lambda: asyncio.sleep(0, identify(pid) is None))
        await plain.operate("status", expect=3)
        await plain.operate("start")
        assert (await plain.call("GET", "/health/live", None)).status == 200


class TestServices:
    async def test_a_broker_that_is_down_is_named_and_needs_no_restart(self, tmp_path, mongo_url):
        try:
            with services.valkey() as valkey:
                async with nodes.kept(tmp_path, mongo_url, valkey.url) as node:
                    pids = await node.pids()
                    valkey.kill()
                    answer = await node.call("GET", "/health/ready", None)
                    assert answer.status == 503
                    told = answer.json["services"]
                    assert not told["broker"]["ok"]
                    assert "Redis" in told["broker"]["detail"]
                    assert told["database"]["ok"]
                    # Started while it is down, it lives and says what it waits for.
                    await node.operate("stop")
                    told = await node.operate("start", expect=1)
                    assert "broker: " in told
                    valkey.start()

                    async def is_ready():
                        return (await node.call("GET", "/health/ready", None)).status == 200

                    await until(is_ready)
                    assert set(await node.pids()) == set(pids)
        except services.Missing as missing:
            pytest.skip(str(missing))


class TestServiceManager:
    async def test_the_guard_speaks_to_systemd_and_ends_well(self, plain, tmp_path_factory):
        await plain.operate("stop")
        path = tmp_path_factory.mktemp("n") / "notify"
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with heard:
            heard.bind(str(path))
            heard.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cvf_app.local", "run"),
                env=plain.environ | {"NOTIFY_SOCKET": str(path)},
                cwd="/",
            )
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(60):
                assert (await loop.sock_recv(heard, 4096)).startswith(b"READY=1")
                (pid,) = (await plain.pids()).values()
                assert "NOTIFY_SOCKET" not in environment_of(pid)
                process.terminate()
                assert await loop.sock_recv(heard, 4096) == b"STOPPING=1"
                assert await process.wait() == 0

    def test_the_unit_file_is_right(self, tmp_path):
        text = UNIT.read_text()
        commands = [line for line in text.splitlines() if line.startswith("Exec")]
        assert all("/opt/cafe-variome/CafeVariome3.sh" in line for line in commands)
        program = shutil.which("systemd-analyze")
        if program is None:
            return
        unit = tmp_path / UNIT.name
        unit.write_text(
            text.replace("/opt/cafe-variome/CafeVariome3.sh", str(SCRIPT)).replace(
                "User=cafe-variome\nGroup=cafe-variome\n", ""
            )
        )
        checked = subprocess.run(
            [program, "verify", "--man=no", str(unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        ours = [line for line in checked.stderr.splitlines() if UNIT.name in line]
        assert ours == [], checked.stderr
        assert checked.returncode == 0, checked.stderr


class TestGivenUp:
    async def run(self, folder, *, gives_up):
        layout = Layout(folder)
        layout.make_run()
        child = Child(name="app", doing="", command=("false",), log=folder / "app.log", is_app=True)
        guard = Guard(
            layout,
            [child],
            sockets={},
            address="",
            environ=dict(os.environ),
            done={},
            gives_up=gives_up,
            pauses=(0.01, 0.02),
        )
        return layout, asyncio.ensure_future(guard.run())

    async def test_a_child_that_keeps_dying_is_given_up_and_said_so(self, tmp_path):
        layout, running = await self.run(tmp_path, gives_up=False)

        async def is_given_up():
            if not layout.status.exists():
                return False
            told = json.loads(layout.status.read_bytes())
            return told["state"] == "failed" and told["children"][0]["state"] == "given up"

        await until(is_given_up)
        assert json.loads(layout.status.read_bytes())["children"][0]["restarts"] == 2
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0

    async def test_in_the_foreground_the_guard_ends_so_that_its_keeper_hears_of_it(self, tmp_path):
        _, running = await self.run(tmp_path, gives_up=True)
        assert await running == 1


class TestInstall:
    def shell(self, home, *words):
        environ = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "CV3_VENV": sys.prefix,
        }
        return subprocess.run(
            words, env=environ, cwd="/", capture_output=True, text=True, check=False
        )

    @pytest.mark.parametrize("before", [None, "", "alias x=1\n", "alias x=1"])
    def test_uninstall_takes_back_exactly_what_install_did(self, tmp_path, before):
        bashrc = tmp_path / ".bashrc"
        if before is not None:
            bashrc.write_text(before)
        folder = tmp_path / "it's here" / "cv3"
        for _ in range(2):
            done = self.shell(tmp_path, str(SCRIPT), "install", str(folder))
            assert done.returncode == 0, done.stderr
        assert bashrc.read_text().count(">>> Cafe Variome 3 >>>") == 1
        found = self.shell(
            tmp_path, "bash", "-c", '. ~/.bashrc; command -v CafeVariome3; echo "$CV3_APP_PATH"'
        )
        assert found.stdout.split("\n")[:2] == [f"{folder}/CafeVariome3", str(folder)]
        done = self.shell(tmp_path, str(folder / "CafeVariome3"), "uninstall")
        assert done.returncode == 0, done.stderr
        assert not folder.exists()
        assert (bashrc.read_text() if bashrc.exists() else None) == before

    def test_what_a_person_put_there_stays(self, tmp_path):
        folder = tmp_path / "cv3"
        folder.mkdir()
        (folder / "instance_config.json").write_text("{}")
        assert self.shell(tmp_path, str(SCRIPT), "install", str(folder)).returncode == 0
        bashrc = tmp_path / ".bashrc"
        bashrc.write_text(bashrc.read_text() + "alias later=1\n")
        assert self.shell(tmp_path, str(SCRIPT), "uninstall").returncode == 0
        assert [each.name for each in folder.iterdir()] == ["instance_config.json"]
        assert bashrc.read_text() == "alias later=1\n"
        assert "Nothing is installed" in self.shell(tmp_path, str(SCRIPT), "uninstall").stderr
