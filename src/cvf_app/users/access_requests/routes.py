"""`/access-requests`: anybody may ask; administrators look, approve and deny."""

from quart import Blueprint, Response, request

from cvf_app.errors import Invalid
from cvf_app.parts import use
from cvf_app.users.access_requests.model import (
    AccessRequestId,
    Approval,
    Denial,
    NewAccessRequest,
    Status,
)
from cvf_app.users.access_requests.service import AccessRequests
from cvf_app.web.access import PEOPLE, allow, principal, public
from cvf_app.web.io import DONE, body, optional_body, reply, whole_number

bp = Blueprint("access_requests", __name__, url_prefix="/access-requests")
MOST = 200
MOST_PAGES = 100_000


@bp.post("/")
@public
async def ask() -> Response:
    """Ask for access."""
    new = await body(NewAccessRequest)
    return reply(await use(AccessRequests).ask(new, request.remote_addr or ""))


@bp.get("/")
@allow(*PEOPLE)
async def list_requests() -> Response:
    """List requests for access, the newest first."""
    limit = whole_number("limit", 50, 1, MOST)
    page = whole_number("page", 0, 0, MOST_PAGES)
    found = await use(AccessRequests).page(_status(), limit, page * limit)
    return reply(found)


@bp.get("/<request_id>")
@allow(*PEOPLE)
async def get_request(request_id: str) -> Response:
    """Show one request for access."""
    return reply(await use(AccessRequests).get(AccessRequestId(request_id)))


@bp.post("/<request_id>/approve")
@allow(*PEOPLE)
async def approve(request_id: str) -> Response:
    """Make the one who asked a user who may log in."""
    approval = await optional_body(Approval, Approval())
    done = await use(AccessRequests).approve(AccessRequestId(request_id), approval, principal())
    return reply(done)


@bp.post("/<request_id>/deny")
@allow(*PEOPLE)
async def deny(request_id: str) -> Response:
    """Deny a request."""
    denial = await optional_body(Denial, Denial())
    await use(AccessRequests).deny(AccessRequestId(request_id), denial, principal())
    return reply(DONE)


def _status() -> Status | None:
    text = request.args.get("status")
    if text is None:
        return None
    try:
        return Status(text)
    except ValueError as fault:
        known = ", ".join(status.value for status in Status)
        raise Invalid(f"status is one of: {known}.", path="$.status") from fault
