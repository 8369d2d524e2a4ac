"""Lines of the log pushed to Loki and to a Splunk collector.

Promises: lines arrive in the order of writing, in batches, at least once: a batch is sent again,
with growing pauses, until the receiver says that it has it, and nothing after it is sent before.
What a receiver refuses for good (400, 413, 422) is dropped and counted, for it would be refused
for ever. A receiver that is away, slow or answers nonsense costs nothing but the bounded backlog
(`log_outlets.py`): a shipper is a task of its own, and requests never wait for it. At the stop
what waits is sent within a limit; the rest is counted as dropped.
"""

import asyncio
import base64
import json
import random
import socket
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

import structlog
from yarl import URL

from cvf_app import config, metrics
from cvf_app.backends.http import Answer, Http
from cvf_app.backends.log_outlets import Line, Outlet
from cvf_app.errors import CafeVariomeError, Invalid

log = structlog.get_logger("cv3.log")

TICK_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
PATIENCE_SECONDS = 10.0
_BATCH_LINES = 1000
_BATCH_BYTES = 900_000
_FOR_GOOD = frozenset({400, 413, 422})
_LOKI_PATH = "/loki/api/v1/push"
_SPLUNK_PATH = "/services/collector/event"


class Receiver(Protocol):
    """How lines are written for one kind of receiver, and how it says that it has them."""

    @property
    def name(self) -> str:
        """Its name in metrics."""
        ...

    @property
    def url(self) -> str:
        """The address that is pushed to."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of a push, its login among them."""
        ...

    def write(self, batch: Sequence[Line]) -> bytes:
        """Write a batch as the body of one request."""
        ...

    def has_taken(self, answer: Answer) -> bool:
        """Say whether the answer to it means that the lines are kept."""
        ...


class Loki:
    """Grafana Loki's push interface: `POST /loki/api/v1/push` with one stream.

    Source: Loki's HTTP API, "Ingest logs": a stream has at least one label; each value is a pair
    of strings, nanoseconds since 1970 and the line; the answer is 204.
    """

    name = "loki"

    def __init__(self, settings: config.Loki, application: str) -> None:
        """Push to the configured address with the configured tags as labels."""
        self.url = _address(settings.endpoint, _LOKI_PATH)
        self._labels = {"app": application, **settings.tags}
        self.headers = {"Content-Type": "application/json"}
        if settings.auth.enabled:
            login = f"{settings.auth.username}:{settings.auth.password}".encode()
            self.headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"

    def write(self, batch: Sequence[Line]) -> bytes:
        """Write the lines as one stream."""
        values = [[str(line.moment), line.text] for line in batch]
        stream = {"stream": self._labels, "values": values}
        return json.dumps({"streams": [stream]}, ensure_ascii=False).encode()

    def has_taken(self, answer: Answer) -> bool:
        """Say whether it answered 204, or 200 without words, as some that speak for Loki do."""
        empty = answer.status == HTTPStatus.OK and not answer.body
        return answer.status == HTTPStatus.NO_CONTENT or empty


class Splunk:
    """A Splunk HTTP event collector: events one after another in one body.

    Source: Splunk's "Format events for HTTP Event Collector": `Authorization: Splunk <token>`,
    `time` in seconds with a fraction, `event` an object; taken is 200 with `code` 0.
    """

    name = "splunk"

    def __init__(self, settings: config.SplunkHec, application: str) -> None:
        """Push to the configured address with the configured token."""
        self.url = _address(settings.hec_endpoint, _SPLUNK_PATH)
        self.headers = {
            "Content-Type": "application/json",
            "Authorization": f"Splunk {settings.token}",
        }
        self._about = {"source": application, "sourcetype": "_json", "host": socket.gethostname()}

    def write(self, batch: Sequence[Line]) -> bytes:
        """Write each line as an event."""
        events = []
        for line in batch:
            seconds, rest = divmod(line.moment, 1_000_000_000)
            envelope = json.dumps({"time": f"{seconds}.{rest:09}", **self._about})
            # The line is JSON already; it is not read and written again.
            events.append(f'{envelope[:-1]}, "event": {line.text}}}')
        return "\n".join(events).encode()

    def has_taken(self, answer: Answer) -> bool:
        """Say whether it answered success in its own words, and not a page of a proxy."""
        try:
            return answer.succeeded and answer.fields().get("code") == 0
        except Invalid:
            return False


class Shipper:
    """Sends what waits in an outlet to its receiver."""

    def __init__(
        self,
        receiver: Receiver,
        outlet: Outlet,
        http: Http,
        *,
        patience: float = PATIENCE_SECONDS,
        first_pause: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        """Take what is needed; `run` begins. A push is given up after `patience` seconds."""
        self._patience = patience
        self._first_pause = first_pause
        self._receiver = receiver
        self._outlet = outlet
        self._http = http
        self._batch: tuple[Line, ...] = ()
        self._complained = False

    @property
    def name(self) -> str:
        """The receiver's name."""
        return self._receiver.name

    async def run(self) -> None:
        """Send for ever, a batch after another."""
        failures = 0
        while True:
            if not self._batch and not self._outlet.waiting:
                await asyncio.sleep(TICK_SECONDS)
                continue
            if await self._send():
                failures = 0
                continue
            pause = min(LONGEST_PAUSE_SECONDS, self._first_pause * 2**failures)
            failures = min(failures + 1, 10)
            # Several workers must not come all at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def flush(self, seconds: float) -> None:
        """Send what waits, for no longer than that and to the first failure; count the rest."""
        try:
            async with asyncio.timeout(seconds):
                while self._batch or self._outlet.waiting:
                    if not await self._send():
                        break
        except TimeoutError:
            pass  # what is left is counted
        left = len(self._batch)
        while more := self._outlet.take(_BATCH_LINES, _BATCH_BYTES):
            left += len(more)
        self._batch = ()
        if left:
            self._outlet.count_dropped("stopped", left)

    async def _send(self) -> bool:
        """Send the next batch, or again the one that is not taken yet; false when it failed."""
        self._batch = self._batch or self._outlet.take(_BATCH_LINES, _BATCH_BYTES)
        receiver = self._receiver
        try:
            async with asyncio.timeout(self._patience):
                answer = await self._http.post(
                    receiver.url,
                    receiver.write(self._batch),
                    service=receiver.name,
                    headers=receiver.headers,
                )
        except (CafeVariomeError, TimeoutError):
            return False  # the client has written down why
        number = len(self._batch)
        if receiver.has_taken(answer):
            metrics.log_shipped.labels(receiver.name).inc(number)
            self._complained = False
        else:
            if not self._complained:  # once, or each complaint would be the next one's cause
                log.warning("log_not_taken", to=receiver.name, status=answer.status)
            self._complained = True
            if answer.status not in _FOR_GOOD:
                return False
            self._outlet.count_dropped("refused", number)
        self._batch = ()
        return True


def receivers(settings: config.Logging) -> tuple[Receiver, ...]:
    """Return the receivers that are switched on."""
    found: list[Receiver] = []
    if settings.splunk_hec.enabled:
        found.append(Splunk(settings.splunk_hec, settings.name))
    if settings.loki.enabled:
        found.append(Loki(settings.loki, settings.name))
    return tuple(found)


def _address(given: str, path: str) -> str:
    """Complete an address that names only the server."""
    url = URL(given)
    return str(url if url.path not in {"", "/"} else url.with_path(path))
