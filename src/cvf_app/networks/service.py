"""The networks this instance is in: until it joins one, only the built-in network of itself."""

from cvf_app.errors import NotFound
from cvf_app.ids import NetworkId, NodeId
from cvf_app.networks.model import Network
from cvf_app.networks.store import NetworkStore


class Networks:
    """Discovery networks, as far as this instance knows of them."""

    def __init__(self, store: NetworkStore) -> None:
        """Work on this store."""
        self._store = store
        self._own: Network | None = None

    async def own(self) -> Network:
        """Return the built-in network; its id, the installation id, never changes."""
        if self._own is None:
            self._own = _built_in(await self._store.installation_id())
        return self._own

    async def list_networks(self) -> tuple[Network, ...]:
        """Return every network of this instance."""
        return (await self.own(),)

    async def get(self, network_id: NetworkId) -> Network:
        """Return one network.

        Raises:
            NotFound: this instance is in no such network.
        """
        own = await self.own()
        if network_id != own.network_id:
            raise NotFound("There is no such network.")
        return own


def _built_in(installation: NodeId) -> Network:
    return Network(
        network_id=NetworkId(installation),
        network_name="This instance",
        description="The network of this instance alone.",
        node_ids=(installation,),
        visible=False,
        instance_id=installation,
    )
