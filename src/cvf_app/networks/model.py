"""Networks and nodes; until it joins one, an instance is its own network (the installation id)."""

from cvf_app.ids import NetworkId, NodeId
from cvf_app.wire import Wire


class Network(Wire, frozen=True, kw_only=True):
    """A discovery network in the published shape."""

    network_id: NetworkId
    network_name: str
    description: str
    node_ids: tuple[NodeId, ...]
    visible: bool
    instance_id: NodeId
