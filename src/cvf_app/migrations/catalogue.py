"""The collections of a database with their indices and shapes, as the server tells them.

Every change may be repeated. Whether a server holds documents to a shape is found out by trying,
since some take a validator and never look at it.
"""

from collections.abc import Mapping
from typing import Any

from cvf_app.backends.mongo import Document, Index, Mongo
from cvf_app.migrations.model import OWN, PROBE, Declared, Shape, shape_of, validator

_MOST = 1000
_ID = (("_id", 1),)


class Catalogue:
    """The outline of one database."""

    def __init__(self, mongo: Mongo) -> None:
        """Read and change this database."""
        self._mongo = mongo

    async def read(self) -> dict[str, Declared]:
        """Return every collection but our own, with its indices and its shape."""
        return {
            name: Declared(
                frozenset((await self._indices(name)).values()),
                shape_of(found.get("validator", {})),
            )
            for name, found in sorted((await self._options()).items())
            if name not in OWN
        }

    async def names(self) -> frozenset[str]:
        """Return the names of all collections, our own too."""
        return frozenset(await self._options())

    async def make(self, name: str, shape: Shape | None) -> None:
        """Make a collection, or give the one that is there this shape."""
        if name in await self._options():
            await self.set_shape(name, shape)
            return
        more = {} if shape is None else _held_to(shape)
        await self._mongo.command({"create": name, **more})

    async def set_shape(self, name: str, shape: Shape | None) -> None:
        """Hold new documents to a shape, or to none."""
        options = (await self._options()).get(name)
        if options is None or shape_of(options.get("validator", {})) == _sorted(shape):
            return
        more = {"validator": {}} if shape is None else _held_to(shape)
        await self._mongo.command({"collMod": name, **more})

    async def drop_empty(self, name: str) -> bool:
        """Remove a collection that has no documents; say whether it was removed."""
        if name not in await self._options():
            return False
        if await self._mongo.collection(name).find_one({}, {"_id": 1}) is not None:
            return False
        await self.drop(name)
        return True

    async def drop(self, name: str) -> None:
        """Remove a collection with all that is in it."""
        await self._mongo.command({"drop": name})

    async def make_indices(self, name: str, indices: tuple[Index, ...]) -> None:
        """Make those of some indices that are missing."""
        there = frozenset((await self._indices(name)).values())
        missing = [index for index in indices if index not in there]
        await self._mongo.collection(name).create_indices(missing)

    async def drop_indices(self, name: str, indices: tuple[Index, ...]) -> None:
        """Remove those of some indices that are there."""
        for called, index in (await self._indices(name)).items():
            if index in indices:
                await self._mongo.command({"dropIndexes": name, "index": called})

    async def validates(self) -> bool:
        """Find out whether this server refuses a document of the wrong shape."""
        if PROBE in await self._options():
            await self.drop(PROBE)
        await self._mongo.command({"create": PROBE, **_held_to({"there": ("string",)})})
        answer = await self._mongo.command({"insert": PROBE, "documents": [{"_id": "malformed"}]})
        await self.drop(PROBE)
        return bool(answer.get("writeErrors"))

    async def _options(self) -> dict[str, Document]:
        listed = await self._mongo.command({"listCollections": 1, "cursor": {"batchSize": _MOST}})
        return {
            str(each["name"]): dict(each.get("options", {}))
            for each in listed["cursor"]["firstBatch"]
            if not str(each["name"]).startswith("system.")
            and each.get("type", "collection") == "collection"
        }

    async def _indices(self, name: str) -> dict[str, Index]:
        if name not in await self._options():
            return {}
        listed = await self._mongo.command({"listIndexes": name, "cursor": {"batchSize": _MOST}})
        found = {str(each["name"]): _index(each) for each in listed["cursor"]["firstBatch"]}
        return {called: index for called, index in found.items() if index.keys != _ID}


def _index(found: Mapping[str, Any]) -> Index:
    keys = tuple((str(field), int(way)) for field, way in found["key"].items())
    return Index(keys, unique=bool(found.get("unique", False)))


def _held_to(shape: Shape) -> Document:
    # Moderate: a document of before that is not of the shape can still be changed.
    return {"validator": validator(shape), "validationLevel": "moderate"}


def _sorted(shape: Shape | None) -> Shape | None:
    return None if shape is None else dict(sorted(shape.items()))
