"""A Loki that checks what a push must be, and keeps the lines.

Source of the rules: Loki's HTTP API, "Ingest logs"
(https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs), and what Loki 3.7
answered when it was asked. Order within a stream is held to strictly, as Loki did before 2.4 and
does where `unordered_writes` is off.
"""

import base64
import json
import re
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.peers.receivers import Receiver

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NANOSECONDS = re.compile(r"[0-9]{19}")


@dataclass
class Loki(Receiver):
    """The peer; `login` is the pair of its basic authentication, if any."""

    login: tuple[str, str] | None = None
    streams: dict = field(default_factory=dict)

    def take(self, request: web.Request, body: bytes) -> tuple[int, bytes]:
        fault = self._fault(request, body)
        if fault:
            return self.refuse(*fault)
        return 204, b""

    def _fault(self, request, body):  # noqa: PLR0911 - one for each rule
        if (request.method, request.path) != ("POST", "/loki/api/v1/push"):
            return 404, f"{request.method} {request.path}"
        if self.login and request.headers.get("Authorization") != _basic(*self.login):
            return 401, "no login"
        if request.content_type != "application/json":
            return 400, f"content type {request.content_type}"
        try:
            pushed = json.loads(body)
        except ValueError:
            return 400, "no JSON"
        if set(pushed) != {"streams"} or not pushed["streams"]:
            return 400, "no streams"
        for stream in pushed["streams"]:
            if set(stream) != {"stream", "values"}:
                return 400, f"a stream has {sorted(stream)}"
            fault = self._labels(stream["stream"]) or self._values(stream)
            if fault:
                return 400, fault
        return None

    def _labels(self, labels):
        if not labels:
            return "error at least one label pair is required per stream"
        for name, value in labels.items():
            if not _LABEL.fullmatch(name) or not isinstance(value, str):
                return f"label {name}={value!r}"
        return ""

    def _values(self, stream):
        key = tuple(sorted(stream["stream"].items()))
        last = self.streams.get(key, "0" * 19)
        for value in stream["values"]:
            if len(value) != 2 or not all(isinstance(each, str) for each in value):
                return f"value {value!r}"
            moment, line = value
            if not _NANOSECONDS.fullmatch(moment):
                return f"time {moment!r}"
            if moment < last:
                return f"entry out of order: {moment} after {last}"
            last = moment
            self.lines.append(line)
        self.streams[key] = last
        return ""


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
