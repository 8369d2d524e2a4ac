"""`cvf login --device`: the device flow (RFC 8628), for a machine without a browser.

The instance asks the provider on our behalf, since the client's secret is its own. The person
opens an address on any machine and confirms; meanwhile we ask the instance, no faster than we are
told. What an answer means is told by its `code`, never by its status. The device code is bound to
a PKCE verifier that stays here, so that nobody else can redeem it.
"""

import http.client
import json
import os
import secrets
import sys
import time
import webbrowser
from collections.abc import Callable

from cvf_app.console.failures import Failure, NotReached
from cvf_app.console.login import challenge, provider_of
from cvf_app.console.server import Answer, Server, exchange, refusal
from cvf_app.console.session import Session, kept
from cvf_app.wire import Heard, convert

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628, section 3.5: by so much the interval grows with every `slow_down`.
_SLOWER_SECONDS = 5
_PENDING, _SLOW_DOWN, _UNAVAILABLE = "authorization_pending", "slow_down", "unavailable"


class Device(Heard, frozen=True, kw_only=True, rename=None):
    """A login that waits for the person (RFC 8628, section 3.2); seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str = ""
    expires_in: int
    interval: int = 5


def has_browser() -> bool:
    """Say whether this machine can show a login page to the person."""
    if os.environ.get("BROWSER"):
        return True
    seen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not seen:
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def log_in_by_device(
    address: str,
    say: Callable[[str], None],
    wait: Callable[[float], None] = time.sleep,
) -> Session:
    """Log in at the instance; `say` tells the person where to confirm.

    Raises:
        Failure: the provider offers no such login, nobody confirmed, or the person said no.
    """
    server = Server(address)
    if provider_of(server).device_authorization_endpoint is None:
        raise Failure(
            "The identity provider of this instance offers no login by device code.",
            advice="Log in with a browser instead: cvf login --browser",
        )
    verifier = secrets.token_urlsafe(48)
    asked = {"code_challenge": challenge(verifier)}
    device = convert(server.send("POST", "/auth/device", asked), Device)
    say(f"Open {device.verification_uri} on any machine and type this code: {device.user_code}")
    if device.verification_uri_complete:
        say(f"Or open {device.verification_uri_complete}")
    sent = {"grant_type": _GRANT, "device_code": device.device_code, "code_verifier": verifier}
    interval, waited = max(1, device.interval), 0
    while waited < device.expires_in:
        wait(interval)
        waited += interval
        answer = _ask(server, sent)
        if answer is not None and answer.status < http.client.BAD_REQUEST:
            return kept(server.address, answer.json())
        code = _UNAVAILABLE if answer is None else _code_of(answer)
        if code in {_SLOW_DOWN, _UNAVAILABLE}:
            interval += _SLOWER_SECONDS
        elif answer is not None and code != _PENDING:
            raise _ended(answer)
    raise Failure("Nobody confirmed this login in time.", advice="Try again: cvf login --device")


def _ask(server: Server, sent: dict[str, str]) -> Answer | None:
    """Ask for the tokens; none if the instance did not answer, which may pass."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    try:
        return exchange(
            "POST",
            f"{server.address}/auth/token",
            body=json.dumps(sent).encode(),
            headers=headers,
        )
    except NotReached:
        return None


def _code_of(answer: Answer) -> str:
    told = answer.json()
    return str(told.get("code", "")) if isinstance(told, dict) else ""


def _ended(answer: Answer) -> Failure:
    fault = refusal(answer)
    # `cvf login` is what the person is doing; what to do next is to begin again.
    return Failure(fault.sentence, advice="Try again: cvf login --device")
