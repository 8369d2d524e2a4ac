"""The lock under which a database is changed: a lease in the database itself.

Two who run at once are told apart, and a killed one keeps the others waiting no longer than
`LEASE_SECONDS`. The holder renews the lease while it works; whoever finds it lost stops at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cvf_app.backends.mongo import Collection
from cvf_app.errors import Conflict
from cvf_app.ids import new_id

LEASE_SECONDS = 30.0
_LOCK = "lock"


@asynccontextmanager
async def locked(schema: Collection, seconds: float = LEASE_SECONDS) -> AsyncIterator[None]:
    """Hold the lock while the block runs.

    Raises:
        Conflict: somebody else holds it, or it was lost meanwhile.
    """
    holder = new_id()
    await _take(schema, holder, seconds)
    try:
        try:
            async with asyncio.TaskGroup() as keeping:
                renewing = keeping.create_task(_renew(schema, holder, seconds))
                yield
                renewing.cancel()
        except BaseExceptionGroup as ended:
            # What the block raised, or that the lock was lost; the group is of our own making.
            raise ended.exceptions[0] from None
    finally:
        await schema.delete_one({"_id": _LOCK, "holder": holder})


async def _take(schema: Collection, holder: str, seconds: float) -> None:
    now = time.time()
    lease = {"holder": holder, "until": now + seconds}
    found = await schema.find_one({"_id": _LOCK})
    if found is None:
        # A second one that inserts in the same moment is refused by the id.
        await _insert(schema, lease)
        return
    as_seen = {"_id": _LOCK, "holder": found["holder"], "until": found["until"]}
    if found["until"] < now:
        # The clock of its holder may be behind ours: one who lives renews it within this time.
        await asyncio.sleep(seconds / 3 + 1)
        lease["until"] = time.time() + seconds
    if found["until"] >= now or not await schema.update_one(as_seen, {"$set": lease}):
        left = max(1, int(found["until"] - now) + 1)
        raise Conflict(
            "Another command is changing this database. Wait for its end; if it was killed, try "
            f"again in {left} s."
        )


async def _insert(schema: Collection, lease: dict[str, object]) -> None:
    try:
        await schema.insert({"_id": _LOCK, **lease})
    except Conflict as fault:
        raise Conflict("Another command has just begun to change this database.") from fault


async def _renew(schema: Collection, holder: str, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds / 3)
        lease = {"$set": {"until": time.time() + seconds}}
        if not await schema.update_one({"_id": _LOCK, "holder": holder}, lease):
            raise Conflict("The lock on the database was lost to another command; nothing goes on.")
