"""The stream inside a backup: documents and pieces of files, one after the other, compressed.

A record is a letter, the length of its body (four bytes, the highest first) and the body. First
comes what the backup is (`I`), last what it holds in all (`Z`). Between them collections begin
(`C`, the name), each document follows as BSON (`D`), and files begin (`F`, where), come in pieces
(`B`) and end (`E`). A writer counts and digests what goes by, and a reader does the same: the two
must agree. Digests of documents are added up, so that their order does not matter.
"""

import hashlib
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from cvf_app.backup.envelope import Identity, Passphrase, Recipient, SealedReader, SealedWriter
from cvf_app.errors import Invalid
from cvf_app.wire import Wire, decode, encode

INFO, COLLECTION, DOCUMENT = b"I", b"C", b"D"
FILE, PIECE, FILE_END, END = b"F", b"B", b"E", b"Z"
_KINDS = frozenset((INFO, COLLECTION, DOCUMENT, FILE, PIECE, FILE_END, END))
_LEVEL = 3
_LARGEST = 32 * 2**20
_READ_AT_ONCE = 2**20
_UNPACKED_AT_ONCE = 2**22
_MODULUS = 2**256
_HEAD = 5
_MIXED = "This backup does not hold together: it was not written to its end. Nothing was written."


class Info(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """What a backup is of: made when (epoch seconds), by which version, at which schema number.

    `keys` is `file` when the key store is inside, `vault` when it has to be brought back from
    Vault's own snapshot. `config` is the configuration as JSON, without its secrets.
    """

    backup: str
    made_at: int
    version: str
    schema: int
    database: str
    keys: str
    config: str


class Total(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """How many documents or files, of how many bytes, and their added digest in hex."""

    count: int = 0
    size: int = 0
    digest: str = f"{0:064x}"

    def and_also(self, data: bytes, size: int) -> "Total":
        """Return the total with one more."""
        added = (int(self.digest, 16) + int(hashlib.sha256(data).hexdigest(), 16)) % _MODULUS
        return Total(count=self.count + 1, size=self.size + size, digest=f"{added:064x}")


class Manifest(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """What a backup holds: documents by collection, files by area (`data`, `keys`)."""

    collections: dict[str, Total]
    areas: dict[str, Total]


class Placed(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """Where a file belongs: an area, and the path inside it."""

    area: str
    path: str


class Ended(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """The end of a file: its size and the SHA-256 of its content in hex."""

    size: int
    sha256: str


class Tally:
    """Counts and digests what goes by."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._collections: dict[str, Total] = {}
        self._areas: dict[str, Total] = {}

    @property
    def manifest(self) -> Manifest:
        """What went by so far."""
        return Manifest(collections=self._collections, areas=self._areas)

    def collection(self, name: str) -> None:
        """Count a collection, even if it stays without documents."""
        self._collections.setdefault(name, Total())

    def document(self, name: str, data: bytes) -> None:
        """Count a document."""
        self._collections[name] = self._collections[name].and_also(data, len(data))

    def file(self, placed: Placed, ended: Ended) -> None:
        """Count a file: its place is part of its digest."""
        told = b"\0".join((encode(placed), encode(ended)))
        old = self._areas.get(placed.area, Total())
        self._areas[placed.area] = old.and_also(told, ended.size)


class Writer:
    """Writes the records of a backup."""

    def __init__(self, out: BinaryIO, keeper: Passphrase | Recipient, info: Info) -> None:
        """Begin the stream."""
        self._sealed = SealedWriter(out, keeper)
        self._packing = zlib.compressobj(_LEVEL)
        self.tally = Tally()
        self._name = ""
        self._write(INFO, encode(info))

    def document(self, name: str, data: bytes) -> None:
        """Write a document of a collection."""
        self.collection(name)
        self.tally.document(name, data)
        self._write(DOCUMENT, data)

    def collection(self, name: str) -> None:
        """Say that there is a collection, and that documents of it follow."""
        if self._name != name:
            self.tally.collection(name)
            self._write(COLLECTION, name.encode())
            self._name = name

    def file(self, placed: Placed, content: BinaryIO) -> None:
        """Write a file, piece by piece."""
        digest, size = hashlib.sha256(), 0
        self._write(FILE, encode(placed))
        while piece := content.read(_READ_AT_ONCE):
            digest.update(piece)
            size += len(piece)
            self._write(PIECE, piece)
        ended = Ended(size=size, sha256=digest.hexdigest())
        self.tally.file(placed, ended)
        self._write(FILE_END, encode(ended))

    def close(self) -> Manifest:
        """Write what all that was, and end the stream."""
        self._write(END, encode(self.tally.manifest))
        self._sealed.write(self._packing.flush())
        self._sealed.close()
        return self.tally.manifest

    def _write(self, kind: bytes, body: bytes) -> None:
        self._sealed.write(self._packing.compress(kind + len(body).to_bytes(4, "big")))
        self._sealed.write(self._packing.compress(body))


class Reader:
    """Reads the records of a backup, from its beginning to its end."""

    def __init__(self, source: BinaryIO, keeper: Passphrase | Identity) -> None:
        """Open the stream and read what the backup is of.

        Raises:
            Invalid: it is no backup, or not to be opened.
        """
        self._sealed = SealedReader(source, keeper)
        self._unpacking = zlib.decompressobj()
        self._waiting = bytearray()
        kind, body = self._next()
        if kind != INFO:
            raise Invalid(_MIXED)
        self.info = decode(body, Info)
        self.manifest: Manifest | None = None

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield each record up to the end, which must agree with all that went by.

        Raises:
            Invalid: it does not, or the file was changed or cut off.
        """
        tally, name, placed = Tally(), "", None
        digest, size = hashlib.sha256(), 0
        while True:
            kind, body = self._next()
            match kind:
                case b"C":
                    name = body.decode()
                    tally.collection(name)
                case b"D":
                    tally.document(name, body)
                case b"F":
                    placed, digest, size = decode(body, Placed), hashlib.sha256(), 0
                case b"B":
                    digest.update(body)
                    size += len(body)
                case b"E" if placed is not None:
                    ended = decode(body, Ended)
                    if ended != Ended(size=size, sha256=digest.hexdigest()):
                        raise Invalid(_MIXED)
                    tally.file(placed, ended)
                case b"Z":
                    self.manifest = decode(body, Manifest)
                    if self.manifest != tally.manifest or self._waiting or self._more():
                        raise Invalid(_MIXED)
                    return
                case _:
                    raise Invalid(_MIXED)
            yield kind, body

    def _next(self) -> tuple[bytes, bytes]:
        head = self._take(_HEAD)
        kind, length = head[:1], int.from_bytes(head[1:], "big")
        if kind not in _KINDS or length > _LARGEST:
            raise Invalid(_MIXED)
        return kind, self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self._waiting) < count:
            if not self._more():
                raise Invalid(_MIXED)
        taken = bytes(self._waiting[:count])
        del self._waiting[:count]
        return taken

    def _more(self) -> bool:
        """Unpack some more bytes, a few MiB at most; false at the end of the stream."""
        while True:
            packed = self._unpacking.unconsumed_tail or self._sealed.chunk()
            if packed is None:
                return False
            unpacked = self._unpacking.decompress(packed, _UNPACKED_AT_ONCE)
            if unpacked:
                self._waiting += unpacked
                return True
