"""`POST /inspections`: the nightly look for inconsistency, now."""

from quart import Blueprint, Response

from cvf_app.parts import use
from cvf_app.upkeep.inspection import Inspection
from cvf_app.web.access import PEOPLE, allow
from cvf_app.web.io import reply

bp = Blueprint("upkeep", __name__)


@bp.post("/inspections")
@allow(*PEOPLE)
async def inspect() -> Response:
    """Look for inconsistency now; administrators are told by mail too."""
    return reply(await use(Inspection).run())
