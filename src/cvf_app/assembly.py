"""Where everything is made, once, in an order you can read: backends, then parts, then the app.

`open_backends` opens what leaves this process and closes it in reverse. `build` makes each
service from the ones made before it: the order is the order of the floors, so a ring cannot be
written. `create_app` registers what the duties bring, refuses handlers that do not say who may
call them, and starts the loops. `install` is what an operator runs once for a new instance.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from quart import Quart

from cvf_app import clock
from cvf_app.backends import log
from cvf_app.backends.http import Http
from cvf_app.backends.keystore import FileKeyStore, KeyStore
from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.backends.queue import Queue
from cvf_app.backends.redis import Redis, redis_url
from cvf_app.config import Config
from cvf_app.duties import Duty, blueprints
from cvf_app.errors import Invalid
from cvf_app.parts import provide
from cvf_app.web import access, cors, errors, openapi
from cvf_app.web import routes as web_routes
from cvf_app.web.routes import Vitals

MOST_CONNECTIONS = 64
LARGEST_BODY = 80 * 2**20


@dataclass(frozen=True)
class Backends:
    """Every connection that leaves this process."""

    mongo: Mongo
    redis: Redis
    queue: Queue
    http: Http
    keys: KeyStore


OpenBackends = Callable[[Config], AbstractAsyncContextManager[Backends]]
