"""Documents as bytes (BSON), exactly as the database has them."""

import bson
from bson.codec_options import CodecOptions

from cvf_app.backends.mongo import Document

_OPTIONS: CodecOptions[Document] = CodecOptions(tz_aware=True)


def packed(document: Document) -> bytes:
    """Write a document as BSON."""
    return bson.encode(document)


def unpacked(data: bytes) -> Document:
    """Read a document from BSON."""
    return dict(bson.decode(data, _OPTIONS))
