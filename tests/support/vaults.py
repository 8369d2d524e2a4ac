"""Shares of a real Vault for tests: a prefix, policies and roles each, as operators make them."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from uuid import uuid4

import hvac
import msgspec

from cvf_app import config
from cvf_app.backends.vault import VaultKeyStore
from cvf_app.backends.vault_session import AppRole
from cvf_app.config import Vault as VaultPlace
from tests.support.servers import Vault

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "setup_vault.sh"


class Watch:
    """A monotonic clock that tests put forward."""

    ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += seconds


@dataclass
class Share:
    """One instance's share of a Vault; `role` is the script's word for one of its roles."""

    vault: Vault = field(repr=False)
    folder: Path
    prefix: str
    transit: str = "transit"
    kv2: str = "secret"
    role: str = "whole"
    login: AppRole = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_file = self.folder / "instance_config.json"
        self.config_file.write_text(json.dumps({"Vault": self.block}))
        self.env_file = self.folder / "vault.env"
        told = json.loads(self.run("--issue", self.role).stdout)
        self.run("--unwrap", str(self.env_file), token=told["wrappingToken"])
        secret_id = self.env_file.read_text().strip().partition("=")[2]
        self.login = AppRole(told["VAULT_ROLE_ID"], secret_id)

    @property
    def block(self) -> dict[str, str]:
        return {
            "Host": self.vault.address,
            "TransitPath": self.transit,
            "KV2Path": self.kv2,
            "KV2Prefix": self.prefix,
        }

    @property
    def place(self) -> VaultPlace:
        return config.Vault(
            host=self.vault.address,
            transit_path=self.transit,
            kv2_path=self.kv2,
            kv2_prefix=self.prefix,
        )

    @property
    def root(self) -> hvac.Client:
        return hvac.Client(url=self.vault.address, token=self.vault.root_token)

    def run(
        self, *arguments: str, token: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the script of operators with a token on its standard input."""
        command = ["sh", str(SCRIPT), "--config", str(self.config_file), *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "VAULT_TOKEN"}
        return subprocess.run(
            command,
            input=(token or self.vault.root_token) + "\n",
            capture_output=True,
            text=True,
            check=check,
            env=environment,
        )

    def open(
        self, watch: Watch | None = None, *, at: str = "", secret_id: str = ""
    ) -> VaultKeyStore:
        """Open a key store, as a process of this instance would."""
        place = msgspec.structs.replace(self.place, host=at) if at else self.place
        login = AppRole(self.login.role_id, secret_id or self.login.secret_id)
        return VaultKeyStore.open(place, login, clock=watch or Watch())


def share(vault: Vault, folder: Path, **more: str) -> Share:
    """Make a share with a prefix of its own."""
    prefix = more.pop("prefix", f"test/{uuid4().hex[:8]}")
    return Share(vault, folder / prefix.replace("/", "-"), prefix, **more)
