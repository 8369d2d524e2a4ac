"""Which depth of answer applies to whom: pure functions over discovery groups."""

from collections.abc import Iterable

from cvf_app.errors import Invalid
from cvf_app.groups.model import Depth, DiscoveryGroup
from cvf_app.ids import NetworkId, SourceId
from cvf_app.principal import UserId


def depths(
    groups: Iterable[DiscoveryGroup], user_id: UserId, network_id: NetworkId
) -> dict[SourceId, Depth]:
    """Return the depth per source that a user has in a network; a source without any is absent.

    Of several groups the highest depth wins. Groups of other networks, and groups that
    the user is not in, do not count. `noAccess` gives nothing, so such a source cannot be
    told from one that does not exist.
    """
    reach: dict[SourceId, Depth] = {}
    for group in groups:
        if group.network_id != network_id or user_id not in group.assigned_users:
            continue
        for source_id in group.assigned_sources:
            reach[source_id] = finer(reach.get(source_id, Depth.NO_ACCESS), group.discovery_policy)
    return {source_id: depth for source_id, depth in reach.items() if depth is not Depth.NO_ACCESS}


def reaches(
    groups: Iterable[DiscoveryGroup], users: frozenset[UserId], network_id: NetworkId
) -> dict[UserId, dict[SourceId, Depth]]:
    """Return what `depths` says of each of these users; a user without any source is absent."""
    found: dict[UserId, list[DiscoveryGroup]] = {}
    for group in groups:
        for user_id in users.intersection(group.assigned_users):
            found.setdefault(user_id, []).append(group)
    reach = {user: depths(theirs, user, network_id) for user, theirs in found.items()}
    return {user_id: sources for user_id, sources in reach.items() if sources}


def finer(one: Depth, other: Depth) -> Depth:
    """Return the depth of the two that tells more."""
    return max(one, other, key=lambda depth: depth.rank)


def coarser(one: Depth, other: Depth) -> Depth:
    """Return the depth of the two that tells less."""
    return min(one, other, key=lambda depth: depth.rank)


def check_policy(depth: Depth) -> None:
    """Refuse the one published policy that cannot be kept yet.

    Raises:
        Invalid: the policy is `range`.
    """
    if depth is Depth.RANGE:
        raise Invalid(
            "The policy 'range' is not available yet: it needs private ranges. "
            "Choose 'boolean' to tell less, or 'count' to tell exact numbers.",
            path="$.discoveryPolicy",
        )
