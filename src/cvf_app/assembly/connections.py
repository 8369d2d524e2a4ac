"""Every connection that leaves a process: opened here, and closed in reverse."""

from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from pathlib import Path

from cvf_app.backends.http import Http
from cvf_app.backends.keycloak import KeycloakServer
from cvf_app.backends.keystore import FileKeyStore, KeyStore
from cvf_app.backends.mongo import Mongo
from cvf_app.backends.queue import Queue
from cvf_app.backends.redis import Redis, redis_url
from cvf_app.backends.shipping import receivers
from cvf_app.backends.stream import Stream
from cvf_app.backends.vault import VaultKeyStore
from cvf_app.backends.vault_session import AppRole
from cvf_app.config import Config, surroundings
from cvf_app.migrations.address import uri_of
from cvf_app.users.identity.configured import issuer, keycloak_server

MOST_CONNECTIONS = 64


@dataclass(frozen=True)
class Backends:
    """Every connection that leaves this process."""

    mongo: Mongo
    heavy: Mongo
    redis: Redis
    queue: Queue
    stream: Stream
    signals: Stream
    http: Http
    keys: KeyStore
    keycloak: KeycloakServer


OpenBackends = Callable[[Config], AbstractAsyncContextManager[Backends]]


@asynccontextmanager
async def open_backends(config: Config) -> AsyncIterator[Backends]:
    """Open every connection, and close them in reverse; nothing waits for a service here.

    Raises:
        Invalid: the configuration or the environment lacks what a service needs.
    """
    async with AsyncExitStack() as stack:
        database, address = config.mongo_db.database, uri_of(config.mongo_db)
        mongo = Mongo.open(address, database, MOST_CONNECTIONS)
        stack.callback(mongo.close)
        # Heavy work has a few connections of its own, so that quick requests never wait for one.
        heavy = Mongo.open(address, database, config.mongo_db.max_jobs)
        stack.callback(heavy.close)
        url = redis_url_of(config)
        redis = Redis.open(url)
        stack.push_async_callback(redis.close)
        queue = Queue(url)
        stack.push_async_callback(queue.close)
        # Named after the database: two instances may share a Redis, and must not share updates.
        stream = Stream.open(url, f"cv3-updates:{config.mongo_db.database}")
        stack.push_async_callback(stream.close)
        signals = Stream.open(url, f"cv3-queries:{config.mongo_db.database}", most=1000)
        stack.push_async_callback(signals.close)
        to_logs = tuple(receiver.url for receiver in receivers(config.logging))
        known = (issuer(config), config.keycloak.backend_url, config.vault.host, *to_logs)
        http = Http.open(frozenset(filter(None, known)))
        stack.push_async_callback(http.close)
        keys = _open_keys(config)
        stack.push_async_callback(keys.close)
        keycloak = keycloak_server(config, keys)
        stack.push_async_callback(keycloak.close)
        yield Backends(
            mongo=mongo,
            heavy=heavy,
            redis=redis,
            queue=queue,
            stream=stream,
            signals=signals,
            http=http,
            keys=keys,
            keycloak=keycloak,
        )


def _open_keys(config: Config) -> KeyStore:
    if config.secrets.provider == "file":
        return FileKeyStore.open(Path(config.secrets.path))
    given = surroundings()
    login = AppRole(given.vault_role_id, given.vault_secret_id)
    return VaultKeyStore.open(config.vault, login, ca=given.vault_ca)


def redis_url_of(config: Config) -> str:
    """Return the address of the broker, with its login."""
    given = config.redis
    return redis_url(
        host=given.host,
        port=int(given.port),
        path=given.path,
        password=given.password,
        database=given.database,
    )
