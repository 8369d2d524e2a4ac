"""Parts of subjects on disk, until all parts of each subject are there.

Two files with nothing to lose: the parts one after another, a line each, and an SQLite file that
knows whose part stands where. They are made anew, never synchronised, and removed in the end.
Memory stays flat: pages are cached to a bound, and of the parts nothing is kept.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

import msgspec

_SETTINGS = (
    "PRAGMA journal_mode=OFF",
    "PRAGMA synchronous=OFF",
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA cache_size=-8000",
    "PRAGMA temp_store=FILE",
)
_BUFFER = 1 << 20
_CHUNK_BYTES = 512 * 2**10
_CHUNK_SUBJECTS = 2000
Miss = tuple[str, str]
_MISSES = msgspec.json.Decoder(tuple[Miss, ...])


class Chunk(NamedTuple):
    """Some subjects in order: the bytes of their parts, and how many parts each has.

    Without `counts` every part is a whole subject. `misses` is what gave nothing, once a subject.
    """

    parts: bytes
    counts: tuple[int, ...] | None
    misses: tuple[Miss, ...]


class Spool:
    """Parts, each with the id of its subject and what gave nothing."""

    def __init__(self, path: Path | None) -> None:
        """Begin an empty spool in place of what a broken run may have left.

        Without a path it is a small one, in memory and in a file without a name.
        """
        self._path = path
        self._file: IO[bytes]
        if path is None:
            # It is closed by `__exit__`, like one with a name.
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - see above
            self._base = sqlite3.connect(":memory:", isolation_level=None)
        else:
            self._remove()
            self._file = path.open("w+b", buffering=_BUFFER)
            self._base = sqlite3.connect(_index(path), isolation_level=None)
        for setting in _SETTINGS:
            self._base.execute(setting)
        self._base.execute(
            "CREATE TABLE part (n INTEGER PRIMARY KEY, subject TEXT, place INTEGER,"
            " size INTEGER, misses BLOB)"
        )
        self._place = 0
        self.repeats = False
        self.count = 0

    def __enter__(self) -> Self:
        """Return the spool itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the files."""
        self._base.close()
        try:
            self._file.close()
        finally:
            self._remove()

    def add(
        self, ids: Sequence[str], sizes: Sequence[int], bodies: bytes, misses: dict[int, bytes]
    ) -> None:
        """Keep some parts: their lines one after another, and how long each is."""
        self._file.write(bodies)
        rows = []
        place = self._place
        for number, (subject, size) in enumerate(zip(ids, sizes, strict=True)):
            rows.append((subject, place, size, misses.get(number)))
            place += size
        self._base.execute("BEGIN")
        self._base.executemany(
            "INSERT INTO part (subject, place, size, misses) VALUES (?, ?, ?, ?)", rows
        )
        self._base.execute("COMMIT")
        self._place = place
        self.count += len(rows)

    def complete(self, without: Iterable[str] = ()) -> None:
        """Take note that there are no more parts, and of whether any id repeats.

        All parts of the subjects in `without` are left out.
        """
        self._file.flush()
        self._base.execute("CREATE INDEX part_of ON part (subject)")
        self._base.execute("BEGIN")
        self._base.executemany("DELETE FROM part WHERE subject = ?", ((one,) for one in without))
        self._base.execute("COMMIT")
        found = self._base.execute("SELECT count(DISTINCT subject) FROM part").fetchone()
        # What was left out is still in the file, which then has to be read by the index too.
        self.repeats = found[0] < self.count

    @property
    def size(self) -> int:
        """How many bytes the parts have."""
        return self._place

    def become(self, target: Path) -> None:
        """Let the file of parts be the target."""
        if self._path is None:
            raise TypeError("a spool without a name cannot become a file")
        self._path.replace(target)

    def misses(self) -> Iterator[Miss]:
        """Yield what gave nothing, once a subject, while no id repeats."""
        rows = self._base.execute("SELECT misses FROM part WHERE misses IS NOT NULL ORDER BY n")
        for (misses,) in rows:
            yield from dict.fromkeys(_MISSES.decode(misses))

    def chunks(self) -> Iterator[Chunk]:
        """Yield all subjects in the order of first sight, many at a time."""
        return self._met() if self.repeats else self._single()

    def _single(self) -> Iterator[Chunk]:
        self._file.seek(0)
        while found := self._file.read(_CHUNK_BYTES):
            yield Chunk(found + self._file.readline(), None, ())

    def _met(self) -> Iterator[Chunk]:
        # Whose part comes first is decided by the index; only that order is sorted, on disk.
        rows = self._base.execute(
            "SELECT first, place, size, misses FROM part"
            " JOIN (SELECT subject AS whose, min(n) AS first FROM part GROUP BY subject)"
            " ON subject = whose ORDER BY first, n"
        )
        counts: list[int] = []
        parts: list[bytes] = []
        misses: list[Miss] = []
        size = 0
        for _, group in groupby(rows, key=lambda row: row[0]):
            count = 0
            found: dict[Miss, None] = {}
            for _, place, length, missed in group:
                parts.append(os.pread(self._file.fileno(), length, place))
                size += length
                count += 1
                if missed:
                    found.update(dict.fromkeys(_MISSES.decode(missed)))
            counts.append(count)
            misses.extend(found)
            if size >= _CHUNK_BYTES or len(counts) >= _CHUNK_SUBJECTS:
                yield Chunk(b"".join(parts), tuple(counts), tuple(misses))
                counts, parts, misses, size = [], [], [], 0
        if counts:
            yield Chunk(b"".join(parts), tuple(counts), tuple(misses))

    def _remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            _index(self._path).unlink(missing_ok=True)


def _index(path: Path) -> Path:
    return path.with_name(path.name + ".index")
