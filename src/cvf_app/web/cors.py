"""Which pages of other origins may call us: exactly the configured lists, and never `*`."""

from collections.abc import Awaitable, Callable

from quart import Quart, Response, request

from cvf_app.config import Cors, as_list


def install(app: Quart, cors: Cors) -> None:
    """Answer preflights and mark replies for the configured origins (Fetch standard)."""
    origins = frozenset(as_list(cors.allow_origin))
    methods = ", ".join(as_list(cors.allow_methods))
    headers = ", ".join(as_list(cors.allow_headers))
    if origins:
        app.before_request(_preflight)
        app.after_request(_marker(origins, methods, headers))


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
                "Location, Preference-Applied, Retry-After"
            )
        return response

    return mark
