"""Loopback ports: chosen free, kept for good, and bound for the app."""

import hashlib
import socket
from pathlib import Path

from cvf_app.errors import Conflict, Invalid
from cvf_app.local.layout import Ports

LOOPBACK = "127.0.0.1"
Address = tuple[str, int]
"""Host and port."""
_BACKLOG = 1024
_FIRST = 20_000
_COUNT = 12_000  # up to 32,000: below the ports that systems hand to outgoing connections


def choose(folder: Path) -> Ports:
    """Choose free ports for the instance in this folder.

    The search starts at a place drawn from the folder's path, so that instances that were
    made while others were stopped do not end up with the same ports.
    """
    start = int.from_bytes(hashlib.sha256(str(folder).encode()).digest()[:4])
    row = (_FIRST + (start + step) % _COUNT for step in range(_COUNT))
    free = (port for port in row if is_free(port))
    return Ports(app=next(free), database=next(free), identity=next(free))


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Say whether nobody listens on this port, of loopback unless another address is given."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def parse(bind: str) -> Address:
    """Read `host:port`.

    Raises:
        Invalid: it is no such text.
    """
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal():
        raise Invalid(
            f"'{bind}' is no address to listen on; write host:port, as in 127.0.0.1:5000."
        )
    return host.strip("[]"), int(port)


def reachable(host: str) -> str:
    """Return where we reach what listens there: a wildcard listens on loopback, too."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def written(address: Address) -> str:
    """Write an address for people and for URLs."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def private_socket(path: Path) -> socket.socket:
    """Bind a socket in a folder of ours, on which one process is asked how it is."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    bound.listen(_BACKLOG)
    return bound


def refuse_public(host: str) -> None:
    """Refuse any address but loopback.

    Raises:
        Invalid: others could reach the address.
    """
    if host not in {"127.0.0.1", "localhost", "::1"}:
        raise Invalid(
            f"Local mode listens on loopback only, and '{host}' can be reached by others. "
            "Set CV3_BIND to 127.0.0.1:PORT; for a public address set up full mode."
        )


def listen(host: str, port: int) -> socket.socket:
    """Bind the socket that the app inherits; connections wait in it while the app restarts.

    Raises:
        Conflict: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        bound.bind((host, port))
    except OSError as fault:
        bound.close()
        raise Conflict(f"{host}:{port} cannot be bound: {fault.strerror}.") from fault
    bound.listen(_BACKLOG)
    return bound
