"""Documents that hold a sealed text each: walked through in the order of their ids, and renewed.

A text stands in `sealed`, and opens for its own document's `_id` alone. A document that keeps
nothing sealed any more has an empty text there and is passed over.
"""

from cvf_app.backends.keystore import SealedText
from cvf_app.backends.mongo import Collection, Filter

_SEALED = {"sealed": {"$ne": ""}}


class SealedDocuments:
    """The sealed documents of one collection; `Sealed` of `upkeep/rewrap.py`."""

    def __init__(self, collection: Collection) -> None:
        """Walk through this collection."""
        self._collection = collection

    async def count_sealed(self) -> int:
        """Return about how many there are."""
        return await self._collection.count(_SEALED)

    async def sealed_page(self, after: str, limit: int) -> tuple[tuple[str, SealedText], ...]:
        """Return id and text of the next documents; an empty answer is the end."""
        where: Filter = {"_id": {"$gt": after}, **_SEALED}
        found = await self._collection.find(
            where, sort=[("_id", 1)], limit=limit, fields={"sealed": 1}
        )
        return tuple(
            (each["_id"], SealedText(each["sealed"], each["_id"].encode())) for each in found
        )

    async def replace_sealed(self, document_id: str, old: str, new: str) -> bool:
        """Put a text in place of another; false if the document holds another one by now."""
        where = {"_id": document_id, "sealed": old}
        return await self._collection.update_one(where, {"$set": {"sealed": new}}) == 1
