"""Logging in at the identity provider of a local instance by walking its real forms.

This is the authorization code flow as a browser does it: each page is read, its hidden
fields are sent back, cookies are kept, redirects are followed until the provider sends the
code to our own address. No password grant, no browser.
"""

import html.parser
import http.client
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

from cvf_app.console.failures import Failure
from cvf_app.console.server import Answer, exchange

_MOST_STEPS = 15
_NAME_FIELDS = ("login", "username", "user_name")
_REDIRECTS = (301, 302, 303, 307, 308)


class Form(html.parser.HTMLParser):
    """The first form of a page that has fields: where it is sent, and its fields."""

    def __init__(self, page: str) -> None:
        """Read the page."""
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.buttons: dict[str, set[str]] = {}
        self._inside = False
        self._done = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in a form, a field or a button."""
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and not self._done:
            self._inside, self.action = True, given.get("action", "")
        name = given.get("name", "")
        if not self._inside or not name:
            return
        if tag == "button" or given.get("type") == "submit":
            self.buttons.setdefault(name, set()).add(given.get("value", ""))
        elif tag == "input":
            self.fields[name] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        """Stop after the first form with fields."""
        if tag == "form" and self._inside:
            self._inside, self._done = False, bool(self.fields)


class Walk:
    """One visit to the provider, with its cookies."""

    def __init__(self, username: str, password: str) -> None:
        """Log in as this person."""
        self._username = username
        self._password = password
        self._cookies: dict[str, str] = {}
        self._password_sent = False

    def code_address(self, start: str, redirect: str) -> str:
        """Walk from the authorization address to the redirect address, and return it whole.

        Raises:
            Failure: the provider did not take the name or the password, or shows another page.
        """
        address, answer = start, self._visit("GET", start)
        for _ in range(_MOST_STEPS):
            if answer.status in _REDIRECTS:
                address = urljoin(address, answer.headers.get("location", ""))
                if address.split("?")[0] == redirect:
                    return address
                answer = self._visit("GET", address)
                continue
            if answer.status != http.client.OK:
                break
            form = Form(answer.body.decode(errors="replace"))
            fields = self._filled(form)
            address = urljoin(address, form.action) if form.action else address
            answer = self._visit("POST", address, fields)
        raise Failure(
            f"The login page at {_origin(address)} ended in something that we do not know "
            f"(status {answer.status}).",
            advice="Log in with a browser instead: cvf login --browser",
        )

    def _filled(self, form: Form) -> dict[str, str]:
        fields = dict(form.fields)
        if "password" in fields:
            if self._password_sent:
                raise Failure("The identity provider did not take this name and password.")
            fields["password"] = self._password
            self._password_sent = True
        for name in _NAME_FIELDS:
            if name in fields:
                fields[name] = self._username
        if "accept" in form.buttons.get("answer", ()):
            fields["answer"] = "accept"
        return fields

    def _visit(self, method: str, address: str, fields: dict[str, str] | None = None) -> Answer:
        headers = {"Accept": "text/html"}
        if self._cookies:
            headers["Cookie"] = "; ".join(
                f"{name}={value}" for name, value in self._cookies.items()
            )
        body = None
        if fields is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers |= {"Origin": _origin(address), "Referer": address}
            body = urlencode(fields).encode()
        answer = exchange(method, address, body=body, headers=headers)
        for line in answer.cookies:
            for name, morsel in SimpleCookie(line).items():
                self._cookies[name] = morsel.value
        return answer


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
