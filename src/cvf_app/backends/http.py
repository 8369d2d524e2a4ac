"""The one HTTP client: everything that leaves this instance leaves here.

Promises: no redirect is followed, no proxy of the environment is used, every request has a time
limit, and no answer larger than the cap (counted after decompression) is read. An address that
people or peers name must be https on a usual port and lead to a public network address, and the
address that was checked is the one that is connected to. Exempt are exact origins (scheme, host,
port) of the instance's own configuration. A configured service that fails is `Unavailable` with
its name; any other target that fails is `PeerFailed` with one sentence for all reasons, so that
nobody can feel out a private network with us.
"""

import asyncio
import ipaddress
import json as jsonlib
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from cvf_app import metrics
from cvf_app.errors import CafeVariomeError, Invalid, PeerFailed, Unavailable
from cvf_app.wire import decode

log = structlog.get_logger("cv3.http")

_LARGEST_ANSWER = 16 * 1024 * 1024
_USUAL_PORTS = (443, 8443)
_SUCCESS = range(200, 300)
_SERVER_FAULT = 500
_BLOCKED = tuple(
    ipaddress.ip_network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/127",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answered: its status, its headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def succeeded(self) -> bool:
        """Say whether the status is one of success."""
        return self.status in _SUCCESS

    def fields(self) -> dict[str, object]:
        """Read the body as a JSON object.

        Raises:
            Invalid: it is none.
        """
        return decode(self.body, dict[str, object])


class Http:
    """The guarded client; `open` makes it inside a running event loop, `close` ends it."""

    def __init__(
        self,
        guarded: aiohttp.ClientSession,
        configured: aiohttp.ClientSession,
        allowed_origins: frozenset[str],
        least_seconds: float,
    ) -> None:
        self._guarded = guarded
        self._configured = configured
        self._origins = frozenset(str(URL(text).origin()) for text in allowed_origins)
        self._least_seconds = least_seconds

    @classmethod
    def open(
        cls,
        allowed_origins: frozenset[str],
        *,
        connect_seconds: float = 5,
        total_seconds: float = 30,
        least_seconds: float = 1,
    ) -> Self:
        """Open the client; `least_seconds` is how long a refused foreign target takes at least."""
        limits = aiohttp.ClientTimeout(
            total=total_seconds, connect=connect_seconds, sock_connect=connect_seconds
        )

        def session(resolver: AbstractResolver) -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, limit=100, limit_per_host=20),
                timeout=limits,
                trust_env=False,
                # Cookies would carry one person's login into the request of another.
                cookie_jar=aiohttp.DummyCookieJar(),
            )

        # Two sessions, since a pooled connection to a configured origin must serve nobody else.
        return cls(
            session(_PublicOnly()),
            session(aiohttp.ThreadedResolver()),
            allowed_origins,
            least_seconds,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._guarded.close()
        await self._configured.close()

    async def get_json(self, url: str, *, service: str = "") -> dict[str, object]:
        """Get a JSON object; anything but success with an object is a failure.

        Raises:
            Unavailable: a configured service failed.
            PeerFailed: another target failed.
        """
        answer = await self.send("GET", url, service=service)
        if not answer.succeeded:
            raise self._failure(url, service)
        try:
            return answer.fields()
        except Invalid as fault:
            raise self._failure(url, service) from fault

    async def post_form(
        self,
        url: str,
        fields: Mapping[str, str],
        *,
        service: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Post form fields and return whatever the server answers.

        Raises:
            Unavailable: a configured service did not answer.
            PeerFailed: another target did not answer.
        """
        return await self._request("POST", url, service, headers, form=dict(fields))

    async def send(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        service: str = "",
    ) -> Answer:
        """Send a request, with a JSON body if one is given, and return whatever is answered.

        Raises:
            Unavailable: a configured service did not answer.
            PeerFailed: another target did not answer.
        """
        body = None if json is None else jsonlib.dumps(json).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        return await self._request(method, url, service, {**kind, **(headers or {})}, body=body)

    async def post(
        self, url: str, body: bytes, *, service: str, headers: Mapping[str, str]
    ) -> Answer:
        """Post bytes that are no single JSON value and return whatever is answered.

        Raises:
            Unavailable: a configured service did not answer.
            PeerFailed: another target did not answer.
        """
        return await self._request("POST", url, service, headers, body=body)

    async def _request(  # noqa: PLR0913 - one place for all that a request can have
        self,
        method: str,
        url: str,
        service: str,
        headers: Mapping[str, str] | None,
        *,
        body: bytes | None = None,
        form: dict[str, str] | None = None,
    ) -> Answer:
        started = time.monotonic()
        target = _target(url)
        configured = self._is_configured(target)
        session = self._configured if configured else self._guarded
        try:
            if not configured:
                _check_foreign(target)
            async with (
                _counted(service if configured else "") as call,
                session.request(
                    method,
                    target,
                    data=form if body is None else body,
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                content = await _read_capped(response)
                if response.status >= _SERVER_FAULT:
                    call.outcome = "failed"
                return Answer(status=response.status, headers=dict(response.headers), body=content)
        except (aiohttp.ClientError, TimeoutError, OSError, _Refused) as fault:
            log.warning("request_failed", host=target.host, service=service, cause=fault)
            if not configured:
                await asyncio.sleep(max(0.0, started + self._least_seconds - time.monotonic()))
            raise self._failure(url, service) from fault

    def _is_configured(self, target: URL) -> bool:
        return target.user is None and str(target.origin()) in self._origins

    def _failure(self, url: str, service: str) -> CafeVariomeError:
        if self._is_configured(_target(url)):
            return Unavailable(f"{service or 'A service'} did not answer as it should; try later.")
        return PeerFailed(f"{service or 'The address'} could not be reached.")


@asynccontextmanager
async def _counted(service: str) -> AsyncIterator[metrics.ServiceCall]:
    """Count a call of a configured service under its name in one word: `identity-provider`."""
    if not service:
        yield metrics.ServiceCall(outcome="")
        return
    with metrics.service_call(service.lower().removeprefix("the ").replace(" ", "-")) as call:
        yield call


class _Refused(Exception):
    """The guard does not let a request out, or its answer in."""


class _PublicOnly(AbstractResolver):
    """Names to addresses, public ones only; the connection then goes to just these."""

    def __init__(self) -> None:
        self._names = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        # One private address among public ones is a trap, not a choice.
        if not found or any(is_blocked(entry["host"]) for entry in found):
            raise OSError(f"{host} does not lead to public addresses only")
        return found

    async def close(self) -> None:
        await self._names.close()


def is_blocked(address: str) -> bool:
    """Say whether an IP address is private, local, reserved or no address at all."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    return any(parsed in block for block in _BLOCKED if block.version == parsed.version)


def _target(url: str) -> URL:
    try:
        target = URL(url)
        usable = target.scheme in {"http", "https"} and bool(target.host) and bool(target.port)
    except ValueError as fault:
        raise Invalid("This is not a web address.") from fault
    if not usable:
        raise Invalid("This is not a web address.")
    return target


def _check_foreign(target: URL) -> None:
    host = target.host or ""
    if target.scheme != "https" or target.port not in _USUAL_PORTS:
        raise _Refused("only https on a usual port")
    if target.user is not None or target.password is not None:
        raise _Refused("no login inside an address")
    # An address written as a number never reaches the resolver, so it is checked here.
    literal = host.strip("[]").partition("%")[0]
    if (":" in literal or literal.replace(".", "").isdigit()) and is_blocked(literal):
        raise _Refused("no private address")


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_chunked(64 * 1024):
        size += len(piece)
        if size > _LARGEST_ANSWER:
            raise _Refused("the answer is too large")
        pieces.append(piece)
    return b"".join(pieces)
