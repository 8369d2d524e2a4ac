"""A real Canaille (OpenID provider with SCIM) for tests, and a person's walk through its login.

Canaille lives in a virtual environment of its own: `CV3_TEST_CANAILLE_PYTHON` names its
interpreter; else the place where local mode keeps it beside our own environment is looked at.
"""

import base64
import hashlib
import html
import json
import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

import cvf_app.local
from tests.support.services import free_port

PROGRAMS = Path(cvf_app.local.__file__).parent / "canaille"
REDIRECT = "http://127.0.0.1/callback"
ADMINISTRATOR = "ada"


def canaille_python() -> Path | None:
    """Return the interpreter of Canaille's virtual environment, or none."""
    named = os.environ.get("CV3_TEST_CANAILLE_PYTHON")
    places = [Path(named)] if named else [Path(f"{sys.prefix}-canaille") / "bin" / "python"]
    return next((place for place in places if place.is_file()), None)


@dataclass
class Canaille:
    """A provider that runs on a loopback port."""

    folder: Path
    python: Path
    port: int = field(default_factory=free_port)
    client_id: str = "cafe-variome"
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    scim_id: str = "cafe-variome-accounts"
    scim_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    process: subprocess.Popen | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not (self.folder / "canaille.sqlite").exists():
            self._provision()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, PROGRAMS / "serve.py", self.folder, str(self.port)],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.issuer}/.well-known/openid-configuration").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def _provision(self) -> None:
        person = {
            "user_name": ADMINISTRATOR,
            "password": self.password,
            "family_name": "Lovelace",
            "emails": ["ada@example.org"],
        }
        given = {
            "users": [person],
            "clientId": self.client_id,
            "clientSecret": self.client_secret,
            "scimId": self.scim_id,
            "scimSecret": self.scim_secret,
            "redirects": [REDIRECT],
            "logoutRedirects": [],
        }
        subprocess.run(
            [self.python, PROGRAMS / "provision.py", self.folder, str(self.port)],
            input=json.dumps(given).encode(),
            check=True,
            capture_output=True,
            timeout=120,
        )

    def walk(self, username: str, password: str) -> "Walked":
        """Log a person in as a browser would, up to the redirect that carries the code."""
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        state = secrets.token_urlsafe(16)
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT,
            "scope": "openid profile email offline_access",
            "state": state,
            "nonce": secrets.token_urlsafe(16),
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        with httpx.Client(timeout=30) as browser:
            page = browser.get(f"{self.issuer}/oauth/authorize", params=query)
            for _ in range(12):
                if page.is_redirect:
                    target = urljoin(str(page.url), page.headers["location"])
                    if target.startswith(REDIRECT):
                        answer = parse_qs(urlsplit(target).query)
                        assert answer["state"] == [state]
                        return Walked(answer["code"][0], verifier, REDIRECT)
                    page = browser.get(target)
                    continue
                fields = _hidden_fields(page.text)
                step = urlsplit(str(page.url)).path
                if step == "/login":
                    fields["login"] = username
                elif step == "/auth/password" and "Login failed" not in page.text:
                    fields["password"] = password
                else:
                    break
                page = browser.post(str(page.url), data=fields)
        raise PermissionError(f"the provider did not log {username} in")


@dataclass(frozen=True)
class Walked:
    """What a client holds after the redirect."""

    code: str
    verifier: str
    redirect_uri: str


def _hidden_fields(page: str) -> dict[str, str]:
    tags = re.findall(r"<input[^>]*>", page)
    hidden = [dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in tags if 'type="hidden"' in tag]
    return {tag["name"]: html.unescape(tag.get("value", "")) for tag in hidden if "name" in tag}
