"""Local users in MongoDB: one document a person.

What tells who somebody is (names, e-mail address, affiliation, login name) stands encrypted in
`sealed`; what must be looked up has a keyed digest beside it. One document holds all that must
agree, so each change is one write.
"""

from collections.abc import Collection

from cvf_app.backends import mongo
from cvf_app.backends.mongo import Document, Index
from cvf_app.backends.sealed_documents import SealedDocuments
from cvf_app.principal import Role, UserId
from cvf_app.wire import Wire, convert, plain

COLLECTION = "users"
INDICES = (
    Index((("usernameIndex", 1),), unique=True),
    Index((("subjectIndex", 1),), unique=True),
)


class KeptUser(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """A local user as stored.

    `attempt` counts the tries to register and the changes after; `registered` says that a try was
    finished, `own_account` that the account at the provider is of our making, and `permitted`
    which of a permitted and a revoked login the person was told of last.
    """

    user_id: UserId
    sealed: str
    username_index: str
    subject_index: str
    role: Role
    active: bool
    registered: bool
    own_account: bool
    attempt: int
    budget: int
    permitted: bool = True


class UserStore:
    """The documents of local users."""

    def __init__(self, collection: mongo.Collection) -> None:
        """Keep users in this collection."""
        self._users = collection
        self.sealed = SealedDocuments(collection)

    async def prepare(self) -> None:
        """Make the indices; call it when the database is new."""
        await self._users.create_indices(INDICES)

    async def add(self, user: KeptUser) -> None:
        """Keep a new user.

        Raises:
            Conflict: there is one of this name or subject.
        """
        await self._users.insert(_document(user))

    async def find(self, user_id: str) -> KeptUser | None:
        """Return the user of this id, or none."""
        return _read(await self._users.find_one({"_id": user_id}))

    async def find_by_username(self, index: str) -> KeptUser | None:
        """Return the user whose login name has this digest, or none."""
        return _read(await self._users.find_one({"usernameIndex": index}))

    async def find_by_subject(self, index: str) -> KeptUser | None:
        """Return the user whose subject at the provider has this digest, or none."""
        return _read(await self._users.find_one({"subjectIndex": index}))

    async def list_users(self) -> tuple[KeptUser, ...]:
        """Return all users in the order of their ids."""
        found = await self._users.find({}, sort=[("_id", 1)])
        return tuple(user for user in map(_read, found) if user is not None)

    async def active_roles(self, user_ids: Collection[UserId]) -> dict[UserId, Role]:
        """Return the roles of those of these users who are active."""
        where = {"_id": {"$in": sorted(user_ids)}, "active": True}
        found = await self._users.find(where, fields={"role": 1})
        return {UserId(document["_id"]): Role(document["role"]) for document in found}

    async def known(self, user_ids: tuple[UserId, ...]) -> frozenset[UserId]:
        """Return those of these ids that belong to a user."""
        found = await self._users.find({"_id": {"$in": list(user_ids)}}, fields={"_id": 1})
        return frozenset(UserId(document["_id"]) for document in found)

    async def replace_attempt(self, user: KeptUser, attempt: int, *, shows: bool = False) -> bool:
        """Put a user in place of the one at this attempt; false if somebody else was faster.

        `shows`: nobody could see them before, so that they are told of as new.
        """
        where = {"_id": user.user_id, "attempt": attempt}
        return await self._users.replace(where, _document(user), shows=shows)

    async def delete(self, user_id: UserId, attempt: int) -> bool:
        """Delete a user at this attempt; false if somebody else changed it, or it is gone."""
        return await self._users.delete_one({"_id": user_id, "attempt": attempt}) == 1


def _document(user: KeptUser) -> Document:
    document: Document = plain(user)
    document["_id"] = document.pop("userId")
    return document


def _read(document: Document | None) -> KeptUser | None:
    if document is None:
        return None
    return convert({"userId": document["_id"], **_without_id(document)}, KeptUser)


def _without_id(document: Document) -> Document:
    return {name: value for name, value in document.items() if name != "_id"}
