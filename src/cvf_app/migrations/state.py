"""The number that a database is at: its one document, and whether a server may start on it.

The document `schema` holds `number`, `doing` (what is under way or was broken off: a direction and
the number that it is about), `validates` (whether the server holds documents to shapes) and
`applied` (the last changes). A database without the document is new when it is empty, else one of
before there were numbers, which counts as number 0.
"""

import time

from cvf_app.backends.mongo import Collection, Mongo
from cvf_app.errors import Conflict
from cvf_app.wire import Wire, convert

COLLECTION = "schema"
_ONLY = "schema"
_MOST_APPLIED = 100


class Applied(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """One change that was made; `at` is epoch seconds."""

    number: int
    direction: str
    at: int


class Under(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """What is under way: `up`, `down` or `restore`, and the number or backup it is about."""

    direction: str
    number: int
    backup: str = ""


class State(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """Where a database is; `exists` is false for one that is empty."""

    exists: bool
    number: int
    doing: Under | None = None
    validates: bool = False
    applied: tuple[Applied, ...] = ()


class States:
    """The document of one database."""

    def __init__(self, mongo: Mongo) -> None:
        """Read and write it there."""
        self.collection: Collection = mongo.collection(COLLECTION)
        self._mongo = mongo

    async def read(self) -> State:
        """Return where the database is; nothing is written."""
        found = await self.collection.find_one({"_id": _ONLY}, {"_id": 0})
        if found is not None:
            return convert({"exists": True, **found}, State)
        listed = await self._mongo.command({"listCollections": 1, "nameOnly": True})
        names = {str(each["name"]) for each in listed["cursor"]["firstBatch"]}
        others = [name for name in names if name != COLLECTION and not name.startswith("system.")]
        return State(exists=bool(others), number=0)

    async def begin(self, number: int, doing: Under, *, validates: bool) -> None:
        """Write down what is about to be done, before anything is."""
        await self.collection.update_one(
            {"_id": _ONLY},
            {
                "$set": {
                    "number": number,
                    "validates": validates,
                    "doing": {
                        "direction": doing.direction,
                        "number": doing.number,
                        "backup": doing.backup,
                    },
                }
            },
            upsert=True,
        )

    async def arrive(self, number: int, done: Under) -> None:
        """Write down that it is done, and the number that the database is at now."""
        applied = {"number": done.number, "direction": done.direction, "at": int(time.time())}
        await self.collection.update_one(
            {"_id": _ONLY},
            {
                "$set": {"number": number, "doing": None},
                "$push": {"applied": {"$each": [applied], "$slice": -_MOST_APPLIED}},
            },
            upsert=True,
        )


async def check(mongo: Mongo, needed: int) -> int:
    """Return the number of a database that a server may start on: it is the one needed.

    Raises:
        Conflict: it is another; the sentence names the command that mends it.
    """
    state = await States(mongo).read()
    fault = wrong(state, needed)
    if fault is not None:
        raise Conflict(fault)
    return state.number


def wrong(state: State, needed: int) -> str | None:
    """Say why a program that needs this number cannot use a database; nothing if it can."""
    if not state.exists:
        return "There is no database yet. Make it with: cvf db create"
    if state.doing is not None and state.doing.direction == "restore":
        return (
            "A restore of this database was broken off or is under way. If nobody is at it, run "
            "the same again: cvf restore FILE"
        )
    if state.doing is not None:
        word = "upgrade" if state.doing.direction == "up" else "downgrade"
        return (
            f"A change of the database ({state.doing.direction}, number {state.doing.number}) is "
            f"under way or was broken off. If nobody is at it, finish it with: cvf db {word}"
        )
    if state.number < needed:
        return (
            f"The database is older than this program: its schema is {state.number}, and "
            f"{needed} is needed. Stop the instance, make a backup, then run: cvf db upgrade"
        )
    if state.number > needed:
        return (
            f"The database is newer than this program: its schema is {state.number}, and this "
            f"program knows {needed}. Use the newer program, or run with it: "
            f"cvf db downgrade --to {needed}"
        )
    return None
