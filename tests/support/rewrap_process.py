"""A worker that rotates keys as a process of its own, for tests that kill it."""

import asyncio
import sys
from pathlib import Path

from cvf_app.backends.keystore import FileKeyStore
from cvf_app.backends.mongo import Mongo
from cvf_app.jobs.worker import Worker
from cvf_app.upkeep.rewrap import Rotation, Vessel, handlers
from cvf_app.users.store import COLLECTION, UserStore
from tests.support.rail import rail


async def main(mongo_uri: str, line: str, redis_url: str, keys: str, people: str) -> None:
    """Work until killed."""
    jobs, queue, _ = rail(Mongo.open(mongo_uri, line, 10), redis_url, line)
    store = UserStore(Mongo.open(mongo_uri, people, 10).collection(COLLECTION))
    vessels = (Vessel("people", "users", store.sealed),)
    rotation = Rotation(FileKeyStore.open(Path(keys)), jobs, vessels)
    await Worker(jobs, queue, handlers(rotation)).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
