"""MongoDB behind two small classes; no other file knows the driver.

Promises: a database that does not answer becomes `Unavailable` within about three seconds, a
duplicate key `Conflict`, a full disk `StorageFull`; a write is acknowledged when it is in the
journal. Offered are only operations that a standalone MongoDB and the embedded server of local
mode answer alike (`tests/contract/test_mongo.py` runs every one of them on each server there is):
no transactions, no change streams, no `find_one_and_update`. Compare-and-set is `update_one` with
the expected state in the filter and a look at the number it returns. A store declares its
`INDICES`, which are made when the database is new, while the collections are empty.

A collection may have an `Announcer`: every write that took effect is told to it, by `_id`. Telling
neither fails a write nor waits. So a write to such a collection names the `_id` in its filter, or
asks for the ids to be looked up first.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self
from urllib.parse import parse_qsl, quote, urlsplit

from cvf_app.backends.seen import Seen
from cvf_app.errors import Conflict, StorageFull, TooLarge, Unavailable

# Motor reads the size of its thread pool from the environment while it is imported and has no
# other switch: with its default of five per core a slow server would queue every other request.
os.environ.setdefault("MOTOR_MAX_WORKERS", "64")  # house: the driver has no other switch

from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo import IndexModel
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    OperationFailure,
    WaitQueueTimeoutError,
)

Document = dict[str, Any]
Filter = Mapping[str, Any]
Sort = Sequence[tuple[str, int]]

SELECTION_MS = 3000
ANSWER_MS = 60_000
_NOT_ALLOWED, _NOT_LOGGED_IN = 13, 18
_FULL_CODES = frozenset({39, 14031})
_DUPLICATE = 11000


@dataclass(frozen=True)
class Index:
    """An index of a collection: its fields with their directions, and whether values are unique.

    There are no partial or sparse ones: servers disagree about them. A unique field is present
    in every document.
    """

    keys: tuple[tuple[str, int], ...]
    unique: bool = False


class Announcer(Protocol):
    """Hears of every write of one collection; no method fails, and only `leaving` may wait."""

    def heeds(self, change: Mapping[str, Any]) -> bool:
        """Say whether a change (`$set` and the like) is more than bookkeeping nobody sees."""
        ...

    def inserted(self, ids: Sequence[str]) -> None:
        """Hear of new documents."""
        ...

    def updated(self, ids: Sequence[str]) -> None:
        """Hear of changed documents."""
        ...

    async def leaving(self, ids: Sequence[str]) -> Callable[[Sequence[str]], None]:
        """Hear which documents may go; what is returned is told which of them went."""
        ...


class Collection:
    """One collection; documents are plain dictionaries with an `_id` that we made."""

    def __init__(
        self, motor: "AsyncIOMotorCollection[Document]", announcer: Announcer | None = None
    ) -> None:
        """Wrap the driver's collection; without an announcer nobody hears of its writes."""
        self._motor = motor
        self._announcer = announcer

    async def insert(self, document: Mapping[str, Any]) -> None:
        """Add a document.

        Raises:
            Conflict: its `_id`, or a value that must be unique, is there already.
        """
        with _edge():
            await self._motor.insert_one(dict(document))
        if self._announcer:
            self._announcer.inserted((document["_id"],))

    async def insert_many(self, documents: Iterable[Mapping[str, Any]]) -> int:
        """Add documents in order and return how many; stops at the first conflict."""
        many = [dict(document) for document in documents]
        if many:
            with _edge():
                await self._motor.insert_many(many)
            if self._announcer:
                self._announcer.inserted([document["_id"] for document in many])
        return len(many)

    async def replace(
        self,
        where: Filter,
        document: Mapping[str, Any],
        *,
        upsert: bool = False,
        hides: bool = False,
        shows: bool = False,
    ) -> bool:
        """Put a document in place of the one that matches; say whether one was there.

        `hides`: the new document is out of everybody's sight, so this is told as a deletion.
        `shows`: the old one was, so this is told as a new one.
        """
        ids = self._named(where)
        gone = await self._leaving(ids, hides=hides)
        with _edge():
            done = await self._motor.replace_one(where, dict(document), upsert=upsert)
        if self._announcer and done.matched_count:
            tell = self._announcer.inserted if shows else self._announcer.updated
            gone(ids) if hides else tell(ids)
        elif self._announcer and done.upserted_id is not None and not hides:
            self._announcer.inserted((done.upserted_id,))
        return bool(done.matched_count)

    async def find_one(
        self, where: Filter, fields: Mapping[str, Any] | None = None
    ) -> Document | None:
        """Return the document that matches, or nothing."""
        with _edge():
            return await self._motor.find_one(where, fields)

    async def find(
        self,
        where: Filter,
        *,
        sort: Sort = (),
        limit: int = 0,
        skip: int = 0,
        fields: Mapping[str, Any] | None = None,
    ) -> list[Document]:
        """Return the documents that match, at most `limit` of them unless that is 0."""
        with _edge():
            cursor = self._motor.find(where, fields, skip=skip, limit=limit)
            if sort:
                cursor = cursor.sort(list(sort))
            return await cursor.to_list(limit or None)

    async def stream(
        self,
        where: Filter,
        *,
        sort: Sort = (),
        fields: Mapping[str, Any] | None = None,
        batch: int = 100,
    ) -> AsyncIterator[Document]:
        """Yield the documents that match, a batch at a time, for more than fits in memory."""
        with _edge():
            cursor = self._motor.find(where, fields, batch_size=batch)
            if sort:
                cursor = cursor.sort(list(sort))
            async for document in cursor:
                yield document

    async def update_one(
        self,
        where: Filter,
        change: Mapping[str, Any],
        *,
        upsert: bool = False,
        hides: bool = False,
    ) -> int:
        """Change the document that matches and return how many were changed: 0 or 1.

        An inserted document counts as changed. 0 means that none matched, or that it held the
        new values already; put what must have been true into the filter and 0 says who lost.
        `hides`: the change takes the document out of everybody's sight: it is told as a deletion.
        """
        ids = self._named(where)
        gone = await self._leaving(ids, hides=hides)
        with _edge():
            done = await self._motor.update_one(where, change, upsert=upsert)
        if self._announcer and done.upserted_id is not None:
            self._announcer.inserted((done.upserted_id,))
        elif self._announcer and done.modified_count and hides:
            gone(ids)
        elif self._announcer and done.modified_count and self._announcer.heeds(change):
            self._announcer.updated(ids)
        return int(done.modified_count or done.upserted_id is not None)

    async def update_many(
        self, where: Filter, change: Mapping[str, Any], *, look_up: bool = False
    ) -> int:
        """Change every document that matches, each by itself, and return how many were changed.

        `look_up`: the filter names no `_id`, so what matches is looked up first to be announced.
        """
        where, ids = await self._found(where, look_up=look_up)
        with _edge():
            changed = int((await self._motor.update_many(where, change)).modified_count)
        if self._announcer and changed and self._announcer.heeds(change):
            self._announcer.updated(ids)
        return changed

    async def delete_one(self, where: Filter) -> int:
        """Remove the document that matches and return how many were removed: 0 or 1."""
        ids = self._named(where)
        gone = await self._leaving(ids)
        with _edge():
            removed = int((await self._motor.delete_one(where)).deleted_count)
        if removed:
            gone(ids)
        return removed

    async def delete_many(self, where: Filter, *, look_up: bool = False) -> int:
        """Remove every document that matches and return how many were removed.

        `look_up`: the filter names no `_id`, so what matches is looked up first to be announced.
        """
        where, ids = await self._found(where, look_up=look_up)
        gone = await self._leaving(ids)
        with _edge():
            removed = int((await self._motor.delete_many(where)).deleted_count)
        if removed and self._announcer:
            left = await self.find({"_id": {"$in": list(ids)}}, fields={"_id": 1})
            kept = {document["_id"] for document in left}
            gone([each for each in ids if each not in kept])
        return removed

    async def count(self, where: Filter) -> int:
        """Return how many documents match."""
        with _edge():
            return int(await self._motor.count_documents(where))

    async def distinct(self, field: str, where: Filter) -> list[Any]:
        """Return the distinct values of a field among the documents that match."""
        with _edge():
            return list(await self._motor.distinct(field, where))

    async def create_indices(self, indices: Sequence[Index]) -> None:
        """Make these indices where they are missing; call it when the database is new."""
        if indices:
            with _edge():
                await self._motor.create_indexes(
                    [IndexModel(list(index.keys), unique=index.unique) for index in indices]
                )

    def _named(self, where: Filter) -> tuple[str, ...]:
        """Return the ids that a filter names; only an announced collection insists on them."""
        named = where.get("_id")
        if self._announcer is None:
            return ()
        if isinstance(named, str):
            return (named,)
        if isinstance(named, Mapping) and "$in" in named:
            return tuple(named["$in"])
        raise TypeError("a write to an announced collection names the _id, or asks to look it up")

    async def _found(self, where: Filter, *, look_up: bool) -> tuple[Filter, tuple[str, ...]]:
        """Return the ids of what matches and a filter that names them, for an announced write."""
        if self._announcer is None:
            return where, ()
        if not look_up:
            self._named(where)
        ids = tuple(each["_id"] for each in await self.find(where, fields={"_id": 1}))
        return {**where, "_id": {"$in": list(ids)}}, ids

    async def _leaving(
        self, ids: tuple[str, ...], *, hides: bool = True
    ) -> Callable[[Sequence[str]], None]:
        if self._announcer is None or not hides:
            return _nobody
        return await self._announcer.leaving(ids)


class Mongo:
    """One database of one MongoDB, with one pool of connections."""

    def __init__(self, client: "AsyncIOMotorClient[Document]", database: str) -> None:
        """Wrap the driver's client; use `open`."""
        self._client = client
        self._database: AsyncIOMotorDatabase[Document] = client[database]
        self._announcer_of: Callable[[str], Announcer | None] = _silence
        self.opened: set[str] = set()

    @classmethod
    def open(cls, uri: str, database: str, max_connections: int) -> Self:
        """Return the database; nothing is sent before the first call, so a start never hangs here.

        Raises:
            Unavailable: the address is none.
        """
        ours: dict[str, Any] = {
            "maxPoolSize": max_connections,
            "serverSelectionTimeoutMS": SELECTION_MS,
            "connectTimeoutMS": SELECTION_MS,
            "waitQueueTimeoutMS": SELECTION_MS,
            "socketTimeoutMS": ANSWER_MS,
            "w": "majority",
            "journal": True,
            "appname": "cafe-variome",
        }
        try:
            # The driver lets keywords win over the address; what stands there is meant.
            named = {name.lower() for name, _ in parse_qsl(urlsplit(uri).query)}
            kept = {name: value for name, value in ours.items() if name.lower() not in named}
            client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, tz_aware=True, **kept)
        except (ConfigurationError, ValueError) as fault:
            raise Unavailable(
                "The address of the database is not one that MongoDB knows."
            ) from fault
        return cls(client, database)

    def announce(self, announcer_of: Callable[[str], Announcer | None]) -> None:
        """Give every collection that is opened from now on its announcer, or none, by name."""
        self._announcer_of = announcer_of

    def collection(self, name: str) -> Collection:
        """Return a collection by name; it comes into being with its first document or index."""
        self.opened.add(name)
        return Collection(self._database[name], self._announcer_of(name))

    async def ping(self) -> None:
        """Ask the server for a sign of life.

        Raises:
            Unavailable: there was none.
        """
        with _edge():
            await self._database.command("ping")

    async def command(self, command: Document) -> Document:
        """Run a command of the database's administration, as MongoDB's manual names it.

        Raises:
            Unavailable: there was no answer, or the database's user may not do this.
        """
        with _edge():
            return dict(await self._database.command(command))

    async def seen(self) -> Seen:
        """Ask the server which one it is.

        Raises:
            Unavailable: it did not answer.
        """
        with _edge():
            told = await self._database.command("buildInfo")
        return Seen(name="MongoDB protocol", version=str(told.get("version", "")))

    async def drop(self) -> None:
        """Remove the whole database; for tests and for a fresh start only."""
        with _edge():
            await self._client.drop_database(self._database.name)

    async def add_user(self, user: str, password: str) -> None:
        """Make a user of this database who may read and write in it; for local mode, once."""
        with _edge():
            await self._database.command(
                "createUser",
                user,
                pwd=password,
                roles=[{"role": "readWrite", "db": self._database.name}],
                mechanisms=["SCRAM-SHA-256"],
            )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()


def mongo_uri(
    host: str, port: int, *, user: str = "", password: str = "", database: str = ""
) -> str:
    """Write the address of a server; users are those of the database itself."""
    who = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    where = f"[{host}]" if ":" in host and not host.startswith("[") else host
    source = f"/?authSource={quote(database, safe='')}" if user and database else "/"
    return f"mongodb://{who}{where}:{port}{source}"


def _nobody(_: Sequence[str]) -> None:
    """Stand for an announcer where nobody is to hear of a deletion."""


def _silence(_: str) -> None:
    """Give no collection an announcer."""


@contextmanager
def _edge() -> Iterator[None]:
    """Turn the driver's errors into ours; what we did not foresee passes as it is."""
    try:
        yield
    except DuplicateKeyError as fault:
        raise Conflict("There is such an entry already.") from fault
    except DocumentTooLarge as fault:
        raise TooLarge("This entry is larger than the database keeps in one piece.") from fault
    except (ConnectionFailure, WaitQueueTimeoutError, ExecutionTimeout) as fault:
        raise Unavailable("The database does not answer.") from fault
    except OperationFailure as fault:
        known = _foreseen(fault)
        if known is None:
            raise
        raise known from fault
    except InvalidOperation as fault:
        raise Unavailable("The database is shut.") from fault


def _foreseen(fault: OperationFailure) -> Conflict | StorageFull | Unavailable | None:
    details = fault.details or {}
    errors = details.get("writeErrors", ())
    if any(error.get("code") == _DUPLICATE for error in errors):
        return Conflict("There is such an entry already.")
    if fault.code in _FULL_CODES:
        return StorageFull("The database has no room left.")
    if fault.code == _NOT_LOGGED_IN:
        return Unavailable("The database refuses our credentials.")
    if fault.code == _NOT_ALLOWED:
        return Unavailable(
            "The database does not let its user do this: the instance needs the role readWrite, "
            "and changes of the schema the role dbAdmin too."
        )
    return None
