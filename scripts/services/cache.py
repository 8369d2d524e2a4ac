"""The cache folder: what was fetched and built, once, for all data folders of this machine.

Promises: a thing is made in a folder beside its place and moved there when it is whole, so that
a step that was broken off is simply made again; two processes never make the same thing at once;
what is there is left alone. A thing's name carries its version and what it was made from.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.services.errors import Failed

PROGRAMS = Path(__file__).parent / "programs"
_LAST_WORDS = 2000


def default_cache() -> Path:
    """Return the folder that `CV3_SERVICES_CACHE` names, else one in the user's cache."""
    named = os.environ.get("CV3_SERVICES_CACHE")
    return Path(named).absolute() if named else Path.home() / ".cache" / "cafe-variome-services"


def say(sentence: str) -> None:
    """Tell the person at the terminal; standard output is kept for results."""
    print(sentence, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Cache:
    """One cache folder."""

    folder: Path

    def path(self, name: str) -> Path:
        """Return where a thing is, or would be."""
        return self.folder / name

    def make(self, name: str, doing: str, build: Callable[[Path], None]) -> Path:
        """Return a thing, made first when it is not there.

        Raises:
            Failed: the making went wrong.
        """
        place = self.path(name)
        if place.exists():
            return place
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone(name):
            if place.exists():
                return place
            say(f"{name}: {doing} …")
            begin = time.monotonic()
            unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.folder))
            try:
                build(unfinished)
                unfinished.rename(place)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            say(f"{name}: done in {time.monotonic() - begin:.0f} s")
        return place

    def maven(self) -> list[str]:
        """Return how Maven is called, with its own repository in the cache."""
        return ["mvn", "-B", "-q", f"-Dmaven.repo.local={self.path('maven')}"]

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with self.path(f".{name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def run(command: list[str], folder: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a step of an installation and return what it printed.

    Raises:
        Failed: it ended with a fault; the last of what it said is in the text.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=dict(os.environ) | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(
            f"{' '.join(command[:4])} … ended with {done.returncode}:\n{_end(done.stdout)}"
        )
    return done.stdout


def digest(*files: Path) -> str:
    """Return a short name of what these files say, so that a change makes a new thing."""
    read = hashlib.sha256()
    for file in files:
        read.update(file.read_bytes())
    return read.hexdigest()[:8]


def _end(text: str) -> str:
    return text[-_LAST_WORDS:].strip()
