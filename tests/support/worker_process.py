"""A worker as a process of its own, for tests that kill it: arguments are addresses and names."""

import asyncio
import sys

from cvf_app.backends.mongo import Mongo
from cvf_app.backends.redis import Redis
from tests.support.rail import ledger, rail, worker


async def main(mongo_uri: str, database: str, redis_url: str, name: str) -> None:
    """Work until killed."""
    jobs, queue, _ = rail(Mongo.open(mongo_uri, database, 10), redis_url, name)
    await worker(jobs, queue, ledger=ledger(Redis.open(redis_url, 4), name)).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
