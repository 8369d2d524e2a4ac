"""Files as documents: what each is, how large, whose, and until when it is kept."""

from typing import NewType

from cvf_app.principal import UserId
from cvf_app.wire import Wire

FileId = NewType("FileId", str)
FILES_SCOPE = "files"
"""The scope of uploads that belong to a person and to no source."""


class StoredFile(Wire, frozen=True, kw_only=True):
    """A file whose content is kept under its SHA-256 (hex); times are epoch seconds.

    `ready` is false while its content is gone from the place; `reserved` is true while a job
    works with it or a source has it as a data file.
    """

    file_id: FileId
    name: str
    type: str
    size: int
    sha256: str
    user: str
    uploaded_at: int
    expires_at: int | None
    ready: bool
    reserved: bool


class NewFile(Wire, frozen=True, kw_only=True):
    """What a file is to be; `holders` (`source/<id>`, `job/<id>`) need it from the beginning."""

    file_id: FileId
    name: str
    type: str
    user: str
    holders: tuple[str, ...] = ()
    expires_at: int | None = None


class UploadGrant(Wire, frozen=True, kw_only=True):
    """What an upload token allows: one person may send files for one scope until it expires.

    `issued_at` has fractions of a second, to be before or after the end of an upload.
    """

    user_id: UserId
    scope: str
    issued_at: float
    expires_at: int


class ChunkLabel(Wire, frozen=True, kw_only=True):
    """Which piece of which upload a chunk is, in the fields that resumable.js sends."""

    identifier: str
    number: int
    total: int
    filename: str


class RangeLabel(Wire, frozen=True, kw_only=True):
    """Which bytes of which upload a body has; `first` is nothing when only the state is asked."""

    identifier: str
    filename: str
    total: int
    first: int | None = None
    last: int = -1
    expires_at: int | None = None


class UploadState(Wire, frozen=True, kw_only=True):
    """What has arrived of an upload; `chunk_size` is what we like to be sent, in bytes.

    `received` counts the bytes from the beginning that came by ranges: go on there.
    """

    resumable_identifier: str
    chunks: tuple[int, ...]
    received: int
    chunk_size: int
    largest_chunk: int
    complete: bool
    file_id: FileId | None = None
