"""A fresh local instance in a folder of its own, for demonstrations that run one and kill parts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bench.memory import descendants
from cvf_app.console.failures import Failure, NotReached
from cvf_app.console.server import Server
from cvf_app.console.session import Sessions
from cvf_app.local.guard import GuardStatus
from cvf_app.local.layout import Layout, read, write

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 30.0
_DYING_SECONDS = 2.0


class Breach(Exception):
    """Something did not hold so that going on makes no sense."""


class Instance:
    """A fresh local instance in a folder of its own, and the command line that talks to it."""

    def __init__(self, folder: Path) -> None:
        """Use this folder; nothing is started yet."""
        self.layout = Layout(folder / "instance")
        self.env = dict(os.environ)
        if sys.prefix != sys.base_prefix:
            self.env.setdefault("CV3_VENV", sys.prefix)
        self.env |= {
            "XDG_CONFIG_HOME": str(folder / "config"),
            "CV3_DATA": str(self.layout.folder),
            "PYTHONPATH": str(ROOT / "src"),
        }
        for name in ("CV3_CONFIG", "CV3_SERVER", "CV3_BIND"):
            self.env.pop(name, None)

    def run(self, *command: str) -> str:
        """Run a command in the checkout and return what it printed; a failure ends it all."""
        print(f"$ {' '.join(command)}", flush=True)
        done = subprocess.run(
            command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Breach(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def cvf(self, *words: str) -> Any:  # noqa: ANN401 - whatever JSON the command prints
        """Run `cvf … --json` and return what it printed."""
        printed = self.run(sys.executable, "-m", "cvf_app.console", *words, "--json")
        return json.loads(printed) if printed.strip() else None

    def up(self) -> None:
        """Make and start it, and log in."""
        self.run("./CafeVariome3.sh", "local", "--data", str(self.layout.folder))
        self.cvf("login")

    def configure(self, blocks: dict[str, Any]) -> None:
        """Put whole blocks into the configuration in place of what they were, and restart."""
        write(self.layout.config, json.loads(self.layout.config.read_bytes()) | blocks)
        self.run("./CafeVariome3.sh", "restart", "--data", str(self.layout.folder))

    def stop(self) -> None:
        """Stop all its processes."""
        command = ["./CafeVariome3.sh", "stop", "--data", str(self.layout.folder)]
        subprocess.run(command, cwd=ROOT, env=self.env, check=False)

    def server(self) -> Server:
        """Return the instance as its administrator asks it."""
        sessions = Sessions(Path(self.env["XDG_CONFIG_HOME"]) / "cafe-variome")
        session = sessions.read()
        if session is None:
            raise Breach("cvf login kept no session")
        address = session.server
        return Server(address, lambda anew: sessions.token(address, anew=anew))

    def token(self) -> str:
        """Return a good access token of its administrator."""
        sessions = Sessions(Path(self.env["XDG_CONFIG_HOME"]) / "cafe-variome")
        session = sessions.read()
        if session is None:
            raise Breach("cvf login kept no session")
        return sessions.token(session.server, anew=False)

    def app(self) -> int | None:
        """Return the process id of the app, if it runs."""
        told = read(self.layout.status, GuardStatus)
        for child in told.children if told else ():
            if child.name == "app" and child.process is not None:
                return child.process.pid
        return None

    def kill(self) -> tuple[int, list[int]]:
        """Kill the app, and see that the guard starts another.

        Return how many children it had, and those of the whole tree that outlived it.
        """
        app = self.app()
        if app is None:
            raise Breach("there is no app to kill")
        tree = descendants(app)
        os.kill(app, signal.SIGKILL)
        until = time.monotonic() + _PATIENCE_SECONDS
        while self.app() in (app, None):
            if time.monotonic() > until:
                raise Breach("the guard starts no other app")
            time.sleep(LOOK_SECONDS)
        until = time.monotonic() + _DYING_SECONDS
        while (left := [pid for pid in tree if lives(pid)]) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        return len(tree) - 1, left

    def guard(self) -> int | None:
        """Return the process id of the guard, if it runs."""
        told = read(self.layout.status, GuardStatus)
        return told.guard.pid if told else None


def lives(pid: int) -> bool:
    """Say whether a process is there and not only waits for somebody to hear that it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def insist(call: Callable[[], T]) -> T:
    """Ask again while the app is being started anew."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return call()
        except (NotReached, Failure) as fault:
            if time.monotonic() > until:
                raise Breach(f"the instance does not answer any more: {fault}") from fault
            time.sleep(LOOK_SECONDS)
