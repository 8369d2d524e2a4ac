"""Files from outside, as documents: what each is, how large, and where it came from."""

from typing import NewType

from cvf_app.principal import UserId
from cvf_app.wire import Wire

FileId = NewType("FileId", str)


class StoredFile(Wire, frozen=True, kw_only=True):
    """A complete file in the place, named there by its SHA-256 (hex); times are epoch seconds."""

    file_id: FileId
    name: str
    size: int
    sha256: str
    user_id: str
    uploaded_at: int


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


class UploadState(Wire, frozen=True, kw_only=True):
    """What has arrived of an upload; `chunk_size` is what we like to be sent, in bytes."""

    resumable_identifier: str
    chunks: tuple[int, ...]
    chunk_size: int
    largest_chunk: int
    complete: bool
