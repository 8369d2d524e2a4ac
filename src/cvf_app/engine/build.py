"""Writing a generation from a stream of subjects, in memory that does not grow with their number.

Documents and ids go straight to their files. Postings are gathered for some thousands
of subjects, written sorted as a *run*, and all runs of a segment are merged key by key.
A generation is made in a temporary folder beside its place and appears there at once,
by a rename, after everything has reached the disk.
"""

import heapq
import itertools
import os
import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec
import numpy as np
from pyroaring import BitMap

from cvf_app.engine.columns import ColumnWriter
from cvf_app.engine.gathered import VARIANT_RECORD, Gathered, numbers_of
from cvf_app.engine.keys import Kind
from cvf_app.subject import Subject
from cvf_app.wire import Wire, encode

RUN_SUBJECTS = 20_000
SEGMENT_SUBJECTS = 1_000_000
FORMAT = 2
_RECORD = struct.Struct("<II")
_ENTRY = struct.Struct("<QQQ")
_END = struct.Struct("<Q")
_BUFFER = 1 << 16


class SegmentEntry(Wire, frozen=True, kw_only=True):
    """One segment in the manifest; `dead` names the file of rows that no longer count."""

    folder: str
    count: int
    dead: str | None = None


class Manifest(Wire, frozen=True, kw_only=True):
    """What a generation's folder holds."""

    format: int
    segments: tuple[SegmentEntry, ...]


def build(
    subjects: Iterable[Subject],
    folder: Path,
    *,
    progress: Callable[[int], None] | None = None,
    run_subjects: int = RUN_SUBJECTS,
    segment_subjects: int = SEGMENT_SUBJECTS,
) -> int:
    """Write a whole generation to `folder`, replacing one that is there, and count its subjects.

    Args:
        subjects: the subjects, with ids already unique.
        folder: where the generation appears, whole, at the end.
        progress: told now and then how many subjects have been read.
        run_subjects: how many subjects are held in memory.
        segment_subjects: how many subjects one segment has at most.
    """
    with Draft(folder) as draft:
        entries, total = write_segments(
            subjects,
            draft.folder,
            progress=progress,
            run_subjects=run_subjects,
            segment_subjects=segment_subjects,
        )
        draft.finish(Manifest(format=FORMAT, segments=entries))
    return total


def write_segments(  # noqa: PLR0913 - sizes are named
    subjects: Iterable[Subject],
    folder: Path,
    *,
    progress: Callable[[int], None] | None = None,
    run_subjects: int = RUN_SUBJECTS,
    segment_subjects: int = SEGMENT_SUBJECTS,
    first: int = 0,
) -> tuple[tuple[SegmentEntry, ...], int]:
    """Write subjects as segments into a folder, numbered from `first`."""
    entries: list[SegmentEntry] = []
    total = 0
    stream = iter(subjects)
    for subject in stream:
        name = str(first + len(entries))
        with SegmentWriter(folder / name, run_subjects) as writer:
            for one in itertools.chain((subject,), itertools.islice(stream, segment_subjects - 1)):
                writer.add(one)
                total += 1
                if progress is not None and total % 1000 == 0:
                    progress(total)
            entries.append(SegmentEntry(folder=name, count=writer.finish()))
    if progress is not None:
        progress(total)
    return tuple(entries), total


class Draft:
    """A temporary folder beside a generation's place, which takes that place when finished."""

    def __init__(self, target: Path) -> None:
        """Make the temporary folder."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._target = target
        made = tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)
        self.folder = Path(made)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave nothing behind if the generation was not finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, bring everything to the disk, and take the place."""
        (self.folder / "manifest.json").write_bytes(encode(manifest))
        for path in (*self.folder.rglob("*"), self.folder):
            _sync(path)
        # A folder cannot be renamed over one that holds files, so the old one steps aside first.
        aside = self.folder.with_name(self.folder.name + ".old")
        if self._target.exists():
            self._target.rename(aside)
        self.folder.rename(self._target)
        _sync(self._target.parent)
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class SegmentWriter:
    """Takes the subjects of one segment, in row order, and writes its files."""

    def __init__(self, folder: Path, run_subjects: int) -> None:
        """Open the files that grow with every subject."""
        folder.mkdir()
        self._folder = folder
        self._run_subjects = run_subjects
        self._gathered = Gathered()
        self._runs: list[Path] = []
        self._count = 0
        self._documents = _Texts(folder, "documents")
        self._ids = _Texts(folder, "ids")
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the files, also when the stream of subjects failed."""
        self._documents.close()
        self._ids.close()

    def add(self, subject: Subject) -> None:
        """Take one more subject."""
        self._documents.add(self._encoder.encode(subject))
        self._ids.add(subject.subject_id.encode())
        self._gathered.index(subject, self._count)
        self._count += 1
        if self._count % self._run_subjects == 0:
            self._write_run()

    def finish(self) -> int:
        """Merge the runs into the segment's files and return the number of subjects."""
        self._write_run()
        self._documents.close()
        self._ids.close()
        with _Tables(self._folder) as tables:
            runs = [_read_run(path) for path in self._runs]
            merged = heapq.merge(*runs, key=itemgetter(0))
            for name, records in itertools.groupby(merged, key=itemgetter(0)):
                # heapq.merge keeps equal keys in the order of the runs, so rows stay ascending.
                tables.add(name, [payload for _, payload in records])
        for path in self._runs:
            path.unlink()
        return self._count

    def _write_run(self) -> None:
        path = self._folder / f"run-{len(self._runs)}"
        with path.open("wb", buffering=_BUFFER) as file:
            for name, payload in self._gathered.records():
                file.write(_RECORD.pack(len(name), len(payload)))
                file.write(name)
                file.write(payload)
        self._runs.append(path)
        self._gathered = Gathered()


def _read_run(path: Path) -> Iterator[tuple[bytes, bytes]]:
    with path.open("rb", buffering=_BUFFER) as file:
        while head := file.read(_RECORD.size):
            name, payload = _RECORD.unpack(head)
            yield file.read(name), file.read(payload)


class _Texts:
    """Texts one after another in a file, and where each ends in a second."""

    def __init__(self, folder: Path, name: str) -> None:
        self._text = (folder / f"{name}.bin").open("wb", buffering=_BUFFER)
        self._ends = (folder / f"{name}.ends").open("wb", buffering=_BUFFER)
        self._end = 0

    def add(self, text: bytes) -> None:
        self._text.write(text)
        self._end += len(text)
        self._ends.write(_END.pack(self._end))

    def close(self) -> None:
        self._text.close()
        self._ends.close()


class _Tables:
    """The sorted table of keys and the arrays that it points into."""

    FILES = ("keys", "index", "postings", "afs", "variant_rows", "acs")

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, BinaryIO] = {
            name: (folder / f"{name}.bin").open("wb", buffering=_BUFFER) for name in self.FILES
        }
        self._columns = ColumnWriter(folder)
        self._key_end = 0
        self._posted = 0
        self._varied = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._columns.close()
        for file in self._files.values():
            file.close()

    def add(self, name: bytes, payloads: list[bytes]) -> None:
        match Kind(name[:1]):
            case Kind.AGES | Kind.NUMBERS:
                start, size = self._columns.add([numbers_of(one) for one in payloads])
            case Kind.VARIANTS:
                start, size = self._variants(payloads)
            case _:
                start, size = self._posting(payloads)
        self._files["keys"].write(name)
        self._key_end += len(name)
        self._files["index"].write(_ENTRY.pack(self._key_end, start, size))

    def _posting(self, payloads: list[bytes]) -> tuple[int, int]:
        bitmap = BitMap(array("I", b"".join(payloads)))
        bitmap.run_optimize()
        written = bitmap.serialize()
        start = self._posted
        self._files["postings"].write(written)
        self._posted += len(written)
        return start, len(written)

    def _variants(self, payloads: list[bytes]) -> tuple[int, int]:
        entries = np.frombuffer(b"".join(payloads), VARIANT_RECORD)
        # Unknown frequencies are NaN, which sorts behind every number.
        entries = entries[np.argsort(entries["af"], kind="stable")]
        self._files["afs"].write(entries["af"].tobytes())
        self._files["variant_rows"].write(entries["row"].tobytes())
        self._files["acs"].write(entries["ac"].tobytes())
        start = self._varied
        self._varied += len(entries)
        return start, len(entries)
