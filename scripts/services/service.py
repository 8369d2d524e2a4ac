"""What every server is here: how it is fetched, started, asked and described.

A server is one subclass; `running.py` does with each the same. `settle` is what has to be done
after it answers and before it is of use, such as unsealing.
"""

import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from scripts.services.asking import LOOPBACK
from scripts.services.cache import Cache
from scripts.services.errors import NotAvailable, NotInstalled
from scripts.services.home import Home

LEAST_JAVA = 17


class Service(ABC):
    """One server."""

    name: ClassVar[str]
    what: ClassVar[str]
    """What it is, in a few words."""
    port_names: ClassVar[tuple[str, ...]] = ("port",)
    start_seconds: ClassVar[float] = 60.0
    stop_seconds: ClassVar[float] = 20.0
    stands_in: ClassVar[bool] = False
    """Whether it is something else than what a hospital runs, and only speaks its protocol."""
    by_name_only: ClassVar[bool] = False
    """Whether `up` without names passes it over."""

    @abstractmethod
    def install(self, cache: Cache) -> None:
        """Fetch and build what is missing.

        Raises:
            NotAvailable: this machine cannot have it.
            Failed: a step went wrong.
        """

    @abstractmethod
    def locate(self, cache: Cache) -> Path:
        """Return where its program is.

        Raises:
            NotAvailable: this machine cannot have it.
            NotInstalled: nobody fetched it yet.
        """

    @abstractmethod
    def command(self, cache: Cache, home: Home) -> list[str]:
        """Return the command that starts it, with all files that it needs written before."""

    @abstractmethod
    def answers(self, home: Home) -> bool:
        """Say whether it answers as it should."""

    def environment(self, home: Home) -> Mapping[str, str]:  # noqa: ARG002 - some servers need it
        """Return what it finds in its environment beside ours."""
        return {}

    def settle(self, home: Home) -> None:  # noqa: B027 - most servers are of use at once
        """Do what is needed after it answers.

        Raises:
            Failed: that went wrong.
        """

    def address(self, home: Home) -> str:
        """Return where it is called."""
        return f"http://{LOOPBACK}:{home.ports()[self.port_names[0]]}"

    def more(self, home: Home) -> dict[str, Any]:  # noqa: ARG002 - some servers have more to say
        """Return what else a caller wants to know."""
        return {}

    def missing(self) -> NotInstalled:
        """Return the fault that says how it is installed."""
        return NotInstalled(
            f"{self.name} is not installed here: run scripts/services.sh install {self.name}"
        )


def need(program: str, why: str, mend: str) -> str:
    """Return the path of a program.

    Raises:
        NotAvailable: it is not here.
    """
    found = shutil.which(program)
    if found is None:
        raise NotAvailable(f"there is no {program} on the PATH, {why}; {mend}")
    return found


@cache
def java() -> str:
    """Return the Java to run with.

    Raises:
        NotAvailable: there is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    named = Path(home, "bin", "java") if home else None
    mend = "install one (Debian: apt-get install openjdk-17-jdk-headless) or set JAVA_HOME"
    if named is not None and named.is_file():
        program = str(named)
    else:
        program = need("java", f"and Java {LEAST_JAVA} or newer is needed", mend)
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', told.stderr)
    if found is None or int(found[1]) < LEAST_JAVA:
        version = found[1] if found else "nothing known"
        raise NotAvailable(f"{program} is Java {version}, {LEAST_JAVA} is needed; {mend}")
    return program


def need_maven() -> None:
    """See that Maven is here, by its program.

    Raises:
        NotAvailable: it is not.
    """
    need("mvn", "and Maven fetches it", "install it (Debian: apt-get install maven)")
