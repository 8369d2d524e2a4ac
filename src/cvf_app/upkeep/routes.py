"""What keeps the instance in order, asked for by hand: an inspection now, and new keys.

`POST /inspections` is the nightly look for inconsistency; `POST /keys/rotation` gives new versions
to the keys that seal what the database holds of people.
"""

from quart import Blueprint, Response

from cvf_app.parts import use
from cvf_app.upkeep.inspection import Inspection
from cvf_app.upkeep.rewrap import Rotation
from cvf_app.web.access import PEOPLE, allow, principal
from cvf_app.web.io import idempotency_key, reply

bp = Blueprint("upkeep", __name__)


@bp.post("/inspections")
@allow(*PEOPLE)
async def inspect() -> Response:
    """Look for inconsistency now; administrators are told by mail too."""
    return reply(await use(Inspection).run())


@bp.post("/keys/rotation")
@allow(*PEOPLE)
async def rotate_keys() -> Response:
    """Begin to rotate the keys that seal documents; the answer is the job that does it."""
    job = await use(Rotation).begin(principal().user_id, idempotency_key())
    return reply(job, location=f"/jobs/{job.job_id}")
