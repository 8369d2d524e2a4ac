"""`cvf login`: the authorization code flow with PKCE (S256), state and nonce.

With a browser the code comes to a loopback address of ours; on the machine of a local
instance the provider's form is walked with the administrator's own login, without a browser.
On a machine without one the person confirms elsewhere: see `device.py`.
"""

import base64
import hashlib
import secrets
import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from cvf_app.console.failures import Failure
from cvf_app.console.server import Server
from cvf_app.console.session import Session, kept
from cvf_app.console.walk import Walk
from cvf_app.wire import Heard, convert

_WAIT_SECONDS = 300.0
# The path is registered at the provider; of loopback addresses it takes any port (RFC 8252, 7.3).
LOOPBACK = "http://127.0.0.1:8765/callback"
SCOPE = "openid profile email"
_LANDED = b"<!doctype html><title>Cafe Variome</title><p>Logged in. You can close this window.</p>"
Fetch = Callable[[str, str], str]


class Provider(Heard, frozen=True, kw_only=True):
    """Where and as what to log in, as `GET /config/keycloak` says it."""

    # Published with an underscore.
    client_id: str = msgspec.field(name="client_id")
    authorization_endpoint: str
    device_authorization_endpoint: str | None = None


def provider_of(server: Server) -> Provider:
    """Ask an instance where to log in."""
    return convert(server.get("/config/keycloak"), Provider)


def log_in(address: str, fetch: Fetch) -> Session:
    """Log in at the instance; `fetch` turns the authorization address into the redirect's.

    Raises:
        Failure: the provider or the instance refused.
    """
    server = Server(address)
    provider = provider_of(server)
    verifier, state, nonce = (secrets.token_urlsafe(n) for n in (48, 24, 24))
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": LOOPBACK,
        "scope": SCOPE,
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
    }
    landed = fetch(f"{provider.authorization_endpoint}?{urlencode(asked)}", LOOPBACK)
    code = code_of(landed, state)
    given = server.send(
        "POST",
        "/auth/token",
        {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": LOOPBACK,
        },
    )
    return kept(server.address, given)


def challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636, section 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def code_of(landed: str, state: str) -> str:
    """Return the code in the redirect's address.

    Raises:
        Failure: it carries an error, or a state that is not ours.
    """
    told = {name: values[0] for name, values in parse_qs(urlsplit(landed).query).items()}
    if "error" in told:
        reason = told.get("error_description") or told["error"]
        raise Failure(f"The identity provider refused the login: {reason}.")
    if not secrets.compare_digest(told.get("state", "").encode(), state.encode()):
        raise Failure("The login came back with a state that is not ours; it was not used.")
    if "code" not in told:
        raise Failure("The identity provider sent no code.")
    return told["code"]


def by_form(username: str, password: str) -> Fetch:
    """Log in by walking the provider's form."""
    return Walk(username, password).code_address


def by_browser(say: Callable[[str], None]) -> Fetch:
    """Log in with the person's browser; the code comes to a loopback address of ours."""

    def fetch(start: str, back: str) -> str:
        landed: list[str] = []

        class Landing(BaseHTTPRequestHandler):
            """Takes the one redirect."""

            def do_GET(self) -> None:
                """Keep the address and thank the person."""
                if self.path.split("?")[0] != urlsplit(back).path:
                    self.send_error(404)
                    return
                landed.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(_LANDED)

            def log_message(self, *_: object) -> None:
                """Say nothing: the address holds the code."""

        port = urlsplit(back).port or 80
        try:
            landing = HTTPServer(("127.0.0.1", port), Landing)
        except OSError as fault:
            raise Failure(
                f"Port {port}, where the browser would come back to, is taken ({fault}).",
                advice="End the other 'cvf login', or what holds the port, and try again.",
            ) from fault
        with landing:
            landing.timeout = _WAIT_SECONDS
            say(f"Log in with your browser; if none opens, go to:\n{start}")
            webbrowser.open(start)
            while not landed:
                if not _handle(landing):
                    raise Failure("Nobody logged in within five minutes.")
        return landed[0]

    return fetch


def _handle(landing: HTTPServer) -> bool:
    """Wait for one request; say whether one came."""
    came = True

    def late() -> None:
        nonlocal came
        came = False

    landing.handle_timeout = late  # type: ignore[method-assign]  # its way to hear of a time-out
    landing.handle_request()
    return came
