"""The secret that operators' tools share with the instance, and how a request shows it.

Published as a bearer secret beside an `X-Timestamp` that is at most five minutes off; the secret
stands in the key store and is made at the installation. It is compared in constant time.
"""

import hmac
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.errors import Conflict, NotFound, Unauthenticated, Unavailable

PATH = "operators/shared"
_FIELD = "secret"
_WINDOW = timedelta(minutes=5)
_LATEST = 253_402_300_800  # the first second of the year 10000


class Operators:
    """Who knows the shared secret."""

    def __init__(self, keys: KeyStore, clock: Clock) -> None:
        """Read the secret from this key store, anew each time."""
        self._keys = keys
        self._clock = clock

    async def prepare(self) -> None:
        """Make the secret if there is none; may be repeated."""
        with suppress(Conflict):
            await self._keys.write_secret(
                PATH, {_FIELD: secrets.token_urlsafe(32)}, check_and_set=0
            )

    async def secret(self) -> str:
        """Return the secret.

        Raises:
            Unavailable: the instance was never installed.
        """
        try:
            return (await self._keys.read_secret(PATH)).data[_FIELD]
        except NotFound as fault:
            raise Unavailable(
                "There is no shared secret yet: run 'python -m cvf_app install' once."
            ) from fault

    async def check(self, shown: str, timestamp: str) -> None:
        """Refuse a request that does not show the secret, or not now.

        Raises:
            Unauthenticated: the secret is wrong, or the time is missing or too far off.
        """
        right = (await self.secret()).encode()
        if not hmac.compare_digest(shown.encode(), right):
            raise Unauthenticated("The shared secret is wrong.")
        moment = read_moment(timestamp)
        if moment is None or abs(self._clock() - moment) > _WINDOW:
            raise Unauthenticated(
                "X-Timestamp must be the present time (Unix seconds, or RFC 3339), within five "
                "minutes of this server's clock."
            )


def read_moment(text: str) -> datetime | None:
    """Read Unix seconds or an RFC 3339 time; without a zone it is UTC. Anything else is none."""
    if text.isascii() and text.isdigit():
        return datetime.fromtimestamp(int(text), UTC) if int(text) < _LATEST else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
