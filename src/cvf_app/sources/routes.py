"""`/sources`, `/source` (the published second spelling) and `/datafiles`."""

from collections.abc import AsyncIterator, Iterator

from quart import Blueprint, Response, request

from cvf_app.errors import Invalid
from cvf_app.files.model import RangeLabel, UploadGrant
from cvf_app.files.service import TOKEN_SECONDS, Files
from cvf_app.ids import SourceId
from cvf_app.jobs.model import JobId
from cvf_app.loops import in_thread
from cvf_app.parts import use
from cvf_app.sources.attributes import Attributes
from cvf_app.sources.dry_run import DryRunRequest, DryRuns
from cvf_app.sources.model import (
    ChunkReply,
    DataFileId,
    Declarations,
    DeclarationsChange,
    EavIndex,
    IngestRequest,
    NewSource,
    RemapRequest,
    SourceChange,
    Started,
    UploadTokenReply,
)
from cvf_app.sources.requests import Requests
from cvf_app.sources.sample import sample
from cvf_app.sources.service import Sources
from cvf_app.web.access import ANYONE_KNOWN, DATA, allow, principal
from cvf_app.web.intake import incoming
from cvf_app.web.io import DONE, body, idempotency_key, reply
from cvf_app.web.ranges import sent_range

bp = Blueprint("sources", __name__)
_TAKEN = "The file chunk uploaded successfully"


@bp.get("/sources/")
@allow(*ANYONE_KNOWN)
async def list_sources() -> Response:
    """Show the sources that the asker may know of."""
    return reply(await use(Sources).list_sources(principal()))


@bp.post("/sources/")
@allow(*DATA)
async def create_source() -> Response:
    """Make a source."""
    made = await use(Sources).create(await body(NewSource), principal())
    return reply(made, location=f"/sources/{made.source_id}")


@bp.get("/sources/upload-token")
@allow(*DATA)
async def get_upload_token() -> Response:
    """Give a token for uploads into one source."""
    source_id = SourceId(request.args.get("sourceId", ""))
    if not source_id:
        raise Invalid("Name the source that you want to upload to.", path="$.sourceId")
    await use(Sources).require(source_id)
    files = use(Files)
    token = await files.issue_token(principal().user_id, source_id)
    return reply(
        UploadTokenReply(token=token, expires_in=TOKEN_SECONDS, chunk_size=files.uploads.chunk_size)
    )


@bp.get("/sources/<source_id>")
@allow(*ANYONE_KNOWN)
async def get_source(source_id: SourceId) -> Response:
    """Show a source."""
    return reply(await use(Sources).get(source_id, principal()))


@bp.patch("/sources/<source_id>")
@allow(*DATA)
async def update_source(source_id: SourceId) -> Response:
    """Merge changes into a source."""
    return reply(await use(Sources).update(source_id, await body(SourceChange), principal()))


@bp.delete("/sources/<source_id>")
@allow(*DATA)
async def delete_source(source_id: SourceId) -> Response:
    """Delete a source with all that is in it."""
    await use(Sources).delete(source_id)
    return reply(DONE)


@bp.get("/sources/<source_id>/eav-index")
@allow(*DATA)
async def get_eav_index(source_id: SourceId) -> Response:
    """Show the attributes and values of a source."""
    return reply(await use(Sources).eav_index(source_id))


@bp.patch("/sources/<source_id>/eav-index")
@allow(*DATA)
async def rename_in_eav_index(source_id: SourceId) -> Response:
    """Change display names of attributes and values."""
    return reply(await use(Sources).rename(source_id, await body(EavIndex)))


@bp.get("/sources/<source_id>/attributes")
@allow(*DATA)
async def list_source_attributes(source_id: SourceId) -> Response:
    """Show the declared and the inferred attributes of a source."""
    return reply(await use(Attributes).known(source_id))


@bp.put("/sources/<source_id>/attributes")
@allow(*DATA)
async def declare_attributes(source_id: SourceId) -> Response:
    """Begin to declare all attributes of a source anew."""
    return await _change_attributes(source_id, await body(Declarations))


@bp.patch("/sources/<source_id>/attributes")
@allow(*DATA)
async def change_attributes(source_id: SourceId) -> Response:
    """Begin to change some declared attributes of a source."""
    return await _change_attributes(source_id, await body(DeclarationsChange))


@bp.get("/sources/<source_id>/attributes/schema")
@allow(*DATA)
async def get_attribute_schema(source_id: SourceId) -> Response:
    """Show the JSON Schema of the attributes of one subject."""
    return reply(await use(Attributes).schema(source_id))


@bp.post("/sources/<source_id>/index")
@bp.post("/source/<source_id>/index")
@allow(*DATA)
async def index_source(source_id: SourceId) -> Response:
    """Begin to build a source's index anew."""
    job = await use(Requests).reindex(source_id, principal().user_id, idempotency_key())
    return reply(Started(status=DONE.status, job_id=job.job_id))


@bp.get("/sources/<source_id>/upload")
@bp.get("/source/<source_id>/upload")
@allow(*DATA)
async def get_upload(source_id: SourceId) -> Response:
    """Say which chunks of an upload are here; of one chunk by the status alone (200 or 204)."""
    grant = await _grant(source_id)
    identifier = request.args.get("resumableIdentifier", "")
    if not identifier:
        raise Invalid("Name the upload that you ask about.", path="$.resumableIdentifier")
    state = await use(Files).state(grant, identifier)
    number = request.args.get("resumableChunkNumber")
    if number is not None and not (state.complete or number in map(str, state.chunks)):
        return Response(status=204)
    return reply(state)


@bp.post("/sources/<source_id>/upload")
@bp.post("/source/<source_id>/upload")
@allow(*DATA)
async def upload(source_id: SourceId) -> Response:
    """Take one chunk of a file."""
    grant = await _grant(source_id)
    kept = await use(Files).take_chunk(
        grant, request.headers.get("Content-Type", ""), incoming(), request.args.to_dict()
    )
    if kept is None:
        return reply(ChunkReply(status=_TAKEN))
    return reply(ChunkReply(status=_TAKEN, data_file_id=await use(Sources).attach(source_id, kept)))


@bp.put("/sources/<source_id>/upload")
@bp.put("/source/<source_id>/upload")
@allow(*DATA)
async def upload_range(source_id: SourceId) -> Response:
    """Take a range of the bytes of a file; the last one makes the data file."""
    files, grant = use(Files), await _grant(source_id)
    sent = sent_range(request.headers.get("Content-Range"), request.content_length)
    asked = RangeLabel(
        identifier=request.args.get("resumableIdentifier", ""),
        filename=request.args.get("resumableFilename", ""),
        total=sent.total,
        first=sent.first,
        last=sent.last,
    )
    kept = await files.take_range(grant, asked, incoming())
    if kept is None:
        return reply(await files.state(grant, asked.identifier), 202)
    return reply(ChunkReply(status=_TAKEN, data_file_id=await use(Sources).attach(source_id, kept)))


@bp.get("/sources/<source_id>/datafiles")
@bp.get("/source/<source_id>/datafiles")
@allow(*DATA)
async def list_data_files(source_id: SourceId) -> Response:
    """Show the data files of a source."""
    return reply(await use(Sources).list_files(source_id))


@bp.post("/sources/<source_id>/ingest")
@bp.post("/source/<source_id>/ingest")
@allow(*DATA)
async def ingest(source_id: SourceId) -> Response:
    """Begin to read data files into a source."""
    job = await use(Requests).ingest(
        source_id, await body(IngestRequest), principal().user_id, idempotency_key()
    )
    return reply(Started(status=DONE.status, job_id=job.job_id))


@bp.post("/sources/<source_id>/remap")
@bp.post("/source/<source_id>/remap")
@allow(*DATA)
async def remap(source_id: SourceId) -> Response:
    """Begin to turn read tables into subjects."""
    job = await use(Requests).remap(
        source_id, await body(RemapRequest), principal().user_id, idempotency_key()
    )
    return reply(Started(status=DONE.status, job_id=job.job_id))


@bp.get("/sources/<source_id>/reports/<job_id>")
@allow(*DATA)
async def get_report(source_id: SourceId, job_id: str) -> Response:
    """Show what came of the files of a job."""
    return reply(await use(Requests).reports.get(source_id, JobId(job_id)))


@bp.get("/sources/<source_id>/reports/<job_id>/refusals")
@allow(*DATA)
async def get_refusals(source_id: SourceId, job_id: str) -> Response:
    """Stream every refused row of a job as CSV: file, line, reason."""
    pieces = await use(Requests).reports.refusals(source_id, JobId(job_id))
    response = Response(_in_threads(pieces), content_type="text/csv; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Disposition"] = 'attachment; filename="refusals.csv"'
    response.timeout = None
    return response


@bp.post("/sources/<source_id>/dry-run")
@allow(*DATA)
async def dry_run(source_id: SourceId) -> Response:
    """Show what the head of a data file would give; nothing is kept."""
    return reply(await use(DryRuns).run(source_id, await body(DryRunRequest)))


@bp.delete("/datafiles/<data_file_id>")
@allow(*DATA)
async def delete_data_file(data_file_id: DataFileId) -> Response:
    """Delete a data file and take its subjects out of what answers."""
    job = await use(Requests).delete_file(data_file_id, principal().user_id)
    return reply(Started(status=DONE.status, job_id=None if job is None else job.job_id))


@bp.get("/datafiles/<data_file_id>/sample")
@allow(*DATA)
async def sample_data_file(data_file_id: DataFileId) -> Response:
    """Show the head of a data file."""
    sources = use(Sources)
    file = await sources.get_file(data_file_id)
    return reply(
        await in_thread(
            sample, sources.content(file), file.filename, file.file_format, file.file_pipeline
        )
    )


@bp.get("/pipelines/attributes")
@allow(*DATA)
async def list_attributes() -> Response:
    """Show the names of the columns of ingested files, for writing pipelines."""
    return reply(await use(Sources).columns())


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await in_thread(next, pieces, None)) is not None:
        yield piece


async def _grant(source_id: SourceId) -> UploadGrant:
    await use(Sources).require(source_id)
    token = request.headers.get("X-Upload-Token", "")
    return await use(Files).check_token(token, principal().user_id, source_id)


async def _change_attributes(
    source_id: SourceId, asked: Declarations | DeclarationsChange
) -> Response:
    words = {"": False, "false": False, "true": True}
    said = request.args.get("check", "")
    if said not in words:
        raise Invalid("`check` is true or false.", path="$.check")
    job = await use(Attributes).change(
        source_id, asked, principal().user_id, check_only=words[said]
    )
    return reply(Started(status=DONE.status, job_id=job.job_id))
