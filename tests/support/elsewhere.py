"""Another process's way to a node's database, which announces what it writes as the node does."""

from contextlib import asynccontextmanager

from cvf_app.backends.mongo import Mongo
from cvf_app.backends.stream import Stream
from cvf_app.interfaces import announcers
from cvf_app.updates.outbox import Outbox


def url_of(config):
    redis = config.redis
    return f"unix://{redis.path}?db=0" if redis.path else f"redis://{redis.host}:{redis.port}/0"


@asynccontextmanager
async def elsewhere(node):
    """Another process's way to the database, which announces what it writes."""
    given = node.config.mongo_db
    uri = f"mongodb://{given.host}:{given.port}/"
    stream = Stream.open(url_of(node.config), f"cv3-updates:{given.database}")
    outbox = Outbox(stream)
    mongo = Mongo.open(uri, given.database, 5)
    mongo.announce(announcers(outbox))
    try:
        yield mongo, outbox, stream
    finally:
        await outbox.flush()
        await stream.close()
        mongo.close()
