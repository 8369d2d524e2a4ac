"""Requests for access in MongoDB, one document each.

Who asks, and why, stands in `sealed`; the digest of the address beside it finds earlier requests
of the same address. Every change names the status that it starts from.
"""

from cvf_app.backends.mongo import Document, Index, Mongo
from cvf_app.backends.sealed_documents import SealedDocuments
from cvf_app.errors import Conflict
from cvf_app.principal import UserId
from cvf_app.users.access_requests.model import AccessRequestId, Status
from cvf_app.wire import Wire, convert, plain

COLLECTION = "access_requests"
INDICES = (
    Index((("emailIndex", 1), ("status", 1))),
    Index((("status", 1), ("createdAt", -1))),
    Index((("createdAt", -1),)),
)


class KeptRequest(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """A request for access as stored."""

    request_id: AccessRequestId
    sealed: str
    email_index: str
    status: Status
    created_at: int
    decided_at: int | None = None
    decided_by: UserId | None = None
    user_id: UserId | None = None


class AccessRequestStore:
    """The documents of requests for access."""

    def __init__(self, mongo: Mongo) -> None:
        """Keep requests in this database."""
        self._requests = mongo.collection(COLLECTION)
        self.sealed = SealedDocuments(self._requests)

    async def prepare(self) -> None:
        """Make the indices; call it when the database is new."""
        await self._requests.create_indices(INDICES)

    async def add(self, request: KeptRequest) -> bool:
        """Keep a new request; false when it is there already."""
        document: Document = plain(request)
        document["_id"] = document.pop("requestId")
        try:
            await self._requests.insert(document)
        except Conflict:
            return False
        return True

    async def find(self, request_id: AccessRequestId) -> KeptRequest | None:
        """Return the request of this id, or none."""
        found = await self._requests.find_one({"_id": request_id})
        return None if found is None else _read(found)

    async def page(self, status: Status | None, limit: int, skip: int) -> tuple[KeptRequest, ...]:
        """Return the newest requests first."""
        where = {} if status is None else {"status": status.value}
        order = [("createdAt", -1), ("_id", 1)]
        found = await self._requests.find(where, sort=order, limit=limit, skip=skip)
        return tuple(map(_read, found))

    async def count(self, status: Status) -> int:
        """Return how many requests have a status."""
        return await self._requests.count({"status": status.value})

    async def decided(self, email_index: str) -> int:
        """Return how many requests of an address were decided."""
        ended = [status.value for status in Status if status.decided]
        return await self._requests.count({"emailIndex": email_index, "status": {"$in": ended}})

    async def move(self, request: KeptRequest, before: Status) -> bool:
        """Write a request's status and decision over this status; false if it has another one."""
        change = {
            "status": request.status.value,
            "decidedAt": request.decided_at,
            "decidedBy": request.decided_by,
            "userId": request.user_id,
        }
        where = {"_id": request.request_id, "status": before.value}
        return await self._requests.update_one(where, {"$set": change}) == 1

    async def forget(self, before: int) -> int:
        """Remove requests that were decided before a moment and return how many."""
        ended = [status.value for status in Status if status.decided]
        return await self._requests.delete_many(
            {"status": {"$in": ended}, "decidedAt": {"$lt": before}}
        )


def _read(document: Document) -> KeptRequest:
    fields = {name: value for name, value in document.items() if name != "_id"}
    return convert({"requestId": document["_id"], **fields}, KeptRequest)
