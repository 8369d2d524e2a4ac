"""Files from outside, as documents: what each is, how large, and where it came from."""

from typing import NewType

from cvf_app.wire import Wire

FileId = NewType("FileId", str)


class StoredFile(Wire, frozen=True, kw_only=True):
    """A complete file, kept under its SHA-256 (hex); sizes are bytes, times epoch seconds."""

    file_id: FileId
    name: str
    size: int
    sha256: str
    user_id: str
    uploaded_at: int
