"""The certified OpenID provider of npm, for the contract suite of any provider."""

import json
import re
import secrets
import shutil
import subprocess
from functools import cache as remembered
from pathlib import Path
from typing import Any, ClassVar

from scripts.services.asking import http_call
from scripts.services.cache import PROGRAMS, Cache, digest, run
from scripts.services.errors import NotAvailable
from scripts.services.home import Home
from scripts.services.service import Service, need

VERSION = "9.13.3"
CLIENT = "cafe-variome"
_SOURCE = PROGRAMS / "oidc_provider"
_LEAST_NODE = 20
_OK = 200
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


class OidcProvider(Service):
    """A provider with one confidential client, whose redirects go to loopback on any port."""

    name: ClassVar[str] = "oidc-provider"
    what: ClassVar[str] = f"npm oidc-provider {VERSION}"
    start_seconds: ClassVar[float] = 30.0

    def install(self, cache: Cache) -> None:
        """Fetch the packages as they are locked."""
        _node()
        if not cache.path(_place()).exists():
            need("npm", "and npm fetches it", "install it (Debian: apt-get install npm)")
        cache.make(_place(), "fetching 40 packages", _build)

    def locate(self, cache: Cache) -> Path:
        """Return the folder of its program."""
        _node()
        place = cache.path(_place())
        if not place.exists():
            raise self.missing()
        return place

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Write who may use it, once, and start it."""
        place = self.locate(cache)
        known = home.credentials(
            lambda: {
                "client_id": CLIENT,
                "client_secret": secrets.token_urlsafe(32),
                "cookie_key": secrets.token_urlsafe(32),
            }
        )
        if not (home.folder / "clients.json").exists():
            home.write("clients.json", json.dumps([_client(known)], indent=1))
        if not (home.folder / "keys.json").exists():
            home.write("keys.json", run([_node(), str(place / "key.mjs")], place))
        return [_node(), str(place / "server.mjs"), str(home.folder), str(home.ports()["port"])]

    def answers(self, home: Home) -> bool:
        """Say whether it publishes what it is."""
        address = f"{self.address(home)}/.well-known/openid-configuration"
        return http_call(address)[0] == _OK

    def more(self, home: Home) -> dict[str, Any]:
        """Return where its clients stand: change the file, then stop and start it."""
        return {"clients": str(home.folder / "clients.json")}


def _client(known: dict[str, Any]) -> dict[str, Any]:
    return {
        "client_id": known["client_id"],
        "client_secret": known["client_secret"],
        # A native client may come back to any port of loopback (RFC 8252, section 7.3).
        "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/callback", "http://127.0.0.1/auth/callback"],
        "post_logout_redirect_uris": ["http://127.0.0.1/"],
        "grant_types": ["authorization_code", "refresh_token", "client_credentials", _DEVICE],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic",
    }


def _place() -> str:
    return f"oidc-provider-{VERSION}-{digest(*sorted(_SOURCE.iterdir()))}"


@remembered
def _node() -> str:
    mend = "install Node.js (Debian: apt-get install nodejs npm)"
    program = need("node", f"and Node.js {_LEAST_NODE} or newer is needed", mend)
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)", told.stdout)
    if found is None or int(found[1]) < _LEAST_NODE:
        raise NotAvailable(f"{program} is {told.stdout.strip()}, {_LEAST_NODE} is needed; {mend}")
    return program


def _build(folder: Path) -> None:
    shutil.copytree(_SOURCE, folder, dirs_exist_ok=True)
    run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], folder)
