"""Making a local instance: folder, secrets, configuration, database user, identity provider.

Every step can be repeated and sets its mark when it is done, so a first run that was broken
off is simply run again. Nothing that is there is ever replaced.
"""

import asyncio
import json
import secrets
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cvf_app import config as configuration
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.errors import Conflict, NotFound, Unavailable
from cvf_app.local import children, probe
from cvf_app.local.layout import Administrator, Layout, LocalState, Ports, read, write
from cvf_app.local.ports import LOOPBACK, choose, is_free
from cvf_app.local.processes import end, identify

CLIENT = "cafe-variome"
SCIM_CLIENT = "cafe-variome-scim"
USERNAME = "administrator"
# A name that is reserved for examples (RFC 2606) and that the identity provider takes.
EMAIL = "administrator@users.example.org"
DATABASE = "cafe_variome"
DATABASE_USER = "cafe-variome"
REDIRECT_PATHS = (
    "/",
    "/callback",
    "/auth/callback",
    "/openapi/",
    "/openapi/callback",
    "/openapi/oauth2-redirect.html",
    "/openapi/docs",
    "/docs",
    "/docs/",
    "/docs/oauth2-redirect.html",
)
"""Where a login may come back to: the command line, the documentation page, a front end."""
_SECONDS_TO_START = 30.0
_SECONDS_TO_STOP = 30.0
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A local instance that is ready to be started."""

    layout: Layout
    state: LocalState
    administrator: Administrator
    bind: tuple[str, int]


def make(
    layout: Layout, environ: Mapping[str, str], bind: tuple[str, int] | None, say: Say
) -> Made:
    """Bring an instance to where it can be started; the second time there is nothing to do.

    Raises:
        CafeVariomeError: a step failed; the sentence says what mends it.
    """
    layout.make()
    state = read(layout.state, LocalState)
    if state is None:
        say(f"Making an instance in {layout.folder}")
        state = LocalState(ports=choose(layout.folder))
        write(layout.state, state)
    check_ports(state.ports, bind, layout)
    loaded = _configured(layout, state.ports)
    listening = bind or (LOOPBACK, state.ports.app)
    administrator = _administrator(layout, state.ports, listening)
    if not state.database_ready:
        say("Making the database and its user")
        asyncio.run(_make_database(layout, state.ports, loaded.mongo_db))
        state = _mark(layout, state, database_ready=True)
    if not state.identity_ready:
        say("Making the identity provider, its keys and the administrator's account")
        asyncio.run(_make_identity(layout, state.ports, administrator, environ))
        state = _mark(layout, state, identity_ready=True)
    return Made(layout=layout, state=state, administrator=administrator, bind=listening)


def check_ports(ports: Ports, bind: tuple[str, int] | None, layout: Layout) -> None:
    """See that the ports of the instance are free before anything is started.

    Raises:
        Conflict: one is taken; the sentence names the command that chooses others.
    """
    wanted = (ports.database, ports.identity, bind[1] if bind else ports.app)
    taken = [str(port) for port in wanted if not is_free(port)]
    if taken:
        mend = f"./CafeVariome3.sh local --data {layout.folder} --new-ports"
        if bind:
            mend = "CV3_BIND=127.0.0.1:PORT ./CafeVariome3.sh local, with a free PORT"
        raise Conflict(
            f"Another program listens on port {', '.join(taken)}. "
            f"Stop it, or choose other ports: {mend}"
        )


def new_ports(layout: Layout) -> None:
    """Choose other ports for an instance that is stopped; its identity provider moves with them."""
    state = read(layout.state, LocalState)
    if state is None:
        return
    ports = choose(layout.folder)
    write(layout.state, msgspec.structs.replace(state, ports=ports, identity_ready=False))
    raw = json.loads(layout.config.read_bytes())
    raw["MongoDB"]["Port"] = str(ports.database)
    raw["Identity"]["Issuer"] = issuer(ports)
    write(layout.config, raw)


def issuer(ports: Ports) -> str:
    """Return the address of the identity provider."""
    return f"http://{LOOPBACK}:{ports.identity}"


def installed(layout: Layout) -> None:
    """Mark that the app's own installation step has ended well."""
    state = read(layout.state, LocalState)
    if state is not None:
        _mark(layout, state, installed=True)


def _mark(layout: Layout, state: LocalState, **done: bool) -> LocalState:
    marked = msgspec.structs.replace(state, **done)
    write(layout.state, marked)
    return marked


def _configured(layout: Layout, ports: Ports) -> configuration.Config:
    if not layout.config.exists():
        blocks: dict[str, object] = {
            "Mode": "local",
            "MongoDB": {
                "Host": LOOPBACK,
                "Port": str(ports.database),
                "User": DATABASE_USER,
                "Password": secrets.token_urlsafe(32),
                "Database": DATABASE,
                "MaxJobs": 4,
            },
            "Redis": {"Path": str(layout.valkey_socket)},
            "Identity": {"Provider": "oidc", "Issuer": issuer(ports), "Client": CLIENT},
            "Secrets": {"Provider": "file", "Path": str(layout.keystore)},
            "Data": {"UploadPath": str(layout.uploads)},
        }
        write(layout.config, blocks)
    return configuration.load(layout.config)


def _administrator(layout: Layout, ports: Ports, bind: tuple[str, int]) -> Administrator:
    kept = read(layout.administrator, Administrator)
    present = Administrator(
        username=USERNAME,
        password=kept.password if kept else secrets.token_urlsafe(18),
        email=EMAIL,
        subject=kept.subject if kept else USERNAME,
        address=f"http://{bind[0]}:{bind[1]}",
        issuer=issuer(ports),
        client=CLIENT,
    )
    if present != kept:
        write(layout.administrator, present)
    return present


async def _make_database(layout: Layout, ports: Ports, wanted: configuration.MongoDB) -> None:
    """Make the app's user while the server, on loopback and empty, asks for no login."""
    (layout.folder / "database").mkdir(mode=0o700, exist_ok=True)
    command = children.secantus_command(layout, ports, login=False)
    log = layout.logs / "database.log"
    with log.open("ab") as out:
        server = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        opened = children.Child(
            name="database", doing="", command=command, log=log, port=ports.database
        )
        await _wait(opened, server)
        mongo = Mongo.open(mongo_uri(LOOPBACK, ports.database), DATABASE, 1)
        try:
            await mongo.add_user(wanted.user, wanted.password)
        except Conflict:
            # A run that was broken off had made it, with the password of the same configuration.
            return
        finally:
            mongo.close()
    finally:
        started = identify(server.pid)
        if started is not None:
            end(started, patience=_SECONDS_TO_STOP)
        server.wait()


async def _wait(child: children.Child, server: "subprocess.Popen[bytes]") -> None:
    waited = 0.0
    while not await probe.answers(child):
        if server.poll() is not None or waited > _SECONDS_TO_START:
            raise Unavailable(f"The database did not start; what it said is in {child.log}.")
        await asyncio.sleep(0.1)
        waited += 0.1


async def _make_identity(
    layout: Layout, ports: Ports, administrator: Administrator, environ: Mapping[str, str]
) -> None:
    """Provision Canaille in one call; of ours, only the file keystore has the secrets."""
    keys = FileKeyStore.open(layout.keystore, create=True)
    try:
        client_secret = await _secret(keys, "identity/client", CLIENT)
        scim_secret = await _secret(keys, "identity/scim", SCIM_CLIENT)
    finally:
        await keys.close()
    given = {
        "users": [
            {
                "user_name": administrator.username,
                "password": administrator.password,
                "given_name": "First",
                "family_name": "Administrator",
                "formatted_name": "First Administrator",
                "emails": [administrator.email],
            }
        ],
        "clientId": CLIENT,
        "clientSecret": client_secret,
        "scimId": SCIM_CLIENT,
        "scimSecret": scim_secret,
        # No port: the provider takes these paths on any loopback port (patches.py).
        "redirects": [f"http://{LOOPBACK}{path}" for path in REDIRECT_PATHS],
        "logoutRedirects": [f"http://{LOOPBACK}:{ports.app}/"],
    }
    python = children.canaille_python(environ)
    log = layout.logs / "identity.log"
    with log.open("ab") as out:
        ended = subprocess.run(  # noqa: ASYNC221 - nothing else runs in this loop
            [
                *(str(python), "-B", str(children.CANAILLE / "provision.py")),
                *(str(layout.folder / "identity"), str(ports.identity)),
            ],
            input=json.dumps(given).encode(),
            stdout=out,
            stderr=out,
            env={**environ, "PYTHONPATH": "", "PYTHONNOUSERSITE": "1"},
            check=False,
        )
    if ended.returncode != 0:
        raise Unavailable(f"The identity provider could not be made; what it said is in {log}.")


async def _secret(keys: FileKeyStore, path: str, client: str) -> str:
    try:
        return (await keys.read_secret(path)).data["client_secret"]
    except NotFound:
        made = secrets.token_urlsafe(32)
        await keys.write_secret(path, {"client_id": client, "client_secret": made}, check_and_set=0)
        return made


def remove(folder: Path) -> None:
    """Remove an instance with everything in it, deepest first; only what local mode made.

    Raises:
        Conflict: the folder is no instance of local mode.
    """
    layout = Layout(folder)
    if not layout.state.exists():
        raise Conflict(f"{folder} is no instance of local mode; nothing was removed.")
    for inside in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        if inside.is_dir() and not inside.is_symlink():
            inside.rmdir()
        else:
            inside.unlink()
    folder.rmdir()
