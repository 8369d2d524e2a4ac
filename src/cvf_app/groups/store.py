"""Discovery groups in MongoDB, one document each, with a version: changes compare and set."""

from typing import Any

from cvf_app.backends.mongo import Index, Mongo
from cvf_app.errors import NotFound
from cvf_app.groups.model import DiscoveryGroup, GroupId
from cvf_app.ids import NetworkId, SourceId
from cvf_app.principal import UserId
from cvf_app.wire import convert, plain

COLLECTION = "groups"
INDICES = (Index((("assignedUsers", 1),)), Index((("assignedSources", 1),)))
Versioned = tuple[DiscoveryGroup, int]


class GroupStore:
    """The collection `groups`; ids and versions stand beside the published fields."""

    def __init__(self, mongo: Mongo) -> None:
        """Keep groups in this database."""
        self._groups = mongo.collection(COLLECTION)

    async def prepare(self) -> None:
        """Make the indices; when the database is new."""
        await self._groups.create_indices(INDICES)

    async def insert(self, group: DiscoveryGroup) -> None:
        """Keep a new group.

        Raises:
            Conflict: its id is taken.
        """
        await self._groups.insert({"_id": group.group_id, "version": 1, **_fields(group)})

    async def get(self, group_id: GroupId) -> Versioned:
        """Return a group and its version.

        Raises:
            NotFound: there is no such group.
        """
        found = await self._groups.find_one({"_id": group_id})
        if found is None:
            raise NotFound("There is no such discovery group.")
        return _read(found)

    async def list_all(self) -> tuple[DiscoveryGroup, ...]:
        """Return every group, by name."""
        found = await self._groups.find({}, sort=[("groupName", 1), ("_id", 1)])
        return tuple(_read(document)[0] for document in found)

    async def list_of_user(
        self, user_id: UserId, network_id: NetworkId
    ) -> tuple[DiscoveryGroup, ...]:
        """Return a user's groups within a network."""
        found = await self._groups.find({"assignedUsers": user_id, "networkId": network_id})
        return tuple(_read(document)[0] for document in found)

    async def list_of_source(self, source_id: SourceId) -> tuple[Versioned, ...]:
        """Return the groups that name a source, with their versions."""
        return tuple(
            _read(document) for document in await self._groups.find({"assignedSources": source_id})
        )

    async def list_with_user(self, user_id: UserId) -> tuple[Versioned, ...]:
        """Return the groups of every network that a user is in, with their versions."""
        return tuple(
            _read(document) for document in await self._groups.find({"assignedUsers": user_id})
        )

    async def replace(self, group: DiscoveryGroup, version: int) -> bool:
        """Write a group over this version; false means that somebody else changed it first."""
        change = {"$set": {**_fields(group), "version": version + 1}}
        return (
            await self._groups.update_one({"_id": group.group_id, "version": version}, change) == 1
        )

    async def delete(self, group_id: GroupId) -> bool:
        """Delete a group; false means that there was none."""
        return await self._groups.delete_one({"_id": group_id}) == 1


def _fields(group: DiscoveryGroup) -> dict[str, Any]:
    # An omitted default would leave the old value standing when a `$set` empties a list.
    empty: dict[str, Any] = {"assignedUsers": [], "assignedSources": [], "groupDescription": ""}
    return {**empty, **plain(group)}


def _read(document: dict[str, Any]) -> Versioned:
    fields = {name: value for name, value in document.items() if name not in ("_id", "version")}
    return convert(fields, DiscoveryGroup), int(document["version"])
