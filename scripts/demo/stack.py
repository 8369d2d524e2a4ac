"""A full instance on real servers in one folder: for demonstrations, faults and benchmarks.

Keycloak, Vault, Redis, a server of MongoDB's protocol and a mail server that keeps what it gets
are started by `scripts/services.sh`; the instance is set up by the same scripts and commands that
an operator uses, and kept by `CafeVariome3.sh`. Everything listens on loopback.
"""

import email
import email.policy
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ("smtp", "keycloak", "vault", "redis", "mongodb")
CLIENT, REALM = "cafe-variome", "demonstration"
_LOOK_SECONDS = 0.2
_LINK = re.compile(r"https?://\S+")


class Breach(Exception):
    """Something did not hold so that going on makes no sense."""


@dataclass(frozen=True)
class Mail:
    """A mail as it arrived: to whom, its subject and its plain text."""

    to: str
    subject: str
    text: str

    def link(self, part: str) -> str:
        """Return the first address in it that has this part.

        Raises:
            Breach: there is none.
        """
        for found in _LINK.findall(self.text):
            if part in found:
                return str(found).rstrip(">).,")
        raise Breach(f"no address with {part!r} stands in the mail '{self.subject}'")


class Stack:
    """The servers and the instance; `up` may be called once, `down` at any time."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """Use this folder; nothing is started yet. `environment` is given to the instance."""
        self.folder = folder
        self.config = folder / "instance_config.json"
        self.servers: dict[str, dict[str, Any]] = {}
        bind, bind_query = _free(), _free()
        self.address = f"http://{bind}"
        self.query_address = f"http://{bind_query}"
        self.metrics_key = os.urandom(16).hex()
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith("CV3_TEST")
        }
        if sys.prefix != sys.base_prefix:
            self.env.setdefault("CV3_VENV", sys.prefix)
        self.env |= {
            "XDG_CONFIG_HOME": str(folder / "operator"),
            "CV3_APP_PATH": str(folder),
            "CV3_CONFIG": str(self.config),
            "CV3_BIND": bind,
            "CV3_BIND_QUERY": bind_query,
            "PYTHONPATH": str(ROOT / "src"),
            **environment,
        }
        for name in ("CV3_SERVER", "CV3_DATA"):
            self.env.pop(name, None)

    def run(self, *command: str, told: str | None = None, **environment: str) -> str:
        """Run a command in the checkout and return what it printed; a failure ends it all."""
        print(f"$ {' '.join(command)}", flush=True)
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.env | environment,
            input=told,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Breach(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def cvf(self, *words: str, home: str = "operator") -> Any:  # noqa: ANN401 - whatever it prints
        """Run `cvf … --json` as the owner of a login and return what it printed."""
        printed = self.run(
            *(sys.executable, "-m", "cvf_app.console", *words, "--json"),
            XDG_CONFIG_HOME=str(self.folder / home),
        )
        return json.loads(printed) if printed.strip() else None

    def up(self, **blocks: Any) -> None:  # noqa: ANN401 - blocks of the configuration
        """Start the servers, set everything up and start the instance."""
        self.start_servers()
        self._configure(blocks)
        self._vault()
        admin = self.secret_of("keycloak")
        self.run(
            *(sys.executable, "scripts/setup_keycloak.py", "--config", str(self.config)),
            KEYCLOAK_ADMIN_USERNAME=admin["username"],
            KEYCLOAK_ADMIN_PASSWORD=admin["password"],
        )
        self.cvf_here("db", "create")
        self.start()

    def cvf_here(self, *words: str) -> str:
        """Run an operator's command that needs no login."""
        return self.run(sys.executable, "-m", "cvf_app.console", *words)

    def start_servers(self, *names: str) -> None:
        """Start these servers, or all, and wait until each answers."""
        for name in names or SERVERS:
            self.servers |= json.loads(self.run(*self._services("up", name)))
            if name == "smtp":
                # Keycloak mails too, and has to trust the mail server's own authority.
                self.env["KC_TRUSTSTORE_PATHS"] = self.servers["smtp"]["ca"]

    def stop_servers(self, *names: str) -> None:
        """Stop these servers, or all."""
        self.run(*self._services("down", *names))

    def secret_of(self, server: str) -> dict[str, Any]:
        """Return what stands in a server's file of credentials."""
        found: dict[str, Any] = json.loads(Path(self.servers[server]["credentials"]).read_text())
        return found

    def start(self, *duties: str, workers: int = 1) -> None:
        """Start the instance and wait until it is ready."""
        self.run("./CafeVariome3.sh", "start", *duties, CV3_WORKERS=str(workers))

    def stop(self) -> None:
        """Stop the instance."""
        self.run("./CafeVariome3.sh", "stop")

    def down(self) -> None:
        """Stop everything, whatever runs."""
        for command in (["./CafeVariome3.sh", "stop"], self._services("down")):
            subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, check=False)

    def mails(self) -> list[Mail]:
        """Return the mails that arrived, the oldest first."""
        folder = Path(self.servers["smtp"]["mails"])
        return [_read(path) for path in sorted(folder.glob("*.eml"))]

    def mail(self, to: str, subject: str, seconds: float = 30.0) -> Mail:
        """Wait for the newest mail to somebody whose subject has these words."""

        def find() -> Mail | None:
            found = [
                one
                for one in self.mails()
                if to in one.to and subject.casefold() in one.subject.casefold()
            ]
            return found[-1] if found else None

        return wait_for(f"a mail to {to} about '{subject}'", find, seconds)

    def _services(self, action: str, *names: str) -> list[str]:
        return ["scripts/services.sh", action, *names, "--data", str(self.folder / "servers")]

    def _configure(self, blocks: dict[str, Any]) -> None:
        mongo = urlsplit(self.servers["mongodb"]["address"])
        redis = urlsplit(self.servers["redis"]["address"])
        smtp = self.servers["smtp"]
        login = self.secret_of("smtp")
        keycloak = {
            "Client": CLIENT,
            "Realm": REALM,
            "URL": self.servers["keycloak"]["address"],
            "RedirectURLs": [f"{self.address}/docs/oauth2-redirect.html", f"{self.address}/docs"],
        }
        found: dict[str, Any] = {
            "Mode": "full",
            "MongoDB": {"Host": mongo.hostname, "Port": str(mongo.port), "Database": "demo"},
            "Redis": {"Host": redis.hostname, "Port": str(redis.port)},
            "Keycloak": keycloak,
            "Vault": {
                "Host": self.servers["vault"]["address"],
                "TransitPath": "transit",
                "KV2Path": "secret",
                "KV2Prefix": "demonstration",
            },
            "Data": {"UploadPath": str(self.folder / "data")},
            "Metrics": {"Prometheus": {"Enabled": True, "Key": self.metrics_key}},
            "Email": {
                "From": {"Address": "cafe@example.org", "Name": "Cafe Variome"},
                "Sender": "cafe@example.org",
                "SMTP": {
                    "Host": smtp["host"],
                    "Port": str(smtp["port"]),
                    "Security": "starttls",
                    "CAFile": smtp["ca"],
                    "Authentication": {
                        "Required": True,
                        "Username": login["username"],
                        "Password": login["password"],
                    },
                },
            },
        }
        self.config.write_text(json.dumps(found | blocks, indent=2))
        self.config.chmod(0o600)

    def _vault(self) -> None:
        setup = ("scripts/setup_vault.sh", "--config", str(self.config))
        printed = self.run(*setup, "--issue", VAULT_TOKEN=self.secret_of("vault")["root_token"])
        issued = json.loads(printed)
        place = self.folder / "vault.env"
        self.run(*setup, "--unwrap", str(place), told=issued["wrappingToken"] + "\n")
        lines = dict(line.split("=", 1) for line in place.read_text().splitlines())
        self.env["VAULT_ROLE_ID"] = issued["VAULT_ROLE_ID"]
        self.env["VAULT_SECRET_ID"] = lines["VAULT_SECRET_ID"]


def wait_for(what: str, find: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401 - found
    """Look again and again until something is found.

    Raises:
        Breach: it was not, within so many seconds.
    """
    until = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > until:
            raise Breach(f"waited {seconds:g} s in vain for {what}")
        time.sleep(_LOOK_SECONDS)
    return found


def _free() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def _read(path: Path) -> Mail:
    with path.open("rb") as file:
        message = email.message_from_binary_file(file, policy=email.policy.default)
    if not isinstance(message, EmailMessage):
        raise Breach(f"{path} is no mail")
    body = message.get_body(("plain",))
    return Mail(
        to=str(message["To"]),
        subject=str(message["Subject"]),
        text=str(body.get_content()) if body else "",
    )
