"""What migrations speak of: shapes of documents, what a collection declares, a numbered change.

A `Shape` is the part of JSON Schema that a validator of MongoDB is made of here: which fields every
document has, and of which BSON types they are. Further fields are always allowed, so that a
document may grow without a migration.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Protocol

from cvf_app.backends.mongo import Document, Filter, Index

TEXT = ("string",)
NUMBER = ("int", "long", "double")
YES_NO = ("bool",)
LIST = ("array",)
OBJECT = ("object",)
BYTES = ("binData",)
TEXT_OR_NOTHING = ("string", "null")
PROBE = "schema_probe"
OWN = frozenset({"schema", "schema_aside", PROBE})
"""The collections of the migrations themselves, which no migration changes."""
Shape = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Declared:
    """What a collection is to be: its indices beside that of `_id`, and the shape of documents."""

    indices: frozenset[Index] = frozenset()
    shape: Shape | None = None


def validator(shape: Shape) -> Document:
    """Write a shape as a validator (MongoDB manual, `$jsonSchema`)."""
    return {
        "$jsonSchema": {
            "bsonType": "object",
            "required": sorted(shape),
            "properties": {name: {"bsonType": list(types)} for name, types in shape.items()},
        }
    }


def shape_of(found: Mapping[str, Any]) -> Shape | None:
    """Read a validator of ours back; nothing when there is none.

    One that somebody else wrote is read as far as it is like ours, so that it shows as different.
    """
    schema = found.get("$jsonSchema", {})
    if not found:
        return None
    properties = schema.get("properties", {})
    return {
        name: _types(properties.get(name, {}).get("bsonType", ()))
        for name in sorted({*schema.get("required", ()), *properties})
    }


def _types(found: object) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else tuple(str(each) for each in _listed(found))


def _listed(found: object) -> tuple[object, ...]:
    return tuple(found) if isinstance(found, list | tuple) else ()


class Steps(Protocol):
    """What a migration may do; each step may be done again after it was broken off anywhere."""

    async def make(self, name: str, shape: Shape | None = None) -> None:
        """Make a collection, with the shape of its documents, or see that it has this shape."""

    async def drop_empty(self, name: str) -> None:
        """Remove a collection without documents; one that has any stays."""

    async def index(self, name: str, *indices: Index) -> None:
        """Make indices."""

    async def drop_index(self, name: str, *indices: Index) -> None:
        """Remove indices."""

    async def shape(self, name: str, shape: Shape | None) -> None:
        """Let new documents be of this shape only, or of any."""

    async def change(
        self, name: str, where: Filter, changed: Callable[[Document], Awaitable[Document]]
    ) -> None:
        """Change every document that matches as told (`$set` and the like)."""

    async def set_aside(self, name: str, *fields: str) -> None:
        """Take fields out of all documents, and keep what they held for `take_back`."""

    async def take_back(
        self, name: str, field: str, made: Callable[[Document], Awaitable[Document]]
    ) -> None:
        """Put back what was set aside where a field is missing; `made` gives what never was."""

    async def find_one(self, name: str, where: Filter) -> Document | None:
        """Return a document."""


Change = Callable[[Steps], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A numbered change: `up` leads from the number before to this one, `down` back."""

    number: int
    sentence: str
    up: Change = dataclass_field(repr=False)
    down: Change = dataclass_field(repr=False)
