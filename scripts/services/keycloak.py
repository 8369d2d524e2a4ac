"""Keycloak: the identity provider of full mode, with its database in a file of its own."""

import json
import secrets
import shutil
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from scripts.services import running
from scripts.services.asking import LOOPBACK, http_call
from scripts.services.cache import Cache, run
from scripts.services.home import Home
from scripts.services.service import Service, java, need_maven

VERSION = "26.7.3"
_FETCH = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get"
_DATABASE = "keycloakdb.mv.db"
_OK = 200


class Keycloak(Service):
    """A server with the realm `master` and one administrator; a realm of ours is made by others."""

    name: ClassVar[str] = "keycloak"
    what: ClassVar[str] = f"Keycloak {VERSION}"
    port_names: ClassVar[tuple[str, ...]] = ("port", "management")
    start_seconds: ClassVar[float] = 180.0

    def install(self, cache: Cache) -> None:
        """Fetch the distribution and build it for the way it is started here."""
        java()
        if not cache.path(_place()).exists():
            need_maven()
        doing = "fetching 177 MB and building (about 30 s)"
        cache.make(_place(), doing, partial(_build, cache))
        doing = "filling a first database (about 15 s), so that each start need not"
        cache.make(_filled(), doing, partial(_fill, self, cache))

    def locate(self, cache: Cache) -> Path:
        """Return the program; it needs Java to run as well."""
        java()
        place = cache.path(_place())
        if not place.exists():
            need_maven()
            raise self.missing()
        return place / "bin" / "kc.sh"

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Start it optimised, on loopback alone, without a cluster."""
        ports = home.ports()
        database = home.sub("h2") / "keycloakdb"
        home.credentials(lambda: _first_database(cache, home))
        return [
            str(self.locate(cache)),
            "start",
            "--optimized",
            # At run time only: without it the cluster's own port listens on a public address.
            "--cache=local",
            "--http-enabled=true",
            f"--http-host={LOOPBACK}",
            f"--http-port={ports['port']}",
            f"--hostname={self.address(home)}",
            f"--http-management-host={LOOPBACK}",
            f"--http-management-port={ports['management']}",
            f"--db-url=jdbc:h2:file:{database};NON_KEYWORDS=VALUE;DB_CLOSE_ON_EXIT=FALSE",
        ]

    def environment(self, home: Home) -> Mapping[str, str]:
        """Give it its first administrator, whom it makes once, and a bound on its memory."""
        known = home.credentials()
        return {
            "KC_BOOTSTRAP_ADMIN_USERNAME": known["username"],
            "KC_BOOTSTRAP_ADMIN_PASSWORD": known["password"],
            "JAVA": java(),
            "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx768m",
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
        }

    def answers(self, home: Home) -> bool:
        """Say whether its first realm is there: the port opens long before, and answers 503."""
        return http_call(f"{self.address(home)}/realms/master")[0] == _OK

    def more(self, home: Home) -> dict[str, Any]:
        """Return where its health is asked."""
        return {"management": f"http://{LOOPBACK}:{home.ports()['management']}"}


def _build(cache: Cache, folder: Path) -> None:
    artifact = f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
    run([*cache.maven(), _FETCH, artifact, "-Dtransitive=false"], folder)
    name = f"keycloak-quarkus-dist-{VERSION}.zip"
    archive = cache.path("maven") / f"org/keycloak/keycloak-quarkus-dist/{VERSION}/{name}"
    unpack(archive, folder)
    archive.unlink()
    build = [str(folder / "bin" / "kc.sh"), "build", "--db=dev-file", "--health-enabled=true"]
    run(build, folder, {"JAVA": java()})


def _fill(service: Service, cache: Cache, folder: Path) -> None:
    # Schema, realm `master` and its keys take most of a first start. Whoever starts from a copy has
    # the same administrator and the same keys of `master`: enough for tests, and nothing else.
    running.up(service, cache, folder)
    running.down(service, folder)
    home = Home(folder / service.name)
    shutil.copyfile(home.folder / "h2" / _DATABASE, folder / _DATABASE)
    home.credentials_file.rename(folder / home.credentials_file.name)
    shutil.rmtree(home.folder)


def _first_database(cache: Cache, home: Home) -> dict[str, Any]:
    filled = cache.path(_filled())
    if not filled.exists():
        return {"username": "administrator", "password": secrets.token_urlsafe(24)}
    shutil.copyfile(filled / _DATABASE, home.sub("h2") / _DATABASE)
    known = json.loads((filled / home.credentials_file.name).read_bytes())
    return {name: known[name] for name in ("username", "password")}


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip without its outermost folder, keeping what may be executed."""
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            inside = Path(*Path(entry.filename).parts[1:])
            if entry.is_dir() or not inside.parts:
                continue
            if ".." in inside.parts:
                raise ValueError(f"{archive} has a path that leaves it")
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(packed.read(entry))
            target.chmod(0o755 if entry.external_attr >> 16 & 0o111 else 0o644)


def _place() -> str:
    return f"keycloak-{VERSION}"


def _filled() -> str:
    return f"{_place()}-database"
