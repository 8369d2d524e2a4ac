"""`use(Kind)`: this app's one service of a kind; for routes and jobs only."""

from typing import TypeVar

from quart import Quart, current_app

T = TypeVar("T")
_KEY = "cv3_parts"


def provide(app: Quart, services: dict[type, object]) -> None:
    """Give an app its services, each under its own class."""
    app.extensions[_KEY] = services


def use(kind: type[T]) -> T:
    """Return the app's service of this kind."""
    service = current_app.extensions[_KEY][kind]
    if not isinstance(service, kind):
        raise TypeError(f"the part under {kind.__name__} is a {type(service).__name__}")
    return service
