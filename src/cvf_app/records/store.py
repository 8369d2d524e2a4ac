"""Record queries and their answers in MongoDB.

A query is one document in `record_queries`: its sender, its network, the question, its status and
its lease (`leaseUntil`, `lease`: until when and by whom it is being answered). Every change of a
lease is a compare-and-set. An answer is one document in `record_answers` under
`<query>/<source>`, numbered without gaps in the order of coming (the unique index sees to it), so
that a listener can go on after any number. Its subjects stand apart in `record_details`, packed,
so that a history is cheap to list. Details are written first: a seen answer is whole.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import msgspec

from cvf_app.backends.mongo import Document, Index, Mongo
from cvf_app.errors import Conflict, NotFound
from cvf_app.ids import NetworkId, SourceId
from cvf_app.principal import UserId
from cvf_app.records.model import (
    QueryId,
    QueryStatus,
    RecordQuery,
    ResultDetails,
    SourceAnswer,
)
from cvf_app.wire import convert, decode, encode, plain

QUERIES = "record_queries"
ANSWERS = "record_answers"
DETAILS = "record_details"
QUERY_INDICES = (
    Index((("userId", 1), ("createdAt", -1))),
    Index((("status", 1), ("leaseUntil", 1))),
)
ANSWER_INDICES = (Index((("queryId", 1), ("number", 1)), unique=True),)
_OPEN = {"$in": [QueryStatus.WAITING.value, QueryStatus.RUNNING.value]}


@dataclass(frozen=True, slots=True)
class KeptQuery:
    """A stored query; `created_at` is epoch seconds with fractions."""

    query_id: QueryId
    user_id: UserId
    network_id: NetworkId
    question: RecordQuery
    status: QueryStatus
    created_at: float
    attempts: int


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A stored answer with its number, from 1, in the order of coming."""

    number: int
    answer: SourceAnswer


class RecordStore:
    """The collections of record queries."""

    def __init__(self, mongo: Mongo) -> None:
        """Keep queries and answers in this database."""
        self._queries = mongo.collection(QUERIES)
        self._answers = mongo.collection(ANSWERS)
        self._details = mongo.collection(DETAILS)

    async def prepare(self) -> None:
        """Make the indices; when the database is new."""
        await self._queries.create_indices(QUERY_INDICES)
        await self._answers.create_indices(ANSWER_INDICES)

    async def insert(self, query: KeptQuery, *, lease: str, until: float) -> None:
        """Keep a new query, together with the claim of who answers it (0: nobody yet)."""
        await self._queries.insert(
            {
                "_id": query.query_id,
                "userId": query.user_id,
                "networkId": query.network_id,
                "question": plain(query.question),
                "status": query.status.value,
                "createdAt": query.created_at,
                "attempts": query.attempts,
                "lease": lease,
                "leaseUntil": until,
            }
        )

    async def get(self, query_id: QueryId, user_id: UserId | None = None) -> KeptQuery:
        """Return a query, or only if it is this user's.

        Raises:
            NotFound: there is none, or it is another's: nobody can tell which.
        """
        found = await self._queries.find_one({"_id": query_id})
        if found is None or (user_id is not None and found["userId"] != user_id):
            raise NotFound("There is no such query.")
        return _read(found)

    async def list_of_user(self, user_id: UserId, limit: int, skip: int) -> tuple[KeptQuery, ...]:
        """Return a page of a user's queries, the newest first."""
        sort = [("createdAt", -1), ("_id", 1)]
        found = await self._queries.find({"userId": user_id}, sort=sort, limit=limit, skip=skip)
        return tuple(_read(document) for document in found)

    async def list_lapsed(self, moment: float, limit: int) -> tuple[KeptQuery, ...]:
        """Return queries that wait for somebody to answer them, the oldest lapse first."""
        where = {"status": _OPEN, "leaseUntil": {"$lt": moment}}
        found = await self._queries.find(where, sort=[("leaseUntil", 1)], limit=limit)
        return tuple(_read(document) for document in found)

    async def count_lapsed(self, moment: float) -> int:
        """Return how many queries wait for somebody to answer them."""
        return await self._queries.count({"status": _OPEN, "leaseUntil": {"$lt": moment}})

    async def claim(self, query_id: QueryId, lease: str, moment: float, until: float) -> bool:
        """Take a query whose lease has lapsed; of two who try, one gets it."""
        where = {"_id": query_id, "status": _OPEN, "leaseUntil": {"$lt": moment}}
        change = {"status": QueryStatus.RUNNING.value, "lease": lease, "leaseUntil": until}
        return await self._queries.update_one(where, {"$set": change, "$inc": {"attempts": 1}}) == 1

    async def renew(self, query_id: QueryId, lease: str, until: float) -> bool:
        """Keep a claim for longer; false means that it is lost."""
        where = {"_id": query_id, "status": _OPEN, "lease": lease}
        change = {"$set": {"status": QueryStatus.RUNNING.value, "leaseUntil": until}}
        return await self._queries.update_one(where, change) == 1

    async def finish(self, query_id: QueryId, lease: str, status: QueryStatus) -> bool:
        """End a query that we hold; false means that the claim is lost."""
        where = {"_id": query_id, "status": _OPEN, "lease": lease}
        return await self._queries.update_one(where, {"$set": {"status": status.value}}) == 1

    async def add_answer(self, query_id: QueryId, answer: SourceAnswer, number: int) -> int:
        """Keep an answer under the first free number from this one on; return the next to try."""
        key = f"{query_id}/{answer.source_id}"
        if answer.result_details is not None:
            packed = zlib.compress(encode(answer.result_details), 1)
            await self._details.replace({"_id": key}, {"_id": key, "body": packed}, upsert=True)
        summary = plain(msgspec.structs.replace(answer, result_details=None))
        details = answer.result_details is not None
        while True:
            document = {"_id": key, "queryId": query_id, "number": number, "answer": summary}
            try:
                await self._answers.insert({**document, "details": details})
            except Conflict:
                if await self._answers.find_one({"_id": key}) is not None:
                    return number  # who held the claim before us was slow, not dead
            else:
                return number + 1
            number += 1

    async def answered(self, query_id: QueryId) -> frozenset[SourceId]:
        """Return the sources that have answered a query."""
        found = await self._answers.find({"queryId": query_id}, fields={"answer.sourceId": 1})
        return frozenset(SourceId(str(document["answer"]["sourceId"])) for document in found)

    async def list_answers(
        self, query_id: QueryId, *, after: int = 0, whole: bool = True
    ) -> tuple[KeptAnswer, ...]:
        """Return the answers after a number as they came; without `whole`, no subjects."""
        where = {"queryId": query_id, "number": {"$gt": after}}
        found = await self._answers.find(where, sort=[("number", 1)])
        return tuple([await self._answer(document, whole=whole) for document in found])

    async def _answer(self, document: Document, *, whole: bool) -> KeptAnswer:
        answer = convert(document["answer"], SourceAnswer)
        if whole and document["details"]:
            packed = await self._details.find_one({"_id": document["_id"]})
            if packed is not None:
                details = decode(zlib.decompress(packed["body"]), ResultDetails)
                answer = msgspec.structs.replace(answer, result_details=details)
        return KeptAnswer(number=int(document["number"]), answer=answer)


def _read(document: dict[str, Any]) -> KeptQuery:
    return KeptQuery(
        query_id=QueryId(document["_id"]),
        user_id=UserId(document["userId"]),
        network_id=NetworkId(document["networkId"]),
        question=convert(document["question"], RecordQuery),
        status=QueryStatus(document["status"]),
        created_at=float(document["createdAt"]),
        attempts=int(document["attempts"]),
    )
