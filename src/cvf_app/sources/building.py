"""From files of subjects to a generation's folder; runs in a child process of its own.

Promises: memory does not grow with the number of subjects. Subjects of equal id from several
files become one, in the order of the files.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path

from cvf_app.engine.build import build
from cvf_app.engine.segments import Generation
from cvf_app.errors import StorageFull
from cvf_app.files.place import room
from cvf_app.pipelines.merge import merge
from cvf_app.sources.index import bounded
from cvf_app.subject import Subject
from cvf_app.wire import Wire, decode

_SORTED_AT_ONCE = 1000


class Building(Wire, frozen=True, kw_only=True):
    """What to build: files of subjects (a JSON document a line), and where it goes."""

    inputs: tuple[str, ...]
    spill: str
    folder: str
    expected: int


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

    # Ids are unique within one file, so that only several files need sorting.
    subjects = _read(paths[0]) if len(paths) == 1 else joined(paths, Path(task.spill))
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


def joined(paths: Iterable[Path], spill: Path) -> Iterator[Subject]:
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
            with path.open("rb") as lines:
                rows = ((decode(line, _Named).subject_id, rank, line) for line in lines)
                table.executemany("INSERT INTO part VALUES (?, ?, ?)", rows)
        found = table.execute("SELECT id, document FROM part ORDER BY id, rank")
        found.arraysize = _SORTED_AT_ONCE
        for _, parts in groupby(found, key=lambda row: row[0]):
            yield merge([decode(document, Subject) for _, document in parts])
    spill.unlink(missing_ok=True)


class _Named(Wire, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The one field that sorting needs."""

    subject_id: str


def _read(path: Path) -> Iterator[Subject]:
    with path.open("rb") as lines:
        for line in lines:
            yield decode(line, Subject)
