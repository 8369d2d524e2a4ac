"""`/groups`: discovery groups, for data admins and developers."""

from typing import Any

from quart import Blueprint, Response

from cvf_app.groups.model import GroupId, NewDiscoveryGroup
from cvf_app.groups.service import Groups
from cvf_app.parts import use
from cvf_app.web.access import DATA, allow
from cvf_app.web.io import DONE, body, reply

bp = Blueprint("groups", __name__, url_prefix="/groups")


@bp.get("/")
@allow(*DATA)
async def list_groups() -> Response:
    """List the discovery groups."""
    return reply(await use(Groups).list_groups())


@bp.post("/")
@allow(*DATA)
async def create_group() -> Response:
    """Make a discovery group."""
    group = await use(Groups).create(await body(NewDiscoveryGroup))
    return reply(group, location=f"/groups/{group.group_id}")


@bp.get("/<group_id>")
@allow(*DATA)
async def get_group(group_id: str) -> Response:
    """Show one discovery group."""
    return reply(await use(Groups).get(GroupId(group_id)))


@bp.patch("/<group_id>")
@allow(*DATA)
async def update_group(group_id: str) -> Response:
    """Change the given fields of a discovery group."""
    changes = await body(dict[str, Any])
    return reply(await use(Groups).update(GroupId(group_id), changes))


@bp.delete("/<group_id>")
@allow(*DATA)
async def delete_group(group_id: str) -> Response:
    """Delete a discovery group."""
    await use(Groups).delete(GroupId(group_id))
    return reply(DONE)
