"""Metrics for Prometheus: counting requests, and the path on which everything is told.

Promises: with a key, only who sends it gets an answer (`Authorization: Bearer <key>`, or the key
alone); it is compared in constant time, as bytes, since a key that is no ASCII must not become a
fault. Without a key the path is closed to everybody but programs on the same machine, and what a
proxy on this machine passes on is not of the same machine.
"""

import hmac
import ipaddress
import time

from quart import Blueprint, Quart, Response, g, request

from cvf_app import metrics
from cvf_app.config import Prometheus
from cvf_app.errors import Forbidden, Unauthenticated
from cvf_app.loops import in_thread
from cvf_app.web.access import public

_PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def measure(app: Quart) -> None:
    """Count requests and their seconds by route template."""
    app.before_request(_begin)
    app.after_request(_count)


async def _begin() -> None:
    g.begin = time.perf_counter()


async def _count(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "none"
    now = time.perf_counter()
    metrics.count_request(route, request.method, response.status_code, now - g.get("begin", now))
    return response


def exporter(settings: Prometheus) -> Blueprint:
    """Make the blueprint of the metrics on their configured path."""
    blueprint = Blueprint("exporter", __name__)

    @blueprint.get(settings.path)
    @public
    async def scrape() -> Response:
        _check_key(settings.key)
        # It reads the files of all processes, which takes milliseconds that others may need.
        told = await in_thread(metrics.exposition)
        return Response(told, content_type="text/plain; version=0.0.4; charset=utf-8")

    return blueprint


def _check_key(key: str) -> None:
    if not key:
        if not _is_from_here():
            raise Forbidden("The metrics have no key yet and are told on their own machine only.")
        return
    given = request.headers.get("Authorization", "").strip()
    scheme, _, rest = given.partition(" ")
    told = rest.strip() if scheme.lower() == "bearer" else given
    # A header is the bytes that came, read as Latin-1 (RFC 9110, section 5.5).
    if not hmac.compare_digest(told.encode("latin-1", "replace"), key.encode()):
        raise Unauthenticated("The metrics need their key: send 'Authorization: Bearer <key>'.")


def _is_from_here() -> bool:
    if any(name in request.headers for name in _PASSED_ON):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False
