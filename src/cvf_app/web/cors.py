"""Which pages of other origins may call us: exactly the configured lists, and never `*`."""

from collections.abc import Awaitable, Callable

from quart import Quart, Response, current_app, request

from cvf_app.config import Cors, as_list

_ORIGINS = "cv3_origins"


def install(app: Quart, cors: Cors) -> None:
    """Answer preflights and mark replies for the configured origins (Fetch standard)."""
    origins = frozenset(as_list(cors.allow_origin))
    app.extensions[_ORIGINS] = origins
    methods = ", ".join(as_list(cors.allow_methods))
    headers = ", ".join(as_list(cors.allow_headers))
    if origins:
        app.before_request(_preflight)
        app.after_request(_marker(origins, methods, headers))


def may_open(origin: str | None, host: str) -> bool:
    """Say whether a page of this origin may open a websocket here (RFC 6455, section 10.2).

    No preflight guards websockets. A program that is no browser sends no origin; a page of our own
    host may, whatever stands before us and speaks TLS.
    """
    if origin is None:
        return True
    ours = origin in {f"http://{host}", f"https://{host}"}
    return ours or origin in current_app.extensions[_ORIGINS]


async def _preflight() -> Response | None:
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return Response(status=204)
    return None


def _marker(
    origins: frozenset[str], methods: str, headers: str
) -> Callable[[Response], Awaitable[Response]]:
    async def mark(response: Response) -> Response:
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if origin in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Allow-Methods"] = methods
            response.headers["Access-Control-Allow-Headers"] = headers
            response.headers["Access-Control-Expose-Headers"] = (
                "Location, Preference-Applied, Retry-After, "
                "Accept-Ranges, Content-Range, Content-Disposition, ETag"
            )
        return response

    return mark
