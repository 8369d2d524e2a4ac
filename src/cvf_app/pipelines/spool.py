"""Parts of subjects on disk, until all parts of each subject are there.

An SQLite file with nothing to lose: it is made anew, never synchronised, and removed in the end.
Memory stays flat: pages are cached to a bound, and parts are read back one subject at a time.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from cvf_app.subject import Subject

_BATCH = 500
_SETTINGS = (
    "PRAGMA journal_mode=OFF",
    "PRAGMA synchronous=OFF",
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA cache_size=-8000",
)
Miss = tuple[str, str]
_MISSES = msgspec.json.Decoder(tuple[Miss, ...])
_SUBJECT = msgspec.json.Decoder(Subject)


class Spool:
    """Parts, each with the id of its subject and what gave nothing."""

    def __init__(self, path: Path) -> None:
        """Begin an empty spool in place of what a broken run may have left."""
        self._path = path
        path.unlink(missing_ok=True)
        self._base = sqlite3.connect(path, isolation_level=None)
        for setting in _SETTINGS:
            self._base.execute(setting)
        self._base.execute(
            "CREATE TABLE part (n INTEGER PRIMARY KEY, subject TEXT, body BLOB, misses BLOB)"
        )
        self._waiting: list[tuple[str, bytes, bytes | None]] = []
        self._repeats = False
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
        """Remove the file."""
        self._base.close()
        self._path.unlink(missing_ok=True)

    def add(self, subject: str, body: bytes, misses: Sequence[Miss]) -> None:
        """Keep one part."""
        self._waiting.append((subject, body, msgspec.json.encode(misses) if misses else None))
        self.count += 1
        if len(self._waiting) >= _BATCH:
            self._flush()

    def complete(self) -> None:
        """Take note that there are no more parts, and of whether any id repeats."""
        self._flush()
        self._base.execute("CREATE INDEX part_of ON part (subject)")
        found = self._base.execute("SELECT count(DISTINCT subject) FROM part").fetchone()
        self._repeats = found[0] < self.count

    def subjects(self) -> Iterator[tuple[list[bytes], list[Miss]]]:
        """Yield the parts of each subject together, in the order of first sight."""
        rows = self._base.execute("SELECT n, subject, body, misses FROM part ORDER BY n")
        for number, subject, body, misses in rows:
            if not self._repeats:
                yield [body], list(_MISSES.decode(misses)) if misses else []
                continue
            earlier = self._base.execute(
                "SELECT 1 FROM part WHERE subject = ? AND n < ? LIMIT 1", (subject, number)
            )
            if earlier.fetchone() is None:
                yield self._all_of(subject)

    @staticmethod
    def decode(body: bytes) -> Subject:
        """Read a part back."""
        return _SUBJECT.decode(body)

    def _all_of(self, subject: str) -> tuple[list[bytes], list[Miss]]:
        bodies: list[bytes] = []
        found: list[Miss] = []
        parts = self._base.execute(
            "SELECT body, misses FROM part WHERE subject = ? ORDER BY n", (subject,)
        )
        for body, misses in parts:
            bodies.append(body)
            if misses:
                found.extend(_MISSES.decode(misses))
        return bodies, found

    def _flush(self) -> None:
        if self._waiting:
            self._base.execute("BEGIN")
            self._base.executemany(
                "INSERT INTO part (subject, body, misses) VALUES (?, ?, ?)", self._waiting
            )
            self._base.execute("COMMIT")
            self._waiting.clear()
