"""`/jobs/`: what runs in the background, for whom, how far it is; cancel it, or watch it."""

from collections.abc import AsyncIterator

from quart import Blueprint, Response

from cvf_app.jobs.model import JobDocument, JobId
from cvf_app.jobs.service import Jobs
from cvf_app.parts import use
from cvf_app.web.access import ANYONE_KNOWN, allow, principal
from cvf_app.web.io import reply, whole_number
from cvf_app.wire import encode

bp = Blueprint("jobs", __name__)
MOST = 200
MOST_PAGES = 100_000


@bp.get("/jobs/")
@allow(*ANYONE_KNOWN)
async def list_jobs() -> Response:
    """List jobs, newest first: one's own; all of them for those who manage data."""
    limit = whole_number("limit", 50, 1, MOST)
    page = whole_number("page", 0, 0, MOST_PAGES)
    return reply(await use(Jobs).list_jobs(principal(), limit=limit, skip=page * limit))


@bp.get("/jobs/<job_id>")
@allow(*ANYONE_KNOWN)
async def get_job(job_id: str) -> Response:
    """Show one job with its whole list of steps."""
    return reply(await use(Jobs).get(JobId(job_id), principal()))


@bp.put("/jobs/<job_id>/cancel")
@allow(*ANYONE_KNOWN)
async def cancel_job(job_id: str) -> Response:
    """Cancel a job: one that waits has ended with the answer, one that runs ends soon after."""
    return reply(await use(Jobs).cancel(JobId(job_id), principal()))


@bp.get("/jobs/<job_id>/events")
@allow(*ANYONE_KNOWN)
async def watch_job(job_id: str) -> Response:
    """Stream a job as server-sent events, each the whole job, until it has ended."""
    jobs = use(Jobs)
    await jobs.get(JobId(job_id), principal())
    response = Response(_events(jobs.watch(JobId(job_id))), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.timeout = None
    return response


async def _events(changes: AsyncIterator[JobDocument]) -> AsyncIterator[bytes]:
    async for job in changes:
        yield b"event: status\ndata: " + encode(job) + b"\n\n"
