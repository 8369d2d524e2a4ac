"""The one table from our errors to HTTP statuses, and the shape of an error body.

A body has `error` (the sentence), `code`, `traceId` and, where one field is at fault, `path`.
Details of surprises go to the log under the same trace id, never to the caller.
"""

from uuid import uuid4

import structlog
from quart import Quart, Response, current_app, g
from werkzeug.exceptions import HTTPException

from cvf_app import errors
from cvf_app.web.io import reply
from cvf_app.wire import Wire

STATUS: dict[type[errors.CafeVariomeError], int] = {
    errors.Invalid: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TimedOut: 408,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.Exhausted: 429,
    errors.PeerFailed: 502,
    errors.Unavailable: 503,
    errors.StorageFull: 507,
}
_HTTP_CODES = {
    400: "invalid",
    404: "notFound",
    405: "methodNotAllowed",
    408: "timedOut",
    413: "tooLarge",
    415: "invalid",
    416: "invalid",
}
_HTTP_SENTENCES = {
    404: "There is nothing here.",
    405: "This address does not take that method.",
    408: "The request did not arrive in time.",
    413: "The request is larger than this server takes.",
    416: "There are no such bytes in this content.",
}
log = structlog.get_logger("cv3.web")


class ErrorBody(Wire, frozen=True, kw_only=True):
    """What a caller gets of an error."""

    error: str
    code: str
    trace_id: str
    path: str | None = None


def install(app: Quart) -> None:
    """Give every request a trace id and every error its one shape."""
    app.extensions.setdefault("cv3_credentials_refused", _nobody_hears)
    app.before_request(_trace)
    app.register_error_handler(errors.CafeVariomeError, _foreseen)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _surprise)


def status_of(fault: errors.CafeVariomeError) -> int:
    """Return the HTTP status of one of our errors, or of its nearest ancestor in the table."""
    return next((STATUS[kind] for kind in type(fault).__mro__ if kind in STATUS), 500)


async def _trace() -> None:
    g.trace_id = uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(trace_id=g.trace_id)


def _trace_id() -> str:
    return str(g.get("trace_id") or uuid4().hex)


async def _foreseen(fault: errors.CafeVariomeError) -> Response:
    status = status_of(fault)
    response = reply(
        ErrorBody(error=fault.sentence, code=fault.code, trace_id=_trace_id(), path=fault.path),
        status,
    )
    if status == 401:  # noqa: PLR2004 - RFC 6750, section 3
        response.headers["WWW-Authenticate"] = "Bearer"
    if status == 503:  # noqa: PLR2004 - RFC 9110, section 15.6.4
        response.headers["Retry-After"] = "5"
        if isinstance(fault, errors.CredentialsRefused):
            current_app.extensions["cv3_credentials_refused"](fault)
        log.warning("service_unavailable", sentence=fault.sentence, cause=fault.__cause__)
    return response


def _nobody_hears(fault: errors.CredentialsRefused) -> None:
    log.warning("credentials_refused", sentence=fault.sentence)


async def _http(fault: HTTPException) -> Response:
    status = fault.code or 500
    sentence = _HTTP_SENTENCES.get(status, "This request cannot be answered as it is.")
    response = reply(
        ErrorBody(error=sentence, code=_HTTP_CODES.get(status, "error"), trace_id=_trace_id()),
        status,
    )
    for name, value in fault.get_headers():
        if name.lower() in ("allow", "content-range"):
            response.headers[name] = value
    return response


async def _surprise(fault: Exception) -> Response:
    log.error("surprise", exc_info=fault)
    body = ErrorBody(
        error="Something went wrong here; the log has the details.",
        code="error",
        trace_id=_trace_id(),
    )
    return reply(body, 500)
