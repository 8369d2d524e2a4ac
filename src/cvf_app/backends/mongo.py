"""MongoDB behind two small classes; no other file knows the driver.

Promises: a database that does not answer becomes `Unavailable` within about three seconds, a
duplicate key `Conflict`, a full disk `StorageFull`; a write is acknowledged when it is in the
journal. Offered are only operations that a standalone MongoDB and the embedded server of local
mode answer alike (`tests/contract/test_mongo.py` runs every one of them on each server there is):
no transactions, no change streams, no `find_one_and_update`. Compare-and-set is `update_one` with
the expected state in the filter and a look at the number it returns. A store declares its
`INDICES`, which are made when the database is new, while the collections are empty.
"""

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

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
_AUTHENTICATION_CODES = frozenset({13, 18})
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


class Collection:
    """One collection; documents are plain dictionaries with an `_id` that we made."""

    def __init__(self, motor: "AsyncIOMotorCollection[Document]") -> None:
        """Wrap the driver's collection."""
        self._motor = motor

    async def insert(self, document: Mapping[str, Any]) -> None:
        """Add a document.

        Raises:
            Conflict: its `_id`, or a value that must be unique, is there already.
        """
        with _edge():
            await self._motor.insert_one(dict(document))

    async def insert_many(self, documents: Iterable[Mapping[str, Any]]) -> int:
        """Add documents in order and return how many; stops at the first conflict."""
        many = [dict(document) for document in documents]
        if many:
            with _edge():
                await self._motor.insert_many(many)
        return len(many)

    async def replace(
        self, where: Filter, document: Mapping[str, Any], *, upsert: bool = False
    ) -> bool:
        """Put a document in place of the one that matches; say whether one was there."""
        with _edge():
            done = await self._motor.replace_one(where, dict(document), upsert=upsert)
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
        self, where: Filter, change: Mapping[str, Any], *, upsert: bool = False
    ) -> int:
        """Change the document that matches and return how many were changed: 0 or 1.

        An inserted document counts as changed. 0 means that none matched, or that it held the
        new values already; put what must have been true into the filter and 0 says who lost.
        """
        with _edge():
            done = await self._motor.update_one(where, change, upsert=upsert)
            return int(done.modified_count or done.upserted_id is not None)

    async def update_many(self, where: Filter, change: Mapping[str, Any]) -> int:
        """Change every document that matches, each by itself, and return how many were changed."""
        with _edge():
            return int((await self._motor.update_many(where, change)).modified_count)

    async def delete_one(self, where: Filter) -> int:
        """Remove the document that matches and return how many were removed: 0 or 1."""
        with _edge():
            return int((await self._motor.delete_one(where)).deleted_count)

    async def delete_many(self, where: Filter) -> int:
        """Remove every document that matches and return how many were removed."""
        with _edge():
            return int((await self._motor.delete_many(where)).deleted_count)

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


class Mongo:
    """One database of one MongoDB, with one pool of connections."""

    def __init__(self, client: "AsyncIOMotorClient[Document]", database: str) -> None:
        """Wrap the driver's client; use `open`."""
        self._client = client
        self._database: AsyncIOMotorDatabase[Document] = client[database]

    @classmethod
    def open(cls, uri: str, database: str, max_connections: int) -> Self:
        """Return the database; nothing is sent before the first call, so a start never hangs here.

        Raises:
            Unavailable: the address is none.
        """
        try:
            client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
                uri,
                maxPoolSize=max_connections,
                serverSelectionTimeoutMS=SELECTION_MS,
                connectTimeoutMS=SELECTION_MS,
                waitQueueTimeoutMS=SELECTION_MS,
                socketTimeoutMS=ANSWER_MS,
                tz_aware=True,
                w="majority",
                journal=True,
                appname="cafe-variome",
            )
        except (ConfigurationError, ValueError) as fault:
            raise Unavailable(
                "The address of the database is not one that MongoDB knows."
            ) from fault
        return cls(client, database)

    def collection(self, name: str) -> Collection:
        """Return a collection by name; it comes into being with its first document or index."""
        return Collection(self._database[name])

    async def ping(self) -> None:
        """Ask the server for a sign of life.

        Raises:
            Unavailable: there was none.
        """
        with _edge():
            await self._database.command("ping")

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
    if fault.code in _AUTHENTICATION_CODES:
        return Unavailable("The database refuses our credentials.")
    return None
