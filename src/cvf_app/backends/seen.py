"""What a service says of itself when it is asked how it is: its name, version and mode.

Nothing here needs a login. A service that runs in a mode for developers is named with a warning:
such a mode keeps nothing, or leaves checks out (product documentation of Vault "Dev server mode"
and Keycloak "start-dev").
"""

import re
from urllib.parse import urljoin

import msgspec

from cvf_app.backends.http import Http
from cvf_app.errors import CafeVariomeError, Unavailable
from cvf_app.wire import Heard, Wire, convert, decode

IDENTITY, SECRETS = "The identity provider", "The secret store (Vault)"
PRODUCTION, DEVELOPMENT = "production", "development"
_DEVELOPMENT = (
    "It runs in its mode for developers, which is not safe and may lack features; start it in its "
    "production mode."
)
_ASSET = re.compile(rb'(?:href|src)="([^"]*/resources/[^"]+\.(?:css|js))"')
_AGE = re.compile(r"max-age=[1-9]")


class Seen(Wire, frozen=True, kw_only=True):
    """A service that answered; what it does not tell is empty."""

    name: str
    version: str = ""
    mode: str = ""
    warning: str = ""


class _Discovered(Heard, frozen=True, kw_only=True):
    issuer: str


class _SealStatus(Heard, frozen=True, kw_only=True):
    sealed: bool
    version: str = ""
    # Vault writes it so; our own wire has camelCase.
    storage_type: str = msgspec.field(name="storage_type", default="")


async def provider(http: Http, issuer: str, reached_at: str, *, is_keycloak: bool) -> Seen:
    """Ask an OpenID provider for its discovery document (OpenID Connect Discovery 1.0, 4).

    Raises:
        Unavailable: it gives none.
    """
    base = (reached_at or issuer).rstrip("/")
    url = f"{base}/.well-known/openid-configuration"
    convert(await http.get_json(url, service=IDENTITY), _Discovered)
    if not is_keycloak:
        return Seen(name="OpenID provider")
    mode = await keycloak_mode(http, base)
    warning = _DEVELOPMENT if mode == DEVELOPMENT else ""
    return Seen(name="Keycloak", mode=mode, warning=warning)


async def keycloak_mode(http: Http, realm: str) -> str:
    """Say in which mode a Keycloak runs, or nothing where it cannot be told.

    Nobody is told without a login; but in the developers' mode the parts of its pages may not be
    kept by browsers, and otherwise they may for a month.
    """
    try:
        page = await http.send("GET", f"{realm}/protocol/openid-connect/auth", service=IDENTITY)
        found = _ASSET.search(page.body)
        if found is None:
            return ""
        asset = await http.send("GET", urljoin(realm, found[1].decode()), service=IDENTITY)
    except CafeVariomeError:
        # A proxy may lead elsewhere; what is not told is left out.
        return ""
    if not asset.succeeded:
        return ""
    named = {name.lower(): value for name, value in asset.headers.items()}
    return PRODUCTION if _AGE.search(named.get("cache-control", "")) else DEVELOPMENT


async def vault(http: Http, host: str) -> Seen:
    """Ask a Vault for its seal status (`GET /v1/sys/seal-status`, no login).

    Raises:
        Unavailable: it gives none, or is sealed.
    """
    answer = await http.send("GET", f"{host.rstrip('/')}/v1/sys/seal-status", service=SECRETS)
    if not answer.succeeded:
        raise Unavailable(f"{SECRETS} does not say how it is (status {answer.status}).")
    status = decode(answer.body, _SealStatus)
    if status.sealed:
        raise Unavailable(f"{SECRETS} is sealed; somebody who holds its keys must unseal it.")
    # Only the developers' mode keeps its data in memory.
    mode = DEVELOPMENT if status.storage_type == "inmem" else PRODUCTION
    warning = _DEVELOPMENT if mode == DEVELOPMENT else ""
    return Seen(name="Vault", version=status.version, mode=mode, warning=warning)
