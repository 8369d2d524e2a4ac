"""The steps of a migration done: each tells what it does, and may be done again at any time.

In a dry run nothing is written; each step tells what it would do and to how many documents.
"""

import time
from collections.abc import Awaitable, Callable

from cvf_app.backends.mongo import Document, Filter, Index, Mongo
from cvf_app.migrations.catalogue import Catalogue
from cvf_app.migrations.model import Shape

Say = Callable[[str], None]
ASIDE = "schema_aside"
_PAGE = 500
_TOLD_SECONDS = 2.0


class Doing:
    """The steps of one migration, in one direction."""

    def __init__(
        self, mongo: Mongo, number: int, say: Say, *, validates: bool, dry: bool = False
    ) -> None:
        """Work on this database; `validates`: its server holds documents to shapes."""
        self._mongo = mongo
        self._catalogue = Catalogue(mongo)
        self._number = number
        self._say = say
        self._validates = validates
        self._dry = dry

    async def make(self, name: str, shape: Shape | None = None) -> None:
        """Make a collection, with the shape of its documents, or see that it has this shape."""
        self._say(f"collection {name}")
        if not self._dry:
            await self._catalogue.make(name, shape if self._validates else None)

    async def drop_empty(self, name: str) -> None:
        """Remove a collection without documents; one that has any stays."""
        self._say(f"remove collection {name} if it is empty")
        if not self._dry:
            await self._catalogue.drop_empty(name)

    async def index(self, name: str, *indices: Index) -> None:
        """Make indices."""
        for index in indices:
            self._say(f"index of {name} on {_named(index)}")
            if not self._dry:
                await self._catalogue.make_indices(name, (index,))

    async def drop_index(self, name: str, *indices: Index) -> None:
        """Remove indices."""
        for index in indices:
            self._say(f"remove the index of {name} on {_named(index)}")
        if not self._dry:
            await self._catalogue.drop_indices(name, indices)

    async def shape(self, name: str, shape: Shape | None) -> None:
        """Let new documents be of this shape only, or of any."""
        if not self._validates:
            return
        self._say(f"documents of {name} are {'of any shape' if shape is None else 'of a shape'}")
        if not self._dry:
            await self._catalogue.set_shape(name, shape)

    async def change(
        self, name: str, where: Filter, changed: Callable[[Document], Awaitable[Document]]
    ) -> None:
        """Change every document that matches as told (`$set` and the like)."""
        collection = self._mongo.collection(name)
        count = await collection.count(where)
        if count:
            self._say(f"change {count} documents of {name}")
        if self._dry:
            return
        ids = [each["_id"] async for each in collection.stream(where, fields={"_id": 1})]
        told = time.monotonic()
        for begin in range(0, len(ids), _PAGE):
            named = {"_id": {"$in": ids[begin : begin + _PAGE]}}
            for document in await collection.find(named):
                change = await changed(document)
                await collection.update_one({"_id": document["_id"]}, change)
            if time.monotonic() - told > _TOLD_SECONDS:
                self._say(f"  {begin + _PAGE} of {count}")
                told = time.monotonic()

    async def set_aside(self, name: str, *fields: str) -> None:
        """Take fields out of all documents, and keep what they held for `take_back`."""
        aside = self._mongo.collection(ASIDE)

        async def put(document: Document) -> Document:
            held = {field: document[field] for field in fields if field in document}
            key = self._aside_id(name, document["_id"])
            # A run that was broken off in between took nothing out: what it kept is the same.
            kept = {"_id": key, "migration": self._number, "collection": name, "held": held}
            await aside.replace({"_id": key}, kept, upsert=True)
            return {"$unset": dict.fromkeys(held, "")}

        where = {"$or": [{field: {"$exists": True}} for field in fields]}
        await self.change(name, where, put)

    async def take_back(
        self, name: str, field: str, made: Callable[[Document], Awaitable[Document]]
    ) -> None:
        """Put back what was set aside where a field is missing; `made` gives what never was."""
        aside = self._mongo.collection(ASIDE)

        async def back(document: Document) -> Document:
            kept = await aside.find_one({"_id": self._aside_id(name, document["_id"])})
            held = {} if kept is None else kept["held"]
            return {"$set": {**await made(document), **held}}

        await self.change(name, {field: {"$exists": False}}, back)
        if not self._dry:
            await aside.delete_many({"migration": self._number, "collection": name})

    async def find_one(self, name: str, where: Filter) -> Document | None:
        """Return a document."""
        return await self._mongo.collection(name).find_one(where)

    def _aside_id(self, name: str, document_id: object) -> str:
        return f"{self._number}/{name}/{document_id}"


def _named(index: Index) -> str:
    fields = ", ".join(name if way > 0 else f"-{name}" for name, way in index.keys)
    return f"{fields} (unique)" if index.unique else fields
