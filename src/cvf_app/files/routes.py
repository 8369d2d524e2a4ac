"""`/files/`: files of people, sent in one form or by ranges of bytes, and read again."""

from collections.abc import AsyncIterator

from quart import Blueprint, Response, request

from cvf_app.errors import Invalid
from cvf_app.files.form import Form, boundary
from cvf_app.files.model import FILES_SCOPE, FileId, RangeLabel, StoredFile, UploadGrant
from cvf_app.files.service import MOST_BUNDLED, Files
from cvf_app.parts import use
from cvf_app.web.access import ANYONE_KNOWN, DATA, allow, principal
from cvf_app.web.intake import incoming
from cvf_app.web.io import DONE, reply, whole_number
from cvf_app.web.ranges import asked_range, disposition, sent_range

bp = Blueprint("files", __name__)
MOST = 200
MOST_PAGES = 100_000
MOST_FILES = 1000
_LATEST = 2**40


@bp.post("/files/")
@allow(*DATA)
async def add_files() -> Response:
    """Keep the files of a form; `unpack=true` takes the files out of zip archives."""
    expires_at, unpack = _expiry(), _flag("unpack")
    form = Form(incoming(), boundary(request.headers.get("Content-Type", "")), MOST_FILES)
    files = use(Files)
    files.check_expiry(expires_at)
    kept = await files.uploads.take_form(
        form, str(principal().user_id), expires_at, files.workspace if unpack else None
    )
    return reply(kept, 201)


@bp.get("/files/")
@allow(*ANYONE_KNOWN)
async def list_files() -> Response:
    """List files, newest first: one's own; all of them for those who manage data."""
    limit = whole_number("limit", 50, 1, MOST)
    page = whole_number("page", 0, 0, MOST_PAGES)
    return reply(await use(Files).page(principal(), limit=limit, skip=page * limit))


@bp.get("/files/archive")
@allow(*ANYONE_KNOWN)
async def bundle_files() -> Response:
    """Send several files as one zip that is made on the way."""
    ids = tuple(FileId(each) for each in request.args.getlist("id")[: MOST_BUNDLED + 1])
    content = await use(Files).bundle(ids, principal())
    return _streamed(content, "files.zip", "application/zip")


@bp.put("/files/upload")
@allow(*DATA)
async def upload_file() -> Response:
    """Take a range of the bytes of a file; the last one makes the file."""
    files, grant = use(Files), _grant()
    sent = sent_range(request.headers.get("Content-Range"), request.content_length)
    asked = RangeLabel(
        identifier=request.args.get("resumableIdentifier", ""),
        filename=request.args.get("resumableFilename", ""),
        total=sent.total,
        first=sent.first,
        last=sent.last,
        expires_at=_expiry(),
    )
    kept = await files.take_range(grant, asked, incoming())
    if kept is not None:
        return reply(kept, 201, location=f"/files/{kept.file_id}")
    return reply(await files.state(grant, asked.identifier), 202)


@bp.get("/files/upload")
@allow(*DATA)
async def get_file_upload() -> Response:
    """Say which bytes of an upload have arrived."""
    identifier = request.args.get("resumableIdentifier", "")
    if not identifier:
        raise Invalid("Name the upload that you ask about.", path="$.resumableIdentifier")
    return reply(await use(Files).state(_grant(), identifier))


@bp.get("/files/<file_id>")
@allow(*ANYONE_KNOWN)
async def get_file(file_id: str) -> Response:
    """Show what a file is."""
    return reply(await use(Files).show(FileId(file_id), principal()))


@bp.get("/files/<file_id>/content")
@allow(*ANYONE_KNOWN)
async def get_content(file_id: str) -> Response:
    """Send the bytes of a file, or the range of them that is asked for."""
    files = use(Files)
    file = await files.show(FileId(file_id), principal())
    wanted = asked_range(_range_header(file), file.size)
    if wanted is None:
        response = _streamed(await files.read(file), file.name, "application/octet-stream")
        response.content_length = file.size
    else:
        first, last = wanted
        content = await files.read_range(file, first, last)
        response = _streamed(content, file.name, "application/octet-stream")
        response.status_code = 206
        response.content_length = last - first + 1
        response.headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = f'"{file.sha256}"'
    return response


@bp.delete("/files/<file_id>")
@allow(*ANYONE_KNOWN)
async def delete_file(file_id: str) -> Response:
    """Delete a file that nobody works with."""
    await use(Files).withdraw(FileId(file_id), principal())
    return reply(DONE)


def _grant() -> UploadGrant:
    """Return what people may without a token: send files that belong to themselves."""
    return UploadGrant(
        user_id=principal().user_id, scope=FILES_SCOPE, issued_at=0.0, expires_at=_LATEST
    )


def _range_header(file: StoredFile) -> str | None:
    """Return the range that is asked for, unless it is of a content that has changed since."""
    condition = request.headers.get("If-Range")
    if condition is not None and condition != f'"{file.sha256}"':
        return None
    return request.headers.get("Range")


def _streamed(content: AsyncIterator[bytes], name: str, kind: str) -> Response:
    response = Response(content, content_type=kind)
    response.headers["Content-Disposition"] = disposition(name)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    # It takes as long as the reader needs.
    response.timeout = None
    return response


def _expiry() -> int | None:
    return whole_number("expiresAt", 0, 1, _LATEST) or None


def _flag(name: str) -> bool:
    text = request.args.get(name, "false")
    if text not in ("true", "false"):
        raise Invalid(f"{name} is true or false.", path=f"$.{name}")
    return text == "true"
