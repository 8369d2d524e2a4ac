"""Which server a command speaks to, and which things its names mean."""

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from cvf_app.console.failures import Misused, NoSuchThing
from cvf_app.console.server import Json, Server
from cvf_app.console.session import Sessions
from cvf_app.local.layout import Administrator, Layout, read


@dataclass(frozen=True)
class Here:
    """What every command starts from."""

    given: str | None
    sessions: Sessions
    instance: Path

    @property
    def address(self) -> str:
        """Return the server's address: given, of the last login, or of the local instance.

        Raises:
            Misused: there is none of them.
        """
        session = self.sessions.read()
        local = self.administrator()
        address = (
            self.given or (session.server if session else "") or (local.address if local else "")
        )
        if not address:
            raise Misused(
                "Which server?",
                advice="Start one here: ./CafeVariome3.sh local, or name one: --server URL",
            )
        return address.rstrip("/")

    def administrator(self) -> Administrator | None:
        """Return the login of the local instance in this folder, where there is one."""
        try:
            return read(Layout(self.instance).administrator, Administrator)
        except PermissionError:
            return None

    def is_local(self, address: str) -> bool:
        """Say whether this is the address of the local instance in this folder."""
        local = self.administrator()
        return local is not None and local.address.rstrip("/") == address

    def server(self) -> Server:
        """Return the server, asked as whoever is logged in."""
        address = self.address
        return Server(address, lambda anew: self.sessions.token(address, anew=anew))


def here(context: typer.Context) -> Here:
    """Return what the root command found out."""
    found = context.find_object(Here)
    if found is None:
        raise Misused("This command needs the root command 'cvf'.")
    return found


def server(context: typer.Context) -> Server:
    """Return the server of this command."""
    return here(context).server()


def settings_folder() -> Path:
    """Return where the session is kept ($XDG_CONFIG_HOME, else ~/.config)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "cafe-variome"


def instance_folder() -> Path:
    """Return where a local instance would be: CV3_DATA, ./instance, or beside our sources."""
    if given := os.environ.get("CV3_DATA"):
        return Path(given)
    here_now = Path("instance")
    return here_now if here_now.is_dir() else Path(__file__).resolve().parents[3] / "instance"


def source_named(server: Server, name: str) -> Json:
    """Return the source with this id or name."""
    return _named(server.get("/sources/"), name, ("sourceId", "sourceName"), "source")


def pipeline_named(server: Server, name: str) -> Json:
    """Return the pipeline with this id or name."""
    return _named(server.get("/pipelines/"), name, ("pipelineId", "pipelineName"), "pipeline")


def group_named(server: Server, name: str) -> Json:
    """Return the discovery group with this id or name."""
    return _named(server.get("/groups/"), name, ("groupId", "groupName"), "group")


def user_named(server: Server, name: str) -> Json:
    """Return the local user with this id, user name or address."""
    return _named(server.get("/users/"), name, ("userId", "username", "email"), "user")


def _named(things: list[Json], name: str, fields: tuple[str, ...], kind: str) -> Json:
    for field in fields:
        found = [thing for thing in things if thing.get(field) == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise Misused(f"Several {kind}s are called {name}: use the id ({fields[0]}).")
    known = ", ".join(sorted(str(thing.get(fields[1])) for thing in things)[:10])
    raise NoSuchThing(
        f"There is no {kind} {name} that you may know of.",
        advice=f"There are: {known}" if known else f"There is none yet: cvf {kind}s --help",
    )
