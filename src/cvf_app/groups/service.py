"""Discovery groups: who may learn how much from which sources, within one network."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec

from cvf_app.errors import Conflict, Invalid, NotFound
from cvf_app.groups import policy
from cvf_app.groups.model import Depth, DiscoveryGroup, GroupId, NewDiscoveryGroup
from cvf_app.groups.store import GroupStore
from cvf_app.ids import NetworkId, SourceId, new_id
from cvf_app.networks.service import Networks
from cvf_app.principal import UserId
from cvf_app.wire import convert, plain

KnownUsers = Callable[[tuple[UserId, ...]], Awaitable[frozenset[UserId]]]
KnownSources = Callable[[tuple[SourceId, ...]], Awaitable[frozenset[SourceId]]]
LONGEST_NAME = 200
LONGEST_DESCRIPTION = 4000
MOST_ASSIGNED = 10_000
_TRIES = 5


class Groups:
    """The discovery groups of this instance.

    Sources stand above groups, so what is needed of them (and of users) comes as two
    functions: each returns those of the given ids that exist.
    """

    def __init__(
        self,
        store: GroupStore,
        networks: Networks,
        known_users: KnownUsers,
        known_sources: KnownSources,
    ) -> None:
        """Work on this store, for the instance in these networks."""
        self._store = store
        self._networks = networks
        self._known_users = known_users
        self._known_sources = known_sources

    async def list_groups(self) -> tuple[DiscoveryGroup, ...]:
        """Return every group, by name."""
        return await self._store.list_all()

    async def get(self, group_id: GroupId) -> DiscoveryGroup:
        """Return one group.

        Raises:
            NotFound: there is no such group.
        """
        group, _ = await self._store.get(group_id)
        return group

    async def create(self, new: NewDiscoveryGroup) -> DiscoveryGroup:
        """Make a group; without a network it belongs to the instance's own.

        Raises:
            Invalid: a field cannot stand; the path names it.
            Conflict: a group with this id exists.
        """
        group = DiscoveryGroup(
            group_id=_id(new.group_id),
            group_name=new.group_name,
            network_id=new.network_id or (await self._networks.own()).network_id,
            discovery_policy=new.discovery_policy,
            assigned_users=_once(new.assigned_users),
            assigned_sources=_once(new.assigned_sources),
            group_description=new.group_description,
        )
        await self._check(group)
        try:
            await self._store.insert(group)
        except Conflict as taken:
            raise Conflict("There is a discovery group with this id.", path="$.groupId") from taken
        return group

    async def update(self, group_id: GroupId, changes: dict[str, Any]) -> DiscoveryGroup:
        """Merge published fields into a group; its ids cannot change.

        Raises:
            NotFound: there is no such group.
            Invalid: a field is unknown, of a wrong type or cannot stand.
            Conflict: others keep changing it at the same time.
        """
        for _ in range(_TRIES):
            old, version = await self._store.get(group_id)
            group = _merged(old, changes)
            await self._check(group)
            if await self._store.replace(group, version):
                return group
        raise Conflict("Others are changing this discovery group at the same time; try again.")

    async def delete(self, group_id: GroupId) -> None:
        """Delete a group; who had access through it alone has none from now on.

        Raises:
            NotFound: there is no such group.
        """
        if not await self._store.delete(group_id):
            raise NotFound("There is no such discovery group.")

    async def depth_of(self, user_id: UserId, network_id: NetworkId) -> dict[SourceId, Depth]:
        """Return how deep a user may look into each source of a network; `noAccess` is absent."""
        return policy.depths(
            await self._store.list_of_user(user_id, network_id), user_id, network_id
        )

    async def reaches(
        self, users: frozenset[UserId], network_id: NetworkId
    ) -> dict[UserId, dict[SourceId, Depth]]:
        """Return what `depth_of` says of each of many users; who sees no source is absent."""
        return policy.reaches(await self._store.list_all(), users, network_id)

    async def watchers(self, source_id: SourceId, network_id: NetworkId) -> dict[UserId, Depth]:
        """Return how deep each user may look into a source; `noAccess` is absent."""
        groups = [group for group, _ in await self._store.list_of_source(source_id)]
        users = frozenset(user for group in groups for user in group.assigned_users)
        reach = policy.reaches(groups, users, network_id)
        return {user: depths[source_id] for user, depths in reach.items() if source_id in depths}

    async def forget_source(self, source_id: SourceId) -> None:
        """Take a source out of every group, as when it is deleted; safe to repeat."""
        for _ in range(_TRIES):
            found = await self._store.list_of_source(source_id)
            if not found:
                return
            for group, version in found:
                left = tuple(other for other in group.assigned_sources if other != source_id)
                await self._store.replace(
                    msgspec.structs.replace(group, assigned_sources=left), version
                )
        raise Conflict(
            "Others are changing discovery groups of this source at the same time; try again."
        )

    async def forget_user(self, user_id: UserId) -> None:
        """Take a user out of every group, as when they are deleted; safe to repeat."""
        for _ in range(_TRIES):
            found = await self._store.list_with_user(user_id)
            if not found:
                return
            for group, version in found:
                left = tuple(other for other in group.assigned_users if other != user_id)
                await self._store.replace(
                    msgspec.structs.replace(group, assigned_users=left), version
                )
        raise Conflict(
            "Others are changing discovery groups of this user at the same time; try again."
        )

    async def _check(self, group: DiscoveryGroup) -> None:
        if not group.group_name.strip() or len(group.group_name) > LONGEST_NAME:
            raise Invalid(
                f"A group needs a name of at most {LONGEST_NAME} characters.", path="$.groupName"
            )
        if len(group.group_description) > LONGEST_DESCRIPTION:
            sentence = f"A group's description has at most {LONGEST_DESCRIPTION} characters."
            raise Invalid(sentence, path="$.groupDescription")
        policy.check_policy(group.discovery_policy)
        if group.network_id not in {
            network.network_id for network in await self._networks.list_networks()
        }:
            raise Invalid("This instance is in no such network.", path="$.networkId")
        if len(group.assigned_users) > MOST_ASSIGNED:
            raise Invalid(f"A group has at most {MOST_ASSIGNED} users.", path="$.assignedUsers")
        if len(group.assigned_sources) > MOST_ASSIGNED:
            raise Invalid(f"A group has at most {MOST_ASSIGNED} sources.", path="$.assignedSources")
        if group.assigned_users:
            known_users = await self._known_users(group.assigned_users)
            _all_known(group.assigned_users, known_users, "user", "$.assignedUsers")
        if group.assigned_sources:
            known_sources = await self._known_sources(group.assigned_sources)
            _all_known(group.assigned_sources, known_sources, "source", "$.assignedSources")


def _merged(old: DiscoveryGroup, changes: dict[str, Any]) -> DiscoveryGroup:
    for name, kept in (("groupId", old.group_id), ("networkId", old.network_id)):
        if name in changes and changes[name] != kept:
            raise Invalid(f"{name} cannot change.", path=f"$.{name}")
    group = convert({**plain(old), **changes}, DiscoveryGroup)
    return msgspec.structs.replace(
        group,
        assigned_users=_once(group.assigned_users),
        assigned_sources=_once(group.assigned_sources),
    )


def _id(given: GroupId | None) -> GroupId:
    if given is None:
        return GroupId(new_id())
    try:
        return GroupId(str(UUID(given)))
    except ValueError as fault:
        raise Invalid("A group's id is a UUID.", path="$.groupId") from fault


def _all_known(ids: tuple[str, ...], known: frozenset[Any], kind: str, path: str) -> None:
    for place, each in enumerate(ids):
        if each not in known:
            raise Invalid(f"There is no {kind} with this id.", path=f"{path}[{place}]")


def _once(ids: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(ids))
