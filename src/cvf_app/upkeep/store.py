"""Which night was inspected last, in MongoDB: one document, so that one process does it."""

from cvf_app.backends.mongo import Collection
from cvf_app.errors import Conflict

COLLECTION = "inspections"
_ONE = "nightly"


class UpkeepStore:
    """The collection of inspections."""

    def __init__(self, collection: Collection) -> None:
        """Keep them in this collection."""
        self._inspections = collection

    async def begin(self, day: str, now: float, until: float) -> bool:
        """Take the inspection of a day; False when it is done, or somebody is at it."""
        taken = {"day": day, "done": False, "leaseUntil": until}
        try:
            await self._inspections.insert({"_id": _ONE, **taken})
        except Conflict:
            earlier = {"_id": _ONE, "day": {"$lt": day}}
            left = {"_id": _ONE, "day": day, "done": False, "leaseUntil": {"$lt": now}}
            return bool(
                await self._inspections.update_one(earlier, {"$set": taken})
                or await self._inspections.update_one(left, {"$set": taken})
            )
        return True

    async def end(self, day: str) -> None:
        """Write down that the inspection of a day is done."""
        await self._inspections.update_one({"_id": _ONE, "day": day}, {"$set": {"done": True}})
