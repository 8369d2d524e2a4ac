"""A mail server that keeps what it gets as files, with STARTTLS, TLS and a login."""

import secrets
from pathlib import Path
from typing import Any, ClassVar

from scripts.services import python_tools
from scripts.services.asking import LOOPBACK, says
from scripts.services.cache import PROGRAMS, Cache
from scripts.services.home import Home
from scripts.services.service import Service

_PROGRAM = PROGRAMS / "smtp_sink.py"


class Smtp(Service):
    """Three ports: STARTTLS with a login, TLS from the start with a login, plain without one."""

    name: ClassVar[str] = "smtp"
    what: ClassVar[str] = "a mail server that keeps what it gets"
    port_names: ClassVar[tuple[str, ...]] = ("port", "tls_port", "plain_port")
    start_seconds: ClassVar[float] = 20.0

    def install(self, cache: Cache) -> None:
        """Fetch the package when our own environment lacks it."""
        python_tools.install(cache)

    def locate(self, cache: Cache) -> Path:
        """Return the interpreter that runs it."""
        return python_tools.interpreter(cache, "aiosmtpd", self.name)

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Start it in its folder."""
        home.credentials(
            lambda: {"username": "cafe-variome", "password": secrets.token_urlsafe(24)}
        )
        ports = home.ports()
        told = ["--folder", str(home.folder), "--ports"]
        told += [str(ports[name]) for name in self.port_names]
        return [str(self.locate(cache)), str(_PROGRAM), *told]

    def address(self, home: Home) -> str:
        """Return host and port where STARTTLS and a login are asked for."""
        return f"{LOOPBACK}:{home.ports()['port']}"

    def answers(self, home: Home) -> bool:
        """Say whether it greets on its last port; it opens them in order."""
        return says(home.ports()["plain_port"], b"", b"220 ")

    def more(self, home: Home) -> dict[str, Any]:
        """Return its ports, its authority and where the mails are."""
        return {
            "host": LOOPBACK,
            **home.ports(),
            "ca": str(home.folder / "ca.pem"),
            "mails": str(home.folder / "mails"),
            "answer": str(home.folder / "answer"),
        }
