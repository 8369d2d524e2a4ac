"""One upload that is under way, by numbered chunks or by ranges of bytes; its pieces are its state.

Promises: what was acknowledged is still there after a crash. Chunks may come in any order, more
than once and in several processes at once; one that was sent before with other content is a
`Conflict`. Ranges come in order: each begins where what is there ends. What a client calls its
upload is hashed and never becomes a name of ours.

Names of pieces say what they are: `<number>.<digest>.chunk`, `<first>.<end>.<digest>.range`,
`<number>.<digest>.was` (of a finished upload), and the marks `<n>.total` (chunks), `<n>.length`
(bytes) and `<file id>.<microseconds>.finished`.
"""

import hashlib
from dataclasses import dataclass, field

from cvf_app.errors import Conflict, Invalid
from cvf_app.files.model import ChunkLabel
from cvf_app.files.place import Place, Staged
from cvf_app.loops import in_thread

MOST_CHUNKS = 100_000
STALE_SECONDS = 7 * 24 * 3600
_LONGEST = 1024
_MICRO = 1_000_000


@dataclass(frozen=True)
class Finished:
    """A finished upload: the id of the file that it became, and when."""

    file_id: str
    at: float


@dataclass
class Arrived:
    """What is there of an upload, as the names of its pieces say it."""

    names: frozenset[str]
    chunks: dict[int, str] = field(default_factory=dict)
    ranges: tuple[str, ...] = ()
    received: int = 0
    finished: Finished | None = None
    total: int | None = None
    length: int | None = None

    @classmethod
    def of(cls, names: frozenset[str]) -> "Arrived":
        """Read the names; for many of them in a thread."""
        arrived = cls(names)
        longest: dict[int, tuple[int, str]] = {}
        for name in sorted(names):
            first, *more, kind = name.split(".") if "." in name else (name, "")
            if kind == "chunk":
                arrived.chunks[int(first)] = name
            elif kind == "range":
                longest[int(first)] = max(longest.get(int(first), (0, "")), (int(more[0]), name))
            elif kind == "finished" and more:
                arrived.finished = Finished(first, int(more[0]) / _MICRO)
            elif kind == "total":
                arrived.total = int(first)
            elif kind == "length":
                arrived.length = int(first)
        arrived.chunks = dict(sorted(arrived.chunks.items()))
        while arrived.received in longest:
            arrived.received, name = longest[arrived.received]
            arrived.ranges += (name,)
        return arrived

    def sent(self, number: int, sha256: str) -> bool:
        """Say whether a chunk of a finished upload had this content."""
        return f"{number}.{sha256}.was" in self.names


class Upload:
    """One upload of one person into one scope."""

    def __init__(self, place: Place, owner: str, scope: str, identifier: str) -> None:
        """Name it by who sends what where."""
        self._place = place
        self.key = hashlib.sha256(f"{owner}\0{scope}\0{identifier}".encode()).hexdigest()[:32]

    async def look(self) -> Arrived:
        """Return what is there."""
        return await in_thread(Arrived.of, await self._place.pieces(self.key))

    async def add_chunk(self, staged: Staged, label: ChunkLabel, arrived: Arrived) -> Arrived:
        """Keep a chunk that came in beside what has arrived; return what is there now.

        Raises:
            Conflict: this chunk came with other content before, or the number of chunks changed.
        """
        _agree(arrived.length, arrived.total, label.total, "chunks")
        if arrived.total is None:
            await self._place.mark(self.key, f"{label.total}.total")
        name = f"{label.number}.{staged.sha256}.chunk"
        if arrived.chunks.get(label.number, name) != name:
            raise Conflict(
                f"Chunk {label.number} was sent before with other content; "
                "give the upload another identifier."
            )
        await self._place.keep_piece(staged, self.key, name)
        return await self.look()

    async def begin_ranges(self, total: int, first: int, arrived: Arrived) -> None:
        """Hold a range to the upload's length and to what has arrived.

        Raises:
            Conflict: the length changed, or the range does not begin where what is there ends.
        """
        _agree(arrived.total, arrived.length, total, "bytes")
        if arrived.length is None:
            await self._place.mark(self.key, f"{total}.length")
        if arrived.received != first:
            raise Conflict(
                f"{arrived.received} bytes of this upload are here; go on with byte "
                f"{arrived.received}, not {first}."
            )

    async def add_range(self, staged: Staged, first: int) -> None:
        """Keep bytes that came in, of which the first has this place in the file."""
        name = f"{first}.{first + staged.size}.{staged.sha256}.range"
        await self._place.keep_piece(staged, self.key, name)

    async def finish(self, file_id: str, now: float) -> None:
        """Write down what this upload became, and let its pieces go."""
        # Rounded up: a token that was given in the same moment is an earlier one.
        await self._place.mark(self.key, f"{file_id}.{int(now * _MICRO) + 1}.finished")
        arrived = await self.look()
        for name in arrived.chunks.values():
            await self._place.mark(self.key, f"{name.removesuffix('chunk')}was")
            await self._place.drop_piece(self.key, name)
        for name in arrived.ranges:
            await self._place.drop_piece(self.key, name)

    async def forget(self) -> None:
        """Remove all of it."""
        await self._place.drop(self.key)


def _agree(other: int | None, said: int | None, count: int, what: str) -> None:
    """Hold an upload to one form and one length: what came first says them.

    Raises:
        Conflict: it was begun otherwise.
    """
    if other is not None:
        raise Conflict("This upload was begun in the other form; give this one another identifier.")
    if said not in (None, count):
        raise Conflict(f"This upload was begun with {said} {what}, not {count}.")


def read_label(fields: dict[str, str], filename: str) -> ChunkLabel:
    """Read which chunk this is from the fields of resumable.js.

    Raises:
        Invalid: a field is missing or wrong; the path says which.
    """
    total = _number(fields, "resumableTotalChunks", 1, MOST_CHUNKS)
    number = _number(fields, "resumableChunkNumber", 1, total)
    name = fields.get("resumableFilename") or filename
    identifier = fields.get("resumableIdentifier") or name
    check_label(identifier, name)
    return ChunkLabel(identifier=identifier, number=number, total=total, filename=name)


def check_label(identifier: str, name: str) -> None:
    """Refuse an upload without an identifier or a name, or with too long ones.

    Raises:
        Invalid: the path says which.
    """
    if not identifier or len(identifier) > _LONGEST:
        raise Invalid(
            f"An upload needs an identifier of at most {_LONGEST} characters.",
            path="$.resumableIdentifier",
        )
    if not name or len(name) > _LONGEST:
        raise Invalid(
            f"A file needs a name of at most {_LONGEST} characters.", path="$.resumableFilename"
        )


async def sweep(place: Place) -> None:
    """Remove uploads in which nothing has happened for a week."""
    for upload, age in (await place.uploads()).items():
        if age > STALE_SECONDS:
            await place.drop(upload)


def _number(fields: dict[str, str], name: str, least: int, most: int) -> int:
    text = fields.get(name, "")
    if (
        not (text.isascii() and text.isdigit())
        or len(text) > len(str(MOST_CHUNKS))
        or not least <= int(text) <= most
    ):
        raise Invalid(f"{name} must be a whole number from {least} to {most}.", path=f"$.{name}")
    return int(text)
