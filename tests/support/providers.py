"""Real OpenID providers for the contract suite of `Identity`, each with one person who can log in.

A login is walked through the provider's own pages, as a browser does it (`console/walk.py`).
"""

import asyncio
import base64
import re
import secrets
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlencode, urljoin

from cvf_app.backends.http import Http
from cvf_app.console.login import SCOPE, challenge, code_of
from cvf_app.console.walk import Form, Walk

REDIRECT = "http://127.0.0.1/callback"


@dataclass(frozen=True, kw_only=True)
class Real:
    """A provider that runs, our client at it, and a person."""

    issuer: str
    client_id: str
    client_secret: str
    username: str
    password: str
    has_device: bool = True

    async def log_in(self, authorization_endpoint: str) -> dict[str, str]:
        """Log the person in and return what `exchange_code` wants."""
        return await asyncio.to_thread(self._walk, authorization_endpoint)

    def _walk(self, endpoint: str) -> dict[str, str]:
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT,
            "scope": SCOPE,
            "state": state,
            "nonce": secrets.token_urlsafe(16),
            "prompt": "consent",
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        walk = Walk(self.username, self.password)
        landed = walk.code_address(f"{endpoint}?{urlencode(asked)}", REDIRECT)
        return {"code": code_of(landed, state), "verifier": verifier, "redirect_uri": REDIRECT}

    async def confirm(self, address: str) -> None:
        """Log the person in at the address of a device login, and say yes."""
        await asyncio.to_thread(Consent(self.username, self.password).agree, address)

    async def ask(self, http: Http, endpoint: str, **fields: str) -> dict[str, object]:
        """Ask the provider for tokens as our client, past our own code."""
        pair = f"{self.client_id}:{self.client_secret}"
        basic = base64.b64encode(pair.encode()).decode()
        answer = await http.post_form(endpoint, fields, headers={"Authorization": f"Basic {basic}"})
        assert answer.succeeded, answer.body
        return answer.fields()


class Consent(Walk):
    """A person who presses every button that agrees."""

    agrees = ("accept", "confirm")

    def agree(self, start: str) -> None:
        """Walk on from page to page until one asks for nothing more."""
        address, answer = start, self._visit("GET", start)
        for _ in range(15):
            if answer.status in (301, 302, 303, 307, 308):
                address = urljoin(address, answer.headers["location"])
                answer = self._visit("GET", address)
                continue
            assert answer.status == 200, (address, answer.status)
            page = answer.body.decode(errors="replace")
            form = Form(page)
            if not form.fields and not form.buttons:
                link = self._onward(page)
                if link is None:
                    return
                address = urljoin(address, link)
                answer = self._visit("GET", address)
                continue
            fields = self._filled(form)
            for name in self.agrees:
                if name in form.buttons:
                    fields[name] = next(iter(form.buttons[name])) or "yes"
            address = urljoin(address, form.action) if form.action else address
            answer = self._visit("POST", address, fields)
        raise AssertionError(f"the pages of {start} do not end")

    def _onward(self, page: str) -> str | None:
        """Return the link of a page without a form that leads on, if there is one."""
        found = re.search(r'href="([^"]*/login-actions/action-token[^"]*)"', page)
        return None if found is None else unescape(found[1])
