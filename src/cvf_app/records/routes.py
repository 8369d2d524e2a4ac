"""`/record`: asking, and reading what was asked and answered; also as server-sent events."""

import re
from collections.abc import AsyncIterator

from quart import Blueprint, Response, request

from cvf_app.ids import NetworkId
from cvf_app.parts import use
from cvf_app.principal import Principal
from cvf_app.records.model import Done, QueryId, Submitted
from cvf_app.records.service import Records
from cvf_app.records.spelling import read_query
from cvf_app.web.access import ANYONE_KNOWN, allow, principal
from cvf_app.web.io import payload, reply, whole_number
from cvf_app.wire import encode

bp = Blueprint("records", __name__, url_prefix="/record")
LONGEST_WAIT = 60
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,6})"?\s*(?=$|[,;])', re.IGNORECASE | re.ASCII)


@bp.post("/")
@allow(*ANYONE_KNOWN)
async def submit_query() -> Response:
    """Take a query: 202 with its id or, with `Prefer: wait=N`, 200 with the finished answer."""
    records = use(Records)
    question = read_query(await payload())
    network = request.headers.get("Network-Id")
    query_id = await records.submit(
        principal(), question, None if network is None else NetworkId(network)
    )
    seconds = _preferred_wait()
    if seconds:
        item = await records.wait(principal(), query_id, seconds)
        if item is not None:
            response = reply(item, location=f"/record/history/{query_id}")
            response.headers["Preference-Applied"] = f"wait={seconds}"
            return response
    return reply(Submitted(query_id=query_id), 202, location=f"/record/{query_id}")


@bp.get("/history")
@allow(*ANYONE_KNOWN)
async def list_history() -> Response:
    """List the asker's own queries, the newest first, without subjects."""
    limit = whole_number("limit", 20, 1, 100)
    page = whole_number("page", 0, 0, 1_000_000)
    return reply(await use(Records).history(principal(), limit, page))


@bp.get("/history/<query_id>")
@allow(*ANYONE_KNOWN)
async def get_history(query_id: str) -> Response:
    """Show a query with its answers so far."""
    return reply(await use(Records).answer(principal(), QueryId(query_id)))


@bp.get("/<query_id>")
@allow(*ANYONE_KNOWN)
async def get_query(query_id: str) -> Response:
    """Show a query."""
    return reply(await use(Records).get(principal(), QueryId(query_id)))


@bp.get("/<query_id>/events")
@allow(*ANYONE_KNOWN)
async def listen(query_id: str) -> Response:
    """Send each source's answer as it comes, then `done`; `Last-Event-ID` goes on after it."""
    records = use(Records)
    asker = principal()
    await records.get(asker, QueryId(query_id))  # so that another's query is a 404 and no stream
    last = request.headers.get("Last-Event-ID", "")
    after = int(last) if re.fullmatch(r"[0-9]{1,9}", last) else 0
    response = Response(
        _stream(records, asker, QueryId(query_id), after),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    response.timeout = None
    return response


async def _stream(
    records: Records, asker: Principal, query_id: QueryId, after: int
) -> AsyncIterator[bytes]:
    async for event in records.events(asker, query_id, after):
        if event is None:
            yield b": still here\n\n"
        elif isinstance(event, Done):
            yield b"event: done\ndata: " + encode(event) + b"\n\n"
        else:
            head = f"id: {event.number}\nevent: answer\ndata: ".encode()
            yield head + encode(event.answer) + b"\n\n"


def _preferred_wait() -> int:
    """Read `wait` of the `Prefer` headers (RFC 7240), at most a minute; malformed is none."""
    found = _WAIT.search(", ".join(request.headers.getlist("Prefer")))
    return min(int(found[1]), LONGEST_WAIT) if found else 0
