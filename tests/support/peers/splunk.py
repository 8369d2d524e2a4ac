"""A Splunk HTTP event collector that checks what a push must be, and keeps the events.

Source of the rules: Splunk's "Format events for HTTP Event Collector" and "Possible error codes"
(https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector,
https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector).
"""

import json
import re
from dataclasses import dataclass

from aiohttp import web

from tests.support.peers.receivers import Receiver

_KEYS = {"time", "host", "source", "sourcetype", "index", "fields", "event"}
_SPACE = re.compile(r"\s*")
_SECONDS = re.compile(r"[0-9]{10}(\.[0-9]{1,9})?")


@dataclass
class Splunk(Receiver):
    """The peer; `token` is the one that it takes."""

    token: str = ""

    def take(self, request: web.Request, body: bytes) -> tuple[int, bytes]:  # noqa: C901, PLR0911 - one for each rule
        if (request.method, request.path) != ("POST", "/services/collector/event"):
            return self._say(404, "The requested URL was not found on this server.", 404)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Splunk":
            return self._say(401, "Token is required", 2)
        if token != self.token:
            return self._say(403, "Invalid token", 4)
        try:
            events = list(_events(body.decode()))
        except ValueError:
            return self._say(400, "Invalid data format", 6)
        if not events:
            return self._say(400, "No data", 5)
        for number, event in enumerate(events):
            if not isinstance(event, dict) or set(event) - _KEYS:
                return self._say(400, "Invalid data format", 6, number)
            if "event" not in event:
                return self._say(400, "Event field is required", 12, number)
            if not event["event"]:
                return self._say(400, "Event field cannot be blank", 13, number)
            if not _SECONDS.fullmatch(str(event.get("time", ""))):
                return self._say(400, "Error in handling indexed fields", 15, number)
        self.lines += events
        return 200, b'{"text":"Success","code":0}'

    def _say(self, status, text, code, number=None):
        told = {"text": text, "code": code}
        if number is not None:
            told["invalid-event-number"] = number
        self.faults.append(told)
        return status, json.dumps(told).encode()


def _events(text):
    """Read JSON objects that follow each other, with nothing but white space in between."""
    decoder = json.JSONDecoder()
    at = _SPACE.match(text).end()
    while at < len(text):
        event, at = decoder.raw_decode(text, at)
        at = _SPACE.match(text, at).end()
        yield event
