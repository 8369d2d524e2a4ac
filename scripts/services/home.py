"""The folder of one server in one data folder: its ports, its process, its secrets, its log.

Promises: files appear whole; secrets are read by their owner alone; the ports stay the same from
one start to the next, so that an address that was given out stays good.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.services.processes import Identity

_LAST_WORDS = 1500


@dataclass(frozen=True)
class Home:
    """One such folder."""

    folder: Path

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "log"

    @property
    def credentials_file(self) -> Path:
        """Where the secrets stand."""
        return self.folder / "credentials.json"

    def make(self) -> None:
        """Make the folder, for its owner alone."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def sub(self, name: str) -> Path:
        """Return a folder inside, made when it is not there."""
        inside = self.folder / name
        inside.mkdir(parents=True, exist_ok=True, mode=0o700)
        return inside

    def ports(self) -> dict[str, int]:
        """Return the ports that were chosen, by their names; empty before the first start."""
        return dict(self._read("ports.json"))

    def keep_ports(self, ports: Mapping[str, int]) -> None:
        """Keep the ports for good."""
        self.write("ports.json", json.dumps(ports))

    def process(self) -> Identity | None:
        """Return the process that was started last and not stopped since."""
        told = self._read("process.json")
        return Identity(**told) if told else None

    def keep_process(self, process: Identity | None) -> None:
        """Keep which process was started, or that it was stopped."""
        if process is None:
            (self.folder / "process.json").unlink(missing_ok=True)
        else:
            self.write("process.json", json.dumps(vars(process)))

    def credentials(self, make: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
        """Return the secrets, made and kept when there are none yet."""
        told = self._read("credentials.json")
        if not told and make is not None:
            told = make()
            self.write("credentials.json", json.dumps(told, indent=1))
        return told

    def write(self, name: str, text: str) -> None:
        """Write a file in one step, for its owner alone."""
        path = self.folder / name
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(unfinished, flags, 0o600), "w") as out:
            out.write(text)
        unfinished.replace(path)

    def last_words(self) -> str:
        """Return the end of the log."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second command away from this server until the end of the block."""
        self.make()
        with (self.folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self, name: str) -> dict[str, Any]:
        try:
            told = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            # Written in one step, so only a person or a broken disk can have left it so.
            return {}
        return told if isinstance(told, dict) else {}
