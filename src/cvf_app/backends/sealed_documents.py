"""Documents of a collection that hold a text in `sealed`, bound to their own `_id`.

What the rotation of keys needs of a store (`upkeep/rewrap.py`, `Sealed`): every store that seals
its documents in this way offers one of these.
"""

from cvf_app.backends.keystore import SealedText
from cvf_app.backends.mongo import Collection

# Sent letters, for one, keep no text.
_HELD = {"sealed": {"$gt": ""}}


class SealedDocuments:
    """The sealed texts of one collection."""

    def __init__(self, collection: Collection) -> None:
        """Look at this collection."""
        self._documents = collection

    async def count_sealed(self) -> int:
        """Return how many there are."""
        return await self._documents.count(_HELD)

    async def sealed_page(self, after: str, limit: int) -> tuple[tuple[str, SealedText], ...]:
        """Return id and text of the next documents in the order of their ids."""
        found = await self._documents.find(
            {"_id": {"$gt": after}, **_HELD},
            sort=[("_id", 1)],
            limit=limit,
            fields={"sealed": 1},
        )
        return tuple(
            (each["_id"], SealedText(each["sealed"], each["_id"].encode())) for each in found
        )

    async def replace_sealed(self, document_id: str, old: str, new: str) -> bool:
        """Put a text in place of another; false if the document holds another one by now."""
        where = {"_id": document_id, "sealed": old}
        return await self._documents.update_one(where, {"$set": {"sealed": new}}) == 1
