"""How a server is asked whether it answers: HTTP, or a few bytes of its own protocol."""

import http.client
import json
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
_SECONDS = 5.0


def http_call(
    address: str, method: str = "GET", body: object = None, *, token: str = ""
) -> tuple[int, Any]:
    """Send one request and return status and decoded JSON (or text); status 0: nobody answers."""
    parts = urlsplit(address)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["X-Vault-Token"] = token
    sent = json.dumps(body).encode() if body is not None else None
    # `http.client` knows no proxy of the environment, which must never be asked for loopback.
    with closing(http.client.HTTPConnection(str(parts.netloc), timeout=_SECONDS)) as connection:
        try:
            connection.request(method, parts.path or "/", sent, headers)
            answer = connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException):
            return 0, None
    try:
        return answer.status, json.loads(raw) if raw else None
    except ValueError:
        return answer.status, raw.decode(errors="replace")


def says(port: int, sent: bytes, expected: bytes) -> bool:
    """Say whether the server on this port answers these bytes with something that has those."""
    try:
        with socket.create_connection((LOOPBACK, port), _SECONDS) as connection:
            connection.sendall(sent)
            return expected in connection.recv(4096)
    except OSError:
        return False


def free_port() -> int:
    """Return a port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Say whether nobody listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
