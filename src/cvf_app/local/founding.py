"""The services of a new local instance: its database with the app's user, its identity provider.

Loaded only while an instance is made, since it needs the drivers; what is there is never replaced.
"""

import asyncio
import json
import secrets
import subprocess
from collections.abc import Mapping

from cvf_app import config as configuration
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.errors import Conflict, NotFound, Unavailable
from cvf_app.local import children, probe
from cvf_app.local.layout import Administrator, Layout, Ports
from cvf_app.local.ports import LOOPBACK
from cvf_app.local.processes import end, identify

SCIM_CLIENT = "cafe-variome-scim"
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


async def database(layout: Layout, ports: Ports, wanted: configuration.MongoDB) -> None:
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
        mongo = Mongo.open(mongo_uri(LOOPBACK, ports.database), wanted.database, 1)
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


async def identity(
    layout: Layout, ports: Ports, administrator: Administrator, environ: Mapping[str, str]
) -> None:
    """Provision Canaille in one call; of ours, only the file keystore has the secrets."""
    keys = FileKeyStore.open(layout.keystore, create=True)
    try:
        client_secret = await _secret(keys, "identity/client", administrator.client)
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
        "clientId": administrator.client,
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
                *(str(python), str(children.CANAILLE / "provision.py")),
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
