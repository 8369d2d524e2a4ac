"""Who is logged in where: a file of mode 0600, and tokens renewed from it.

Promises: the file is replaced whole; two commands at once renew a token once, since a
provider may take each refresh token only once.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cvf_app.console.failures import Failure, NotLoggedIn
from cvf_app.console.server import Server
from cvf_app.errors import Invalid
from cvf_app.wire import Heard, decode, encode

_EARLY_SECONDS = 30


class Session(Heard, frozen=True, kw_only=True):
    """A login: the address of the instance, and what it gave; the time is epoch seconds."""

    server: str
    refresh_token: str
    access_token: str = ""
    expires_at: int = 0


class Sessions:
    """The one kept session."""

    def __init__(self, folder: Path) -> None:
        """Keep it in this folder."""
        self._folder = folder
        self._file = folder / "session.json"

    def read(self) -> Session | None:
        """Return the session, if there is one."""
        try:
            return decode(self._file.read_bytes(), Session)
        except (FileNotFoundError, Invalid):
            return None

    def write(self, session: Session) -> None:
        """Keep a session in place of the one before."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(encode(session))
        fresh.replace(self._file)

    def forget(self) -> bool:
        """Remove the session; say whether there was one."""
        there = self._file.exists()
        self._file.unlink(missing_ok=True)
        return there

    def token(self, server: str, *, anew: bool) -> str:
        """Return an access token for this server, renewed where need be.

        Raises:
            NotLoggedIn: there is no session for it, or it has ended.
        """
        session = self._of(server)
        if not anew and session.access_token and session.expires_at > time.time() + _EARLY_SECONDS:
            return session.access_token
        with self._lock():
            present = self._of(server)
            if present.access_token != session.access_token:
                return present.access_token
            return self._renew(present).access_token

    def _of(self, server: str) -> Session:
        session = self.read()
        if session is None:
            raise NotLoggedIn
        if session.server != server:
            raise NotLoggedIn(f"You are logged in at {session.server}, not at {server}.")
        return session

    def _renew(self, session: Session) -> Session:
        if not session.refresh_token:
            raise NotLoggedIn("Your login has ended.")
        asked = {"grant_type": "refresh_token", "refresh_token": session.refresh_token}
        try:
            given = Server(session.server).send("POST", "/auth/token", asked)
        except NotLoggedIn as fault:
            raise NotLoggedIn(f"Your login has ended: {fault.sentence}") from fault
        fresh = kept(session.server, given, session.refresh_token)
        self.write(fresh)
        return fresh

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._folder / "session.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def kept(server: str, given: object, refresh_token: str = "") -> Session:
    """Make a session of the answer of `POST /auth/token`.

    Raises:
        Failure: it has no access token.
    """
    if not isinstance(given, dict) or not isinstance(given.get("access_token"), str):
        raise Failure("The server gave no access token.", advice="Try again: cvf login")
    lifetime = given.get("expires_in")
    return Session(
        server=server,
        refresh_token=str(given.get("refresh_token") or refresh_token),
        access_token=given["access_token"],
        expires_at=int(time.time()) + (lifetime if isinstance(lifetime, int) and lifetime else 60),
    )
