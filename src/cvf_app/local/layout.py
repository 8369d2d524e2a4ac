"""The data folder of an instance: where everything lies, and what is kept about it.

Promises: folders are 0700 and files 0600 whatever the umask of the caller; a file is replaced
whole or not at all.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cvf_app.errors import Invalid
from cvf_app.wire import Wire, decode, encode

T = TypeVar("T")
_LONGEST_SOCKET_PATH = 100
_LONGEST_SOCKET_NAME = 20


class Ports(Wire, frozen=True, kw_only=True):
    """The loopback ports of an instance, chosen once and kept."""

    app: int
    database: int
    identity: int


class LocalState(Wire, frozen=True, kw_only=True):
    """How far the making of a local instance came; each step sets its own mark."""

    ports: Ports
    database_ready: bool = False
    identity_ready: bool = False
    installed: bool = False


class Administrator(Wire, frozen=True, kw_only=True):
    """The first person of a local instance, and where to log in; `cvf login` reads it."""

    username: str
    password: str
    email: str
    subject: str
    address: str
    issuer: str
    client: str


@dataclass(frozen=True)
class Layout:
    """The paths inside one data folder."""

    folder: Path

    @property
    def config(self) -> Path:
        """Return the configuration file of the app."""
        return self.folder / "instance_config.json"

    @property
    def state(self) -> Path:
        """Return what local mode remembers of the instance."""
        return self.folder / "local.json"

    @property
    def secrets(self) -> Path:
        """Return the folder of secrets."""
        return self.folder / "secrets"

    @property
    def keystore(self) -> Path:
        """Return the folder of the file keystore."""
        return self.secrets / "keystore"

    @property
    def administrator(self) -> Path:
        """Return the file with the login of the first person."""
        return self.secrets / "administrator.json"

    @property
    def logs(self) -> Path:
        """Return the folder of logs, one file for each part."""
        return self.folder / "logs"

    @property
    def run(self) -> Path:
        """Return the folder of what only matters while the instance runs."""
        return self.folder / "run"

    @property
    def lock(self) -> Path:
        """Return the file that a running guard holds locked."""
        return self.run / "guard.lock"

    @property
    def status(self) -> Path:
        """Return the file in which the guard says how its children are."""
        return self.run / "status.json"

    @property
    def database_settings(self) -> Path:
        """Return the database's own settings file, which stays empty: the command line says all."""
        return self.folder / "database.toml"

    @property
    def uploads(self) -> Path:
        """Return the folder of uploaded files and segments."""
        return self.folder / "data"

    @property
    def metrics(self) -> Path:
        """Return the folder in which the processes of the app share their metrics."""
        return self.folder / "metrics"

    @property
    def valkey_socket(self) -> Path:
        """Return the broker's socket."""
        return self.socket("valkey.sock")

    def socket(self, name: str) -> Path:
        """Return the place of a unix socket: in the folder, or where its path is short enough.

        A unix socket's path has about 104 characters at most, so a deep folder gets one
        in the temporary folder, in a folder of ours that nobody else may enter.
        """
        inside = self.run / name
        if len(str(inside)) <= _LONGEST_SOCKET_PATH:
            return inside
        short = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cv3-{os.getuid()}-{short}" / name

    def make_run(self) -> None:
        """Make what a guard needs, for the owner alone; what is there already stays as it is.

        Raises:
            Invalid: a folder belongs to somebody else or cannot be made.
        """
        sockets = self.socket("x" * _LONGEST_SOCKET_NAME).parent
        for folder in (self.logs, self.run, sockets, self.metrics):
            _own(folder)

    def make(self) -> None:
        """Make the folders that are missing, for the owner alone.

        Raises:
            Invalid: the folder belongs to somebody else or cannot be made.
        """
        socket_folder = self.valkey_socket.parent
        inside = (self.secrets, self.logs, self.run, self.uploads)
        for folder in (self.folder, *inside, socket_folder):
            _own(folder)
        self.database_settings.touch(mode=0o600)


def _own(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as fault:
        raise Invalid(f"The folder {folder} cannot be made ours: {fault.strerror}.") from fault


def write(path: Path, value: object) -> None:
    """Write a value as JSON, for the owner alone, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(encode(value) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)


def read(path: Path, kind: type[T]) -> T | None:
    """Read a value that `write` wrote, or None when there is none.

    Raises:
        Invalid: the file is there and is no such value.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    return decode(raw, kind)
