"""`/networks`: reading the networks that this instance is in."""

from quart import Blueprint, Response

from cvf_app.ids import NetworkId
from cvf_app.networks.service import Networks
from cvf_app.parts import use
from cvf_app.web.access import ANYONE_KNOWN, allow
from cvf_app.web.io import reply

bp = Blueprint("networks", __name__, url_prefix="/networks")


@bp.get("/")
@allow(*ANYONE_KNOWN)
async def list_networks() -> Response:
    """List the networks."""
    return reply(await use(Networks).list_networks())


@bp.get("/<network_id>")
@allow(*ANYONE_KNOWN)
async def get_network(network_id: str) -> Response:
    """Show one network."""
    return reply(await use(Networks).get(NetworkId(network_id)))
