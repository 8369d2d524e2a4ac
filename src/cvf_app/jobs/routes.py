"""`/jobs/`: what runs in the background, for whom, how far it is; cancel it, or watch it."""

from collections.abc import AsyncIterator
from enum import Enum
from typing import TypeVar

from quart import Blueprint, Response, request

from cvf_app.errors import Invalid
from cvf_app.jobs.model import Ended, JobDocument, JobId, JobState
from cvf_app.jobs.resources import Hosts
from cvf_app.jobs.service import Jobs
from cvf_app.parts import use
from cvf_app.web.access import ANYONE_KNOWN, allow, principal
from cvf_app.web.io import DONE, reply, whole_number
from cvf_app.wire import encode

bp = Blueprint("jobs", __name__)
MOST = 200
MOST_PAGES = 100_000
E = TypeVar("E", bound=Enum)


@bp.get("/jobs/")
@allow(*ANYONE_KNOWN)
async def list_jobs() -> Response:
    """List jobs, newest first: one's own; all of them for those who manage data."""
    limit = whole_number("limit", 50, 1, MOST)
    page = whole_number("page", 0, 0, MOST_PAGES)
    return reply(
        await use(Jobs).list_jobs(
            principal(),
            limit=limit,
            skip=page * limit,
            state=_word("state", JobState),
            task=request.args.get("task"),
        )
    )


@bp.delete("/jobs/")
@allow(*ANYONE_KNOWN)
async def delete_jobs() -> Response:
    """Delete the ended jobs that a filter names: one's own; all for those who manage data."""
    which = _word("filter", Ended)
    if which is None:
        raise Invalid("Say which jobs: filter=ended, complete or failed.", path="$.filter")
    return reply(await use(Jobs).delete_ended(which, principal()))


@bp.get("/jobs/resources")
@allow(*ANYONE_KNOWN)
async def get_resources() -> Response:
    """Show what jobs may use and do use on each host."""
    return reply(await use(Hosts).resources())


@bp.get("/jobs/<job_id>")
@allow(*ANYONE_KNOWN)
async def get_job(job_id: str) -> Response:
    """Show one job with its whole list of steps."""
    return reply(await use(Jobs).get(JobId(job_id), principal()))


@bp.delete("/jobs/<job_id>")
@allow(*ANYONE_KNOWN)
async def delete_job(job_id: str) -> Response:
    """Delete a job that has ended."""
    await use(Jobs).delete(JobId(job_id), principal())
    return reply(DONE)


@bp.get("/jobs/<job_id>/log")
@allow(*ANYONE_KNOWN)
async def get_log(job_id: str) -> Response:
    """Show the end of what the work of a job has printed."""
    return reply(await use(Jobs).log(JobId(job_id), principal()))


@bp.put("/jobs/<job_id>/cancel")
@allow(*ANYONE_KNOWN)
async def cancel_job(job_id: str) -> Response:
    """Cancel a job: one that waits has ended with the answer, one that runs ends soon after."""
    return reply(await use(Jobs).cancel(JobId(job_id), principal()))


@bp.get("/jobs/<job_id>/events")
@allow(*ANYONE_KNOWN)
async def watch_job(job_id: str) -> Response:
    """Stream a job as server-sent events, each the whole job, until it has ended."""
    jobs, asker = use(Jobs), principal()
    await jobs.get(JobId(job_id), asker)
    changes = jobs.watch(JobId(job_id), asker)
    response = Response(_events(changes), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.timeout = None
    return response


async def _events(changes: AsyncIterator[JobDocument]) -> AsyncIterator[bytes]:
    async for job in changes:
        yield b"event: status\ndata: " + encode(job) + b"\n\n"


def _word(name: str, kind: type[E]) -> E | None:
    """Read one of a few words from the query string, or nothing."""
    text = request.args.get(name)
    if text is None:
        return None
    words = {str(each.value): each for each in kind}
    if text not in words:
        raise Invalid(f"{name} is one of {', '.join(words)}.", path=f"$.{name}")
    return words[text]
