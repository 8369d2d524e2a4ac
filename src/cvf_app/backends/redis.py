"""Redis behind one small class: short memory, locks, announcements; nothing that matters alone.

Promises: a server that does not answer becomes `Unavailable` within two seconds; at most
`max_connections` are open and a call waits for a free one instead of failing. Keys are text and
values are bytes. Works over a unix socket or TCP, with Redis from 6.2 and Valkey.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Self
from urllib.parse import quote, urlencode

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.exceptions import RedisError

from cvf_app.errors import Unavailable

ANSWER_SECONDS = 2.0


class Redis:
    """One Redis server with one pool of connections."""

    def __init__(self, client: Client) -> None:
        """Wrap the driver's client; use `open`."""
        self._client = client

    @classmethod
    def open(cls, url: str, max_connections: int = 20) -> Self:
        """Return the server at `url` (see `redis_url`); nothing is sent before the first call."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            health_check_interval=30,
        )
        return cls(Client(connection_pool=pool))

    async def ping(self) -> None:
        """Ask the server for a sign of life.

        Raises:
            Unavailable: there was none.
        """
        with _edge():
            await self._client.ping()

    async def get(self, key: str) -> bytes | None:
        """Return what is kept under a key, or nothing."""
        with _edge():
            return _bytes(await self._client.get(key))

    async def put(self, key: str, value: bytes, seconds: int) -> None:
        """Keep a value under a key for so many seconds."""
        with _edge():
            await self._client.set(key, value, ex=seconds)

    async def put_if_new(self, key: str, value: bytes, seconds: int) -> bool:
        """Keep a value unless the key is taken; say whether it was kept (a lock, a seen nonce)."""
        with _edge():
            return bool(await self._client.set(key, value, ex=seconds, nx=True))

    async def take(self, key: str) -> bytes | None:
        """Return what is kept under a key and forget it in the same step: for single-use values."""
        with _edge():
            return _bytes(await self._client.getdel(key))

    async def delete(self, key: str) -> None:
        """Forget a key."""
        with _edge():
            await self._client.delete(key)

    async def count_up(self, key: str, seconds: int) -> int:
        """Add one to a counter that starts anew `seconds` after its first count, and return it."""
        with _edge():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.set(key, 0, ex=seconds, nx=True)
                pipe.incr(key)
                return int((await pipe.execute())[-1])

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to everyone who listens on a channel just now."""
        with _edge():
            await self._client.publish(channel, message)

    async def listen(self, channel: str) -> AsyncIterator[bytes]:
        """Yield a channel's messages until the caller stops; earlier ones are not seen."""
        with _edge():
            async with self._client.pubsub(ignore_subscribe_messages=True) as sub:
                await sub.subscribe(channel)
                while True:
                    message = await sub.get_message(timeout=1.0)
                    if message is not None:
                        yield message["data"]
                    else:
                        await asyncio.sleep(0)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


def redis_url(
    *, host: str = "", port: int = 6379, path: str = "", password: str = "", database: int = 0
) -> str:
    """Write the address of a server: a unix socket when `path` is given, else host and port."""
    if path:
        query = {"db": str(database), **({"password": password} if password else {})}
        return f"unix://{quote(path)}?{urlencode(query, quote_via=quote)}"
    who = f":{quote(password, safe='')}@" if password else ""
    where = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"redis://{who}{where}:{port}/{database}"


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


@contextmanager
def _edge() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as fault:
        raise Unavailable("The short-term store (Redis) does not answer.") from fault
