"""The chunks of uploads that are under way, each in a folder of its own; the disk is the state.

Promises: chunks may come in any order, more than once and in several processes at once; after a
crash what was acknowledged is still there. A chunk that was sent before with other content is a
`Conflict`. What a client calls its upload is hashed and never becomes part of a path. The
methods wait for the disk: call them in a thread.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from cvf_app.errors import Conflict, Invalid
from cvf_app.files.model import ChunkLabel
from cvf_app.files.place import Place, room, settle
from cvf_app.ids import new_id

MOST_CHUNKS = 100_000
STALE_SECONDS = 7 * 24 * 3600
_LONGEST = 1024


@dataclass(frozen=True)
class Finished:
    """A finished upload: the id of the file that it became, and when."""

    file_id: str
    at: float


class Upload:
    """One upload of one person into one scope."""

    def __init__(self, place: Place, owner: str, scope: str, identifier: str) -> None:
        """Name the folder by who sends what where."""
        named = hashlib.sha256(f"{owner}\0{scope}\0{identifier}".encode()).hexdigest()
        self._place = place
        self.key = named[:32]
        self._folder = place.folder("uploads", self.key)

    def temporary(self) -> Path:
        """Return a fresh name for a chunk that is coming in."""
        return self._folder / f"{new_id()}.in"

    def chunks(self) -> dict[int, Path]:
        """Return the chunks that are here, in order."""
        found = {int(path.name.partition(".")[0]): path for path in self._folder.glob("*.chunk")}
        return dict(sorted(found.items()))

    def finished(self) -> Finished | None:
        """Return what this upload became, or nothing while it is under way."""
        try:
            file_id, _, at = (self._folder / "finished").read_text().partition(" ")
        except FileNotFoundError:
            return None
        return Finished(file_id, float(at))

    def sent(self, number: int, sha256: str) -> bool:
        """Say whether a chunk of a finished upload had this content."""
        return (self._folder / f"{number}.{sha256}.was").is_file()

    def add(self, incoming: Path, label: ChunkLabel, sha256: str) -> bool:
        """Keep a chunk that came in, and say whether all are here now.

        Raises:
            Conflict: this chunk came with other content before, or the number of chunks changed.
        """
        self._agree(label.total)
        target = self._folder / f"{label.number}.{sha256}.chunk"
        for path in self._folder.glob(f"{label.number}.*.chunk"):
            if path != target:
                raise Conflict(
                    f"Chunk {label.number} was sent before with other content; "
                    "give the upload another identifier."
                )
        settle(incoming, target)
        return len(self.chunks()) == label.total

    def finish(self, file_id: str, now: float) -> None:
        """Write down what this upload became, and let its chunks go."""
        partial = self.temporary()
        with room():
            partial.write_text(f"{file_id} {now}")
        settle(partial, self._folder / "finished")
        for path in self._folder.glob("*.chunk"):
            path.with_suffix(".was").touch()
            path.unlink()

    def forget(self) -> None:
        """Remove all of it."""
        self._place.clear(self._folder)

    def _agree(self, total: int) -> None:
        """Hold all chunks of an upload to one total: the first that came says it."""
        with room():
            self._folder.mkdir(parents=True, exist_ok=True)
            said = [int(path.suffix[1:]) for path in self._folder.glob("total.*")]
            if not said:
                (self._folder / f"total.{total}").touch()
            elif said != [total]:
                raise Conflict(f"This upload was begun with {said[0]} chunks, not {total}.")


def read_label(fields: dict[str, str], filename: str) -> ChunkLabel:
    """Read which chunk this is from the fields of resumable.js.

    Raises:
        Invalid: a field is missing or wrong; the path says which.
    """
    total = _number(fields, "resumableTotalChunks", 1, MOST_CHUNKS)
    number = _number(fields, "resumableChunkNumber", 1, total)
    name = fields.get("resumableFilename") or filename
    identifier = fields.get("resumableIdentifier") or name
    if not identifier or len(identifier) > _LONGEST:
        raise Invalid(
            f"An upload needs an identifier of at most {_LONGEST} characters.",
            path="$.resumableIdentifier",
        )
    if not name or len(name) > _LONGEST:
        raise Invalid(
            f"A file needs a name of at most {_LONGEST} characters.", path="$.resumableFilename"
        )
    return ChunkLabel(identifier=identifier, number=number, total=total, filename=name)


def sweep(place: Place) -> None:
    """Remove uploads in which nothing has happened for a week."""
    oldest = time.time() - STALE_SECONDS
    for folder in place.folder("uploads").glob("*"):
        if folder.stat().st_mtime < oldest:
            place.clear(folder)


def _number(fields: dict[str, str], name: str, least: int, most: int) -> int:
    text = fields.get(name, "")
    if (
        not (text.isascii() and text.isdigit())
        or len(text) > len(str(MOST_CHUNKS))
        or not least <= int(text) <= most
    ):
        raise Invalid(f"{name} must be a whole number from {least} to {most}.", path=f"$.{name}")
    return int(text)
