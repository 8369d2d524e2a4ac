"""Making a local instance: folder, ports, secrets, configuration; its services: `founding.py`.

Every step can be repeated and sets its mark when it is done, so a first run that was broken
off is simply run again. Nothing that is there is ever replaced.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cvf_app import config as configuration
from cvf_app.errors import Conflict
from cvf_app.local.layout import Administrator, Layout, LocalState, Ports, read, write
from cvf_app.local.ports import LOOPBACK, choose, is_free

CLIENT = "cafe-variome"
USERNAME = "administrator"
# A name that is reserved for examples (RFC 2606) and that the identity provider takes.
EMAIL = "administrator@users.example.org"
DATABASE = "cafe_variome"
DATABASE_USER = "cafe-variome"
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
    if state.database_ready and state.identity_ready:
        return Made(layout=layout, state=state, administrator=administrator, bind=listening)
    # Only here, since drivers take longer to load than every other word takes to answer.
    from cvf_app.local import founding  # noqa: PLC0415 - see above

    if not state.database_ready:
        say("Making the database and its user")
        asyncio.run(founding.database(layout, state.ports, loaded.mongo_db))
        state = _mark(layout, state, database_ready=True)
    if not state.identity_ready:
        say("Making the identity provider, its keys and the administrator's account")
        asyncio.run(founding.identity(layout, state.ports, administrator, environ))
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
