"""Discovery groups and the depths of an answer."""

from enum import Enum
from typing import NewType

from cvf_app.ids import NetworkId, SourceId
from cvf_app.principal import UserId
from cvf_app.wire import Wire

GroupId = NewType("GroupId", str)


class Depth(Enum):
    """The published policies, coarse to fine; `range` is refused until private ranges exist."""

    NO_ACCESS = "noAccess"
    BOOLEAN = "boolean"
    RANGE = "range"
    COUNT = "count"
    LIST = "list"
    DETAILED_LIST = "detailedList"

    @property
    def rank(self) -> int:
        """Return the fineness: 0 for `noAccess`, growing with what is told."""
        return list(Depth).index(self)


class NewDiscoveryGroup(Wire, frozen=True, kw_only=True):
    """A discovery group as sent: who may learn how much from which sources, within one network."""

    group_name: str
    network_id: NetworkId | None = None
    discovery_policy: Depth
    assigned_users: tuple[UserId, ...] = ()
    assigned_sources: tuple[SourceId, ...] = ()
    group_description: str = ""
    group_id: GroupId | None = None


class DiscoveryGroup(Wire, frozen=True, kw_only=True):
    """A stored discovery group."""

    group_id: GroupId
    group_name: str
    network_id: NetworkId
    discovery_policy: Depth
    assigned_users: tuple[UserId, ...] = ()
    assigned_sources: tuple[SourceId, ...] = ()
    group_description: str = ""
