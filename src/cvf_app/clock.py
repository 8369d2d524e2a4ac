"""The time, as a value to pass: services take a `Clock`, so that tests can move it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


def epoch(moment: datetime) -> int:
    """Return a moment as whole seconds since 1970, as times travel on the wire."""
    return int(moment.timestamp())
