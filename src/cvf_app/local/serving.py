"""The database of a local instance that is stopped, served while a command of this machine runs."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from cvf_app.errors import Unavailable
from cvf_app.local import children
from cvf_app.local.guard import Lock
from cvf_app.local.layout import Layout, LocalState, read, write
from cvf_app.local.ports import LOOPBACK
from cvf_app.local.processes import die_with_parent, end, identify

_SECONDS_TO_START, _SECONDS_TO_STOP = 30.0, 60.0


@contextmanager
def database(layout: Layout, *, alone: bool) -> Iterator[None]:
    """Serve the database of a stopped local instance; one that runs, or is none of ours, is served.

    With `alone` the instance must be stopped. Nobody can start it meanwhile: its lock is held.

    Raises:
        Conflict: the instance runs, and must not.
        Unavailable: the database does not start.
    """
    state = read(layout.state, LocalState)
    lock = Lock(layout.lock)
    if state is None or (lock.is_held() and not alone):
        yield
        return
    lock.take()
    try:
        with (layout.logs / "database.log").open("ab") as out:
            server = subprocess.Popen(
                children.secantus_command(layout, state.ports),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread is there yet
            )
        try:
            _await_port(state.ports.database, server)
            yield
        finally:
            started = identify(server.pid)
            if started is not None:
                end(started, patience=_SECONDS_TO_STOP)
            server.wait()
    finally:
        lock.release()


def renew_identity(layout: Layout) -> None:
    """Let the next start give the identity provider the ports and the secrets of this instance."""
    state = read(layout.state, LocalState)
    if state is not None:
        write(layout.state, msgspec.structs.replace(state, identity_ready=False, installed=True))


def _await_port(port: int, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _SECONDS_TO_START
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        if server.poll() is not None or time.monotonic() > until:
            raise Unavailable("The database did not start; its log is logs/database.log.")
        time.sleep(0.1)
