"""A real Keycloak with a realm of ours, made by the setup script as an operator runs it."""

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from keycloak import KeycloakAdmin, KeycloakOpenIDConnection

from cvf_app.config import Config, load
from tests.support.providers import REDIRECT

ROOT = Path(__file__).resolve().parents[2]
CLIENT = "cafe-variome"


@dataclass(frozen=True, kw_only=True)
class Realm:
    """One realm, the instance's configuration that names it, and the administrator of it all."""

    address: str
    name: str
    username: str
    password: str
    folder: Path

    @property
    def file(self) -> Path:
        """The instance's configuration."""
        return self.folder / "instance_config.json"

    @property
    def issuer(self) -> str:
        """What its tokens name."""
        return f"{self.address}/realms/{self.name}"

    def configure(self, **more: object) -> Config:
        """Write the configuration and read it."""
        blocks = {
            "Keycloak": {
                "Client": CLIENT,
                "Realm": self.name,
                "URL": self.address,
                "RedirectURL": REDIRECT,
                "RedirectURLs": ["https://discover.example.org/"],
            },
            "Data": {"UploadPath": str(self.folder / "data")},
            "Secrets": {"Provider": "file", "Path": str(self.folder / "keys")},
        }
        self.file.write_text(json.dumps(blocks | more))
        return load(self.file)

    def set_up(self, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
        """Run the script as an operator does: the password on standard input."""
        return subprocess.run(
            [
                sys.executable,
                str(ROOT / "scripts" / "setup_keycloak.py"),
                "--config",
                str(self.file),
                "--admin",
                self.username,
                "--password-stdin",
                *arguments,
            ],
            input=f"{password or self.password}\n",
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def person(self, username: str) -> str:
        """Make an account that can log in, and return its password."""
        password = secrets.token_urlsafe(18)
        self.admin().create_user(
            {
                "username": username,
                "email": f"{username}@example.org",
                "firstName": username,
                "lastName": "Tester",
                "enabled": True,
                "credentials": [{"type": "password", "value": password, "temporary": False}],
            }
        )
        return password

    def client_secret(self) -> str:
        """Return our client's secret, as the administrator sees it."""
        admin = self.admin()
        return str(admin.get_client_secrets(admin.get_client_id(CLIENT))["value"])

    def admin(self) -> KeycloakAdmin:
        """Be Keycloak's administrator, in this realm."""
        return KeycloakAdmin(
            connection=KeycloakOpenIDConnection(
                server_url=f"{self.address}/",
                username=self.username,
                password=self.password,
                user_realm_name="master",
                realm_name=self.name,
            )
        )
