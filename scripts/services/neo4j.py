"""Neo4j, community edition: one database, no plugins."""

import secrets
from functools import partial
from pathlib import Path
from typing import ClassVar

from scripts.services.asking import LOOPBACK, says
from scripts.services.cache import PROGRAMS, Cache, run
from scripts.services.databases import COPY
from scripts.services.home import Home
from scripts.services.service import Service, java, need_maven

VERSION = "5.26.30"
_SOURCE = PROGRAMS / "neo4j"
# Bolt's greeting: the magic number and the four versions that a client speaks.
_HANDSHAKE = bytes.fromhex("6060b017 00080805 00020404 00000104 00000003")
_CHOSEN = b"\x05"
_OPENS = (
    "java.base/java.nio",
    "java.base/java.io",
    "java.base/sun.nio.ch",
    "java.base/java.util.concurrent",
)
_JVM = (
    "-Xms512m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-OmitStackTraceInFastThrow",
    *(f"--add-opens={name}=ALL-UNNAMED" for name in _OPENS),
    "--enable-native-access=ALL-UNNAMED",
    "--add-modules",
    "jdk.incubator.vector",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dlog4j2.disable.jmx=true",
    "-Dfile.encoding=UTF-8",
)


class Neo4j(Service):
    """A server that speaks Bolt and asks for a password."""

    name: ClassVar[str] = "neo4j"
    what: ClassVar[str] = f"Neo4j {VERSION}"
    start_seconds: ClassVar[float] = 120.0
    stop_seconds: ClassVar[float] = 90.0

    def install(self, cache: Cache) -> None:
        """Fetch the jars."""
        java()
        if not cache.path(_place()).exists():
            need_maven()
        cache.make(_place(), "fetching 213 jars, 123 MB (about 40 s)", partial(_build, cache))

    def locate(self, cache: Cache) -> Path:
        """Return the folder of its jars."""
        java()
        place = cache.path(_place())
        if not place.exists():
            need_maven()
            raise self.missing()
        return place

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Write its configuration, set the first password, start it."""
        jars = f"{self.locate(cache)}/*"
        listens = f"{LOOPBACK}:{home.ports()['port']}"
        home.sub("conf")
        template = (_SOURCE / "neo4j.conf").read_text()
        home.write("conf/neo4j.conf", template.replace("LISTENS", listens))
        if not home.credentials():
            known = home.credentials(
                lambda: {"username": "neo4j", "password": secrets.token_urlsafe(24)}
            )
            # Its administration knows no other way than the command line to be told a password.
            admin = ["org.neo4j.server.startup.Neo4jAdminCommand", "dbms", "set-initial-password"]
            folders = {"NEO4J_HOME": str(home.folder), "NEO4J_CONF": str(home.sub("conf"))}
            command = [java(), "-XX:TieredStopAtLevel=1", "-cp", jars, *admin, known["password"]]
            run(command, home.folder, folders)
        main = ["org.neo4j.server.CommunityEntryPoint", f"--home-dir={home.folder}"]
        main += [f"--config-dir={home.sub('conf')}", "--console-mode"]
        return [java(), "-cp", jars, *_JVM, *main]

    def address(self, home: Home) -> str:
        """Return its Bolt address."""
        return f"bolt://{LOOPBACK}:{home.ports()['port']}"

    def answers(self, home: Home) -> bool:
        """Say whether it agrees on a version of Bolt."""
        return says(home.ports()["port"], _HANDSHAKE, _CHOSEN)


def _place() -> str:
    return f"neo4j-{VERSION}"


def _build(cache: Cache, folder: Path) -> None:
    pom = ["-f", str(_SOURCE / "pom.xml")]
    copied = [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
    run([*cache.maven(), *pom, COPY, *copied], folder)
