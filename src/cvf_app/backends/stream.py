"""One capped stream in Redis: what every process of an instance writes and every process reads.

Promises: a server that does not answer becomes `Unavailable` within about two seconds (a `read`
within two seconds more than it was to wait); entries have ids that grow; of the oldest entries
those beyond about `most` are forgotten. Works with Redis from 6.2 and Valkey.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cvf_app.errors import Unavailable

ANSWER_SECONDS = 2.0
BEGIN = "0-0"
_FIELD = b"m"
Entry = tuple[str, bytes]


class Stream:
    """The stream under one name on one Redis."""

    def __init__(self, client: Client, name: str, most: int) -> None:
        """Wrap the driver's client; use `open`."""
        self._client = client
        self._name = name
        self._most = most

    @classmethod
    def open(cls, url: str, name: str, most: int = 10_000) -> Self:
        """Return the stream; nothing is sent before the first call."""
        pool = BlockingConnectionPool.from_url(
            url,
            # One waits in `read` nearly always; the others write and look.
            max_connections=4,
            timeout=ANSWER_SECONDS,
            # The driver's limit is one for all calls, and a `read` waits on purpose; see `_edge`.
            socket_timeout=None,
            socket_connect_timeout=ANSWER_SECONDS,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(Client(connection_pool=pool), name, most)

    async def add(self, bodies: Sequence[bytes]) -> None:
        """Put entries at the end, in this order.

        Raises:
            Unavailable: the server does not answer; some may have been added.
        """
        async with _edge(), self._client.pipeline(transaction=False) as pipe:
            for body in bodies:
                pipe.xadd(self._name, {_FIELD: body}, maxlen=self._most, approximate=True)
            await pipe.execute()

    async def read(self, after: str, seconds: float, most: int) -> tuple[Entry, ...]:
        """Return the entries after an id, waiting so long for the first of them.

        Raises:
            Unavailable: the server does not answer.
        """
        async with _edge(seconds):
            found = await self._client.xread(
                {self._name: after}, count=most, block=int(seconds * 1000)
            )
        # RESP2 gives a list of pairs, RESP3 a mapping of lists of chunks.
        if not found:
            return ()
        if isinstance(found, dict):
            return tuple(_entry(each) for chunks in found.values() for each in chunks[0])
        return tuple(_entry(each) for _, entries in found for each in entries)

    async def newest(self, most: int) -> tuple[Entry, ...]:
        """Return the last entries, in their order.

        Raises:
            Unavailable: the server does not answer.
        """
        async with _edge():
            found = await self._client.xrevrange(self._name, count=most)
        return tuple(_entry(each) for each in reversed(found or ()))

    async def has(self, entry_id: str) -> bool:
        """Say whether an entry is still there: then nothing after it was forgotten.

        Raises:
            Unavailable: the server does not answer.
        """
        async with _edge():
            return bool(await self._client.xrange(self._name, entry_id, entry_id, count=1))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


def _entry(found: Any) -> Entry:  # noqa: ANN401 - as the driver gives it
    entry_id, fields = found
    return entry_id.decode(), fields.get(_FIELD, b"")


@asynccontextmanager
async def _edge(seconds: float = 0.0) -> AsyncIterator[None]:
    """Turn the driver's errors into ours, and silence too after so much more than its due."""
    try:
        async with asyncio.timeout(seconds + ANSWER_SECONDS):
            yield
    except (RedisError, OSError) as fault:
        raise Unavailable("The short-term store (Redis) does not answer.") from fault
