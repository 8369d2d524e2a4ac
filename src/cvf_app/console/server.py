"""The console's HTTP client: one request at a time, one connection each, answers as JSON.

Promises: every failure is a `Failure` with the server's own sentence and path and an advice;
a request is sent again only when its access token had run out.
"""

import http.client
import json
import shutil
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import urlencode, urlsplit

from cvf_app.console.failures import Failure, NoSuchThing, NotLoggedIn, NotReached

Json: TypeAlias = Any
Token = Callable[[bool], str]
_PATIENCE_SECONDS = 60.0
_PIECE = 2**20
_ADVICE = {
    403: "Somebody with the right role can do it, or give you the role: see 'cvf whoami'.",
    409: "Look at what is there now, and try again.",
    413: "Send less at once.",
    429: "Try again later.",
    503: "Try again in a moment; the log of the instance has the details.",
    507: "Make room on the machine of the instance.",
}


@dataclass(frozen=True)
class Answer:
    """Status, headers (names in lower case) and body of a response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()

    def json(self) -> Json:
        """Read the body as JSON; none if it is none."""
        try:
            return json.loads(self.body) if self.body else None
        except ValueError:
            return None


def exchange(
    method: str,
    address: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    patience: float = _PATIENCE_SECONDS,
    sink: BinaryIO | None = None,
) -> Answer:
    """Send one request and return whatever the answer is; redirects are not followed.

    The body of a good answer goes to `sink`, if there is one, piece by piece.

    Raises:
        NotReached: nothing answered.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotReached(
            f"{address} is no address of a server.", advice="Give one as --server http://host:port"
        )
    connection = (
        http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=patience, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname, parts.port, timeout=patience)
    )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        good = response.status < http.client.MULTIPLE_CHOICES
        content = b"" if sink is not None and good else response.read()
        if sink is not None and good:
            shutil.copyfileobj(response, sink, _PIECE)
    except (OSError, http.client.HTTPException) as fault:
        raise NotReached(
            f"{parts.scheme}://{parts.netloc} does not answer ({fault or type(fault).__name__}).",
            advice="Is it running? ./CafeVariome3.sh status; for another address: --server URL",
        ) from fault
    finally:
        connection.close()
    return Answer(
        status=response.status,
        headers={name.lower(): value for name, value in response.getheaders()},
        body=content,
        cookies=tuple(response.headers.get_all("Set-Cookie") or ()),
    )


class Server:
    """One instance, asked on behalf of whoever the token is for."""

    def __init__(self, address: str, token: Token | None = None) -> None:
        """Speak to `address`; `token(True)` must give a new token, `token(False)` the present."""
        self.address = address.rstrip("/")
        self._token = token

    def get(self, path: str, **params: str) -> Json:
        """Read a thing."""
        return self.call("GET", path + (f"?{urlencode(params)}" if params else ""))

    def send(self, method: str, path: str, value: Json = None) -> Json:
        """Send a value as JSON and return the answer."""
        return self.call(method, path, body=None if value is None else json.dumps(value).encode())

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """Send one request; a token that has run out is renewed once.

        Raises:
            Failure: the server refused; the sentence is its own.
        """
        return self.answer(method, path, body=body, headers=headers).json()

    def answer(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return the whole answer; a token that has run out is renewed once.

        Raises:
            Failure: the server refused; the sentence is its own.
        """
        answer = self._once(method, path, body, headers, None, anew=False)
        if answer.status == http.client.UNAUTHORIZED and self._token is not None:
            answer = self._once(method, path, body, headers, None, anew=True)
        if answer.status >= http.client.BAD_REQUEST:
            raise refusal(answer)
        return answer

    def save(self, path: str, sink: BinaryIO, headers: Mapping[str, str] | None = None) -> None:
        """Write the bytes of an answer to a file; a token that has run out is renewed once.

        Raises:
            Failure: the server refused; the sentence is its own.
        """
        answer = self._once("GET", path, None, headers, sink, anew=False)
        if answer.status == http.client.UNAUTHORIZED and self._token is not None:
            answer = self._once("GET", path, None, headers, sink, anew=True)
        if answer.status >= http.client.BAD_REQUEST:
            raise refusal(answer)

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        sink: BinaryIO | None,
        *,
        anew: bool,
    ) -> Answer:
        sent = {"Accept": "application/json"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= dict(headers or {})
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token(anew)}"
        return exchange(method, self.address + path, body=body, headers=sent, sink=sink)


def refusal(answer: Answer) -> Failure:
    """Say a refused request in the server's words."""
    told = answer.json()
    if not isinstance(told, dict) or not isinstance(told.get("error"), str):
        return Failure(f"The server answered {answer.status} without saying why.")
    sentence, path = told["error"], told.get("path")
    if answer.status == http.client.UNAUTHORIZED:
        return NotLoggedIn(sentence)
    if answer.status == http.client.NOT_FOUND:
        return NoSuchThing(sentence, path=path)
    advice = _ADVICE.get(answer.status, "")
    if answer.status >= http.client.INTERNAL_SERVER_ERROR and told.get("traceId"):
        advice = f"{advice} In the log it is {told['traceId']}.".strip()
    return Failure(sentence, path=path, advice=advice)
