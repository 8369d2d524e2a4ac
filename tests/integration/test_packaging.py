"""The wheel and the binary, built, started and called; the files of the container, read."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import venv
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from cvf_app.config import Config, load
from cvf_app.overrides import PREFIX, overridden
from tests.support import nodes, services

ROOT = Path(__file__).resolve().parents[2]
slow = pytest.mark.skipif(not os.environ.get("CV3_SLOW"), reason="CV3_SLOW is not set")
IN_A_CHILD = """
import asyncio
from cvf_app.loops import in_process
from cvf_app.pipelines.attributes import Units, check_units
print(asyncio.run(in_process(check_units, Units(units=((0, "kg"),)))))
"""
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
IN_CLEAR = re.compile(r"PASSWORD|SECRET|KEY$|Password|Key$")


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage of the Containerfile."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and line[0] != "#"]
    found: list[list[tuple[str, str]]] = []
    for word, rest in lines:
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


class TestContainerfile:
    def test_every_word_is_an_instruction(self):
        known = "FROM WORKDIR COPY RUN LABEL ENV USER VOLUME EXPOSE STOPSIGNAL HEALTHCHECK "
        known += "ENTRYPOINT CMD"
        assert {word for stage in stages() for word, _ in stage} <= set(known.split())

    def test_what_is_copied_is_there(self):
        for stage in stages():
            for word, rest in stage:
                if word == "COPY" and not rest.startswith("--from"):
                    assert all((ROOT / name).exists() for name in rest.split()[:-1]), rest

    def test_it_runs_as_a_user_of_its_own_with_a_health_check(self):
        last = dict(stages()[-1])
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
        assert last["STOPSIGNAL"] == "SIGTERM"
        assert "status" in last["HEALTHCHECK"]
        assert json.loads(last["ENTRYPOINT"]) == ["cafe-variome"]
        assert json.loads(last["CMD"]) == ["run"]
        assert re.search(r":\d+\.\d+", last["FROM"])

    def test_its_configuration_is_right(self):
        load(ROOT / "docs" / "operations" / "container" / "instance_config.json", {})


class TestCompose:
    @pytest.fixture
    def stack(self):
        return yaml.safe_load((ROOT / "compose.yaml").read_text())

    def test_every_service_can_be_asked_how_it_is_and_is_pinned(self, stack):
        for name, service in stack["services"].items():
            assert "healthcheck" in service or "build" in service, name
            assert re.search(r":\d", service["image"]), name
            assert service["restart"] == "unless-stopped"

    def test_what_is_needed_or_mounted_is_there(self, stack):
        for service in stack["services"].values():
            assert set(service.get("depends_on", ())) <= set(stack["services"])
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                known = (ROOT / source).exists() if source.startswith(".") else source
                assert known is True or known in stack["volumes"]

    def test_every_key_is_one_of_the_configuration(self, stack):
        given = {
            name: str(value)
            for name, value in stack["services"]["app"]["environment"].items()
            if name.startswith(PREFIX)
        }
        assert len(given) > 10
        overridden({}, Config, given)

    def test_no_secret_stands_in_clear(self, stack):
        for service in stack["services"].values():
            for name, value in service.get("environment", {}).items():
                if IN_CLEAR.search(name):
                    assert value.startswith("${"), name

    def test_nothing_is_published_beyond_this_machine(self, stack):
        for service in stack["services"].values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


async def answers(address: str, path: str) -> bytes:
    def ask() -> bytes:
        until = time.monotonic() + 120
        while True:
            try:
                with urlopen(address + path, timeout=10) as answer:
                    return answer.read()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    return await asyncio.to_thread(ask)


async def word(command: list[str], word: str, environ: dict[str, str]) -> int:
    process = await asyncio.create_subprocess_exec(*command, word, env=environ, cwd="/")
    return await process.wait()


async def called(folder, mongo_url, redis_url, command: list[str]) -> None:
    """Start the package on an instance, call it, and end it; nothing of the checkout is there."""
    async with nodes.installed(folder, mongo_url, redis_url):
        port = services.free_port()
        environ = {
            "HOME": str(folder),
            "PATH": "/usr/bin:/bin",
            "CV3_CONFIG": str(folder / "instance_config.json"),
            "CV3_BIND": f"127.0.0.1:{port}",
            "CV3_WORKERS": "2",
        }
        process = await asyncio.create_subprocess_exec(*command, "run", env=environ, cwd=folder)
        address = f"http://127.0.0.1:{port}"
        try:
            health = json.loads(await answers(address, "/health/ready"))
            assert health["ready"]
            assert health["version"] != "unknown"
            description = json.loads(await answers(address, "/openapi/openapi-all.json"))
            assert description["paths"]["/record/"]
            assert b"swagger-ui" in await answers(address, "/docs")
            assert len(await answers(address, "/docs/swagger-ui-bundle.js")) > 100_000
            # The second process may still be starting.
            async with asyncio.timeout(120):
                while await word(command, "status", environ) != 0:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.5)
            assert await word(command, "reload", environ) == 0
        finally:
            process.terminate()
            ended = await process.wait()
        assert ended == 0
        assert not list((folder / "run").glob("status.json"))


def ran(*command: object, **more) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **more
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def install(wheel: Path, python: Path, folder: Path) -> None:
    """Install a wheel with uv, which is quick, or with pip, which knows of more indices."""
    # The checkout must not be found: it would count as installed.
    clean = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    uv = (Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--python", python)
    if subprocess.run([*uv, wheel], env=clean, cwd=folder, check=False).returncode != 0:
        ran(*PIP, "--python", python, "install", wheel, env=clean, cwd=folder)


@slow
@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestPackages:
    async def test_the_wheel_works_in_an_empty_environment(self, tmp_path, mongo_url, redis_url):
        wheels, empty = tmp_path / "wheels", tmp_path / "empty"
        ran(*PIP, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT)
        (wheel,) = wheels.glob("*.whl")
        venv.create(empty)
        install(wheel, empty / "bin" / "python", tmp_path)
        plain = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        assert "Cafe Variome" in ran(empty / "bin" / "cvf", "--help", env=plain, cwd="/")
        ran(empty / "bin" / "python", "-m", "cvf_app", "duties", env=plain, cwd="/")
        (tmp_path / "node").mkdir()
        await called(tmp_path / "node", mongo_url, redis_url, [str(empty / "bin" / "cafe-variome")])

    async def test_the_binary_works_by_itself(self, tmp_path, mongo_url, redis_url):
        ran(sys.executable, ROOT / "scripts" / "build_binary.py", "--out", tmp_path, cwd=ROOT)
        binary = tmp_path / "cafe-variome"
        plain = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        assert "Cafe Variome" in ran(binary, "cvf", "--help", env=plain, cwd="/")
        assert "scheduler" in ran(binary, "duties", env=plain, cwd="/")
        assert "Looked" in ran(binary, "-c", IN_A_CHILD, env=plain, cwd="/")
        (tmp_path / "node").mkdir()
        await called(tmp_path / "node", mongo_url, redis_url, [str(binary)])
