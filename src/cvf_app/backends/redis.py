"""Redis behind one small class: whether it answers, how it is addressed, shared values, locks.

Promises: a server that does not answer becomes `Unavailable` within two seconds; at most
`max_connections` are open and a call waits for a free one instead of failing. Works over
a unix socket or TCP, with Redis from 6.2 and Valkey.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Self
from urllib.parse import quote, urlencode

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.exceptions import RedisError, WatchError

from cvf_app.backends.seen import Seen
from cvf_app.errors import Unavailable
from cvf_app.ids import new_id

ANSWER_SECONDS = 2.0
_TRIES = 50


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

    async def seen(self) -> Seen:
        """Ask the server which one it is (`INFO server`).

        Raises:
            Unavailable: it did not answer.
        """
        with _edge():
            told = await self._client.info("server")
        name = "Valkey" if "valkey_version" in told else "Redis"
        version = told.get("valkey_version") or told.get("redis_version", "")
        mode = told.get("server_mode") or told.get("redis_mode", "")
        return Seen(name=name, version=str(version), mode=str(mode))

    async def change(
        self, key: str, change: Callable[[bytes | None], bytes], *, roster: str, seconds: int
    ) -> None:
        """Put in place of a value what is made of it, as if nobody else was there.

        The key is kept for so many seconds, and stands in the roster, a set of keys.

        Raises:
            Unavailable: there was no answer, or others were always first.
        """
        with _edge():
            async with self._client.pipeline(transaction=True) as pipe:
                for attempt in range(_TRIES):
                    try:
                        await pipe.watch(key)
                        value = change(_bytes(await pipe.get(key)))
                        pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no type for it
                        pipe.set(key, value, ex=seconds)
                        pipe.sadd(roster, key)
                        await pipe.execute()
                    except WatchError:
                        await asyncio.sleep(random.uniform(0, 0.002 * (attempt + 1)))  # noqa: S311 - a pause
                    else:
                        return
        raise Unavailable("The short-term store (Redis) is too busy.")

    async def count(self, key: str, seconds: int) -> int:
        """Count one more under a key and return how many; it begins anew so long after the first.

        Raises:
            Unavailable: there was no answer.
        """
        with _edge():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.set(key, 0, ex=seconds, nx=True)
                pipe.incr(key)
                return int((await pipe.execute())[-1])

    @asynccontextmanager
    async def alone(self, key: str, seconds: int) -> AsyncIterator[None]:
        """Keep all other processes from the same key within the block, for so many seconds at most.

        Raises:
            Unavailable: there was no answer, or others had the key for too long.
        """
        mine = new_id().encode()
        for _ in range(_TRIES):
            with _edge():
                if await self._client.set(key, mine, nx=True, ex=seconds):
                    break
            await asyncio.sleep(random.uniform(0.01, 0.2))  # noqa: S311 - a pause
        else:
            raise Unavailable("Others are doing the same just now; try again in a minute.")
        try:
            yield
        finally:
            # What was done within is done; the key lapses by itself.
            with suppress(Unavailable):
                await self._let_go(key, mine)

    async def _let_go(self, key: str, mine: bytes) -> None:
        with _edge():
            async with self._client.pipeline(transaction=True) as pipe:
                await pipe.watch(key)
                if _bytes(await pipe.get(key)) != mine:
                    return  # it lapsed, and may be somebody else's by now
                pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no type for it
                pipe.delete(key)
                with suppress(WatchError):
                    await pipe.execute()

    async def roster(self, roster: str) -> tuple[bytes, ...]:
        """Return the values of all keys of a roster; those that are gone leave it.

        Raises:
            Unavailable: there was no answer.
        """
        with _edge():
            keys = sorted(await self._client.smembers(roster))
            values = await self._client.mget(keys) if keys else []
            gone = [key for key, value in zip(keys, values, strict=True) if value is None]
            if gone:
                await self._client.srem(roster, *gone)
            return tuple(found for found in map(_bytes, values) if found is not None)

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
    """Turn the driver's errors into ours, and give back a cancel that the driver has swallowed."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except (RedisError, OSError) as fault:
        _cancelled_since(task, before)
        raise Unavailable("The short-term store (Redis) does not answer.") from fault
    _cancelled_since(task, before)


def _cancelled_since(task: "asyncio.Task[object] | None", before: int) -> None:
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
