"""Who may call a handler: `@allow(...)` lists the roles, `@public` says anyone.

A handler without either stops the start of the app (`check_access`), so nothing is
open by accident. Roles are listed, never compared. While the instance is maintained, everything
that changes something is refused, but for handlers marked `@in_maintenance`.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from quart import Quart, current_app, g, request
from werkzeug.datastructures import Headers

from cvf_app.errors import Forbidden, Unauthenticated, Unavailable
from cvf_app.principal import Principal, Role

P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[P, Awaitable[R]]
Authenticate = Callable[[str], Awaitable[Principal]]
CheckOperator = Callable[[str, str], Awaitable[None]]
Closed = Callable[[], Awaitable[str | None]]

ANYONE_KNOWN = tuple(Role)
DATA = (Role.DATA_ADMIN, Role.DEVELOPER)
PEOPLE = (Role.SERVER_ADMIN, Role.DEVELOPER)
_WHO = "_cv3_who_may_call"
_OPERATORS = "_cv3_for_operators"
_ALWAYS = "_cv3_in_maintenance"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def allow(*roles: Role) -> Callable[[Handler[P, R]], Handler[P, R]]:
    """Let only these roles call the handler: 401 without a good token, 403 without the role."""

    def guard(handler: Handler[P, R]) -> Handler[P, R]:
        @wraps(handler)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            asker = await _authenticate()
            if asker.role not in roles:
                raise Forbidden("Your role does not allow this.")
            g.principal = asker
            return await handler(*args, **kwargs)

        setattr(guarded, _WHO, frozenset(roles))
        return guarded

    return guard


def greets(*roles: Role) -> Callable[[Handler[P, R]], Handler[P, R]]:
    """Say that a websocket lets in only these roles: it looks at the token itself (`admit`).

    A browser cannot send a header with it, so its token comes in the first message.
    """

    def guard(handler: Handler[P, R]) -> Handler[P, R]:
        setattr(handler, _WHO, frozenset(roles))
        return handler

    return guard


def public(handler: Handler[P, R]) -> Handler[P, R]:
    """Let anyone call the handler, known or not."""
    setattr(handler, _WHO, frozenset())
    return handler


def operators(handler: Handler[P, R]) -> Handler[P, R]:
    """Let tools call the handler that show the shared secret and the time, and no person."""

    @wraps(handler)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        check: CheckOperator = current_app.extensions["cv3_operators"]
        await check(bearer(), request.headers.get("X-Timestamp", ""))
        return await handler(*args, **kwargs)

    setattr(guarded, _WHO, frozenset())
    setattr(guarded, _OPERATORS, True)
    return guarded


def in_maintenance(handler: Handler[P, R]) -> Handler[P, R]:
    """Have a handler that changes something answer during maintenance too."""
    setattr(handler, _ALWAYS, True)
    return handler


def refuse_changes(app: Quart) -> None:
    """Refuse what changes something while the instance is maintained.

    What a handler does is judged by its method: it reads with GET, HEAD and OPTIONS alone.
    """

    async def refuse() -> None:
        rule = request.url_rule
        if request.method in _READING or rule is None:
            return
        if getattr(app.view_functions.get(rule.endpoint), _ALWAYS, False):
            return
        closed: Closed = app.extensions["cv3_closed"]
        sentence = await closed()
        if sentence is not None:
            raise Unavailable(sentence)

    app.before_request(refuse)


def principal() -> Principal:
    """Return who asks; only inside a handler under `@allow`."""
    asker: Principal = g.principal
    return asker


def bearer() -> str:
    """Return the bearer token of the request (RFC 6750, section 2.1).

    Raises:
        Unauthenticated: there is none.
    """
    return bearer_of(request.headers)


def bearer_of(headers: Headers) -> str:
    """Return the bearer token of a request or of the request of a websocket.

    Raises:
        Unauthenticated: there is none.
    """
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("This needs an access token: send it as 'Authorization: Bearer …'.")
    return token.strip()


def check_access(app: Quart) -> None:
    """Refuse to start an app in which a handler does not say who may call it.

    Raises:
        RuntimeError: names the handlers.
    """
    silent = [
        name
        for name, view in app.view_functions.items()
        if name != "static" and not hasattr(view, _WHO)
    ]
    if silent:
        raise RuntimeError(
            f"These handlers do not say who may call them: {', '.join(sorted(silent))}"
        )


def who_may_call(view: Callable[..., Any]) -> frozenset[Role]:
    """Return the roles a handler lets in; none means that it is public."""
    roles: frozenset[Role] = getattr(view, _WHO)
    return roles


def is_for_operators(view: Callable[..., Any]) -> bool:
    """Say whether a handler asks for the shared secret."""
    return bool(getattr(view, _OPERATORS, False))


async def _authenticate() -> Principal:
    authenticate: Authenticate = current_app.extensions["cv3_authenticate"]
    return await authenticate(bearer())
