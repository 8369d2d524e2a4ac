"""From files of subjects to a generation's folder; runs in a child process of its own.

Promises: memory does not grow with the number of subjects. Subjects of equal id from several
files become one, in the order of the files. A generation that grows out of an old one answers as
if it had been built anew.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import compress, groupby, islice
from pathlib import Path

import msgspec

from cvf_app.engine.append import append
from cvf_app.engine.build import build
from cvf_app.engine.marks import Marks, among, unpacked
from cvf_app.engine.segments import Generation
from cvf_app.errors import StorageFull
from cvf_app.files.place import room
from cvf_app.pipelines.merge import merge
from cvf_app.sources.batches import NAMED, marks_of
from cvf_app.sources.index import bounded
from cvf_app.subject import Subject
from cvf_app.wire import Wire

_SORTED_AT_ONCE = 1000
_SUBJECT = msgspec.json.Decoder(Subject)


class Building(Wire, frozen=True, kw_only=True):
    """What to build: files of subjects (a JSON document a line), and where it goes.

    With `old` it grows out of that generation: only subjects whose marks stand in the file
    `touched` (`engine/marks.py`, ascending) are taken from the inputs, which hold all their parts.
    """

    inputs: tuple[str, ...]
    spill: str
    folder: str
    expected: int
    old: str | None = None
    touched: str | None = None


class Built(Wire, frozen=True, kw_only=True):
    """What was built, in outline."""

    count: int
    capability: tuple[str, ...]
    attributes: dict[str, tuple[str, ...]]


def build_generation(task: Building, progress: Callable[[float], None]) -> Built:
    """Write a generation and return its outline.

    Raises:
        StorageFull: there is no room for it.
    """
    try:
        with room():
            return _build(task, progress)
    except sqlite3.Error as fault:
        if getattr(fault, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StorageFull("There is no room left on the disk; nothing was kept.") from fault
        raise


def _build(task: Building, progress: Callable[[float], None]) -> Built:
    folder = Path(task.folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    paths = [Path(name) for name in task.inputs]

    def told(done: int) -> None:
        progress(min(1.0, done / max(1, task.expected)))

    touched = None if task.touched is None else unpacked(Path(task.touched).read_bytes())
    # Ids are unique within one file, so that only several files need sorting.
    subjects = (
        _read(paths[0], touched) if len(paths) == 1 else joined(paths, Path(task.spill), touched)
    )
    if task.old is not None and touched is not None:
        count = append(Path(task.old), folder, subjects, touched, progress=told)
    else:
        count = build(subjects, folder, progress=told)
    generation = Generation.open(folder)
    try:
        return Built(
            count=count,
            capability=tuple(sorted(generation.capability_keys)),
            attributes=bounded(generation.attributes()),
        )
    finally:
        generation.close()


def joined(paths: Iterable[Path], spill: Path, touched: Marks | None = None) -> Iterator[Subject]:
    """Yield the subjects of several files, each id once; `spill` is used meanwhile."""
    spill.unlink(missing_ok=True)
    with closing(sqlite3.connect(spill)) as table:
        # The file is of no use after a crash, so nothing is spent on making it durable.
        for setting in (
            "journal_mode=OFF",
            "synchronous=OFF",
            "cache_size=-8000",
            "temp_store=FILE",
        ):
            table.execute(f"PRAGMA {setting}")
        table.execute(
            "CREATE TABLE part (id TEXT, rank INTEGER, document BLOB,"
            " PRIMARY KEY (id, rank)) WITHOUT ROWID"
        )
        for rank, path in enumerate(paths):
            rows = ((NAMED.decode(line).subject_id, rank, line) for line in _lines(path, touched))
            table.executemany("INSERT INTO part VALUES (?, ?, ?)", rows)
        found = table.execute("SELECT id, document FROM part ORDER BY id, rank")
        found.arraysize = _SORTED_AT_ONCE
        for _, parts in groupby(found, key=lambda row: row[0]):
            yield merge([_SUBJECT.decode(document) for _, document in parts])
    spill.unlink(missing_ok=True)


def _read(path: Path, touched: Marks | None) -> Iterator[Subject]:
    for line in _lines(path, touched):
        yield _SUBJECT.decode(line)


def _lines(path: Path, touched: Marks | None) -> Iterator[bytes]:
    """Yield the lines of a file, or of its touched subjects only."""
    with path.open("rb") as file:
        if touched is None:
            yield from file
            return
        while lines := list(islice(file, _SORTED_AT_ONCE)):
            wanted = among(unpacked(marks_of(lines)), touched)
            yield from compress(lines, wanted.tolist())
