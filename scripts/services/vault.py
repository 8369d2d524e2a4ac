"""Vault: a real core behind a small program of ours, with its storage in files.

Only to test against: this version's licence (BUSL-1.1) allows that, and nothing of it is shipped.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from scripts.services.asking import LOOPBACK, http_call
from scripts.services.cache import PROGRAMS, Cache, digest, run
from scripts.services.errors import Failed
from scripts.services.home import Home
from scripts.services.service import Service, need

VERSION = "1.15.2"
_MODULE = f"github.com/hashicorp/vault@v{VERSION}"
_SOURCE = PROGRAMS / "vault"
_OK, _NOT_INITIALISED, _SEALED = 200, 501, 503
_KNOWN = (_OK, _NOT_INITIALISED, _SEALED)


class Vault(Service):
    """A Vault that is initialised and unsealed; its root token and its key stand in a file."""

    name: ClassVar[str] = "vault"
    what: ClassVar[str] = f"Vault {VERSION}, compiled here"

    def install(self, cache: Cache) -> None:
        """Fetch the modules and compile them with our main."""
        if not cache.path(_place()).exists():
            _need_go()
        cache.make(_place(), "fetching modules and compiling (5 minutes)", partial(_build, cache))

    def locate(self, cache: Cache) -> Path:
        """Return the program; once compiled it needs nothing."""
        place = cache.path(_place())
        if not place.exists():
            _need_go()
            raise self.missing()
        return place / "vaultd"

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Start it on its files."""
        listens = f"{LOOPBACK}:{home.ports()['port']}"
        return [str(self.locate(cache)), "-addr", listens, "-dir", str(home.sub("storage"))]

    def answers(self, home: Home) -> bool:
        """Say whether it tells its state, whatever that is."""
        return self.health(home) in _KNOWN

    def settle(self, home: Home) -> None:
        """Initialise it the first time, and unseal it."""
        initialise(self.address(home), home)
        if self.health(home) == _SEALED:
            unseal(self.address(home), home.credentials()["unseal_keys"])

    def health(self, home: Home) -> int:
        """Return the status of its health: 200 active, 501 not initialised, 503 sealed."""
        return http_call(f"{self.address(home)}/v1/sys/health")[0]

    def more(self, home: Home) -> dict[str, Any]:
        """Return whether it is sealed."""
        return {"sealed": self.health(home) == _SEALED}


class VaultSealed(Vault):
    """A Vault that is initialised and left sealed."""

    name: ClassVar[str] = "vault-sealed"
    what: ClassVar[str] = f"Vault {VERSION}, left sealed"
    by_name_only: ClassVar[bool] = True

    def settle(self, home: Home) -> None:
        """Initialise it the first time; nobody unseals it."""
        initialise(self.address(home), home)


def initialise(address: str, home: Home) -> None:
    """Initialise a Vault with one key, unless that was done.

    Raises:
        Failed: it refuses, or its secrets are gone.
    """
    if http_call(f"{address}/v1/sys/health")[0] == _NOT_INITIALISED:
        shares = {"secret_shares": 1, "secret_threshold": 1}
        status, told = http_call(f"{address}/v1/sys/init", "PUT", shares)
        if status != _OK:
            raise Failed(f"vault refused to be initialised: {status} {told}")
        home.credentials_file.unlink(missing_ok=True)
        home.credentials(
            lambda: {"root_token": told["root_token"], "unseal_keys": told["keys_base64"]}
        )
    if not home.credentials():
        raise Failed(
            f"{home.credentials_file} is gone, and nobody else knows the key of this Vault; "
            f"stop it and remove {home.folder}"
        )


def unseal(address: str, keys: list[str]) -> None:
    """Unseal a Vault.

    Raises:
        Failed: the keys are not its keys.
    """
    told: Any = None
    for key in keys:
        status, told = http_call(f"{address}/v1/sys/unseal", "PUT", {"key": key})
        if status != _OK:
            raise Failed(f"vault refused a key: {status} {told}")
    if told is None or told["sealed"]:
        raise Failed("vault is still sealed after all keys were given")


def seal(address: str, root_token: str) -> None:
    """Seal a Vault.

    Raises:
        Failed: it refuses.
    """
    status, told = http_call(f"{address}/v1/sys/seal", "PUT", token=root_token)
    if status not in {_OK, 204}:
        raise Failed(f"vault refused to be sealed: {status} {told}")


def _place() -> str:
    return f"vault-{VERSION}-{digest(_SOURCE / 'main.go', _SOURCE / 'go.mod')}"


def _need_go() -> None:
    need("go", "and Vault is compiled with it", "install Go 1.21 or newer")


def _build(cache: Cache, folder: Path) -> None:
    env = {
        "GOMODCACHE": str(cache.path("go") / "modules"),
        "GOCACHE": str(cache.path("go") / "build"),
        # The module cache is read-only otherwise, and a person could not remove it.
        "GOFLAGS": "-buildvcs=false -mod=mod -modcacherw",
        "CGO_ENABLED": "0",
    }
    source = folder / "source"
    shutil.copytree(_SOURCE, source)
    run(["go", "mod", "download", _MODULE], source, env)
    # The module's own list of checksums: without it Go would have to ask for each anew.
    own = cache.path("go") / "modules" / _MODULE / "go.sum"
    shutil.copyfile(own, source / "go.sum")
    run(["go", "build", "-ldflags=-s -w", "-o", str(folder / "vaultd"), "."], source, env)
