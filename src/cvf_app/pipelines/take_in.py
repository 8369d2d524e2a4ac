"""One data file becomes its subjects: the only entry of this feature into a child process.

Promises: flat memory, however large the file and wherever the rows of one subject stand (they meet
in temporary files beside the target). The target is there whole or not at all: one JSON `Subject`
a line, each id once, in the order of first sight. With several cores pieces of the file are worked
on side by side; what comes of it, and every fault, is the same as with one.
"""

import errno
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from cvf_app.crew import Crew
from cvf_app.errors import Invalid, StorageFull
from cvf_app.files.formats import TABLES, VARIANTS, FileFormat
from cvf_app.ids import SourceId
from cvf_app.pipelines.archive import DAMAGE, Entry, Packed, damaged, entries
from cvf_app.pipelines.attributes import AttributeSchema, Mismatch
from cvf_app.pipelines.called import called
from cvf_app.pipelines.carriers import COUNT
from cvf_app.pipelines.check import check
from cvf_app.pipelines.checking import Checker
from cvf_app.pipelines.content import (
    batches_of,
    check_content,
    rows_of,
    variants_of,
)
from cvf_app.pipelines.expand import Location, location, separator
from cvf_app.pipelines.merge import Types
from cvf_app.pipelines.model import FilePipeline, Refusal, RemapPipeline, Unreadable
from cvf_app.pipelines.objects import Batch, batches
from cvf_app.pipelines.pieces import Cutter
from cvf_app.pipelines.portion import (
    ObjectPiece,
    Order,
    PackedPiece,
    Piece,
    Portion,
    Setting,
    TablePiece,
    WholePiece,
    Work,
    of_chunk,
    pack,
    unpack_portion,
    whole,
    worker,
)
from cvf_app.pipelines.read import Below, Table
from cvf_app.pipelines.remap import MOST_NAMES
from cvf_app.pipelines.rows import Head
from cvf_app.pipelines.spool import Miss, Spool
from cvf_app.wire import Wire, encode

SHOWN_REFUSALS = 100
SHOWN_EXAMPLES = 5
LONGEST_EXAMPLE = 200
SMALLEST_SHARED = 4 * 2**20
HEAD_BYTES = 16 * 2**20
_READ_SHARE = 0.8
_ONE_PERCENT = 0.01
_PACKED_BYTES = 128 * 2**10
_PACKED_ENTRIES = 200


class Reading(Wire, frozen=True, kw_only=True):
    """What is to be read: a file on this disk, what it is, and where its subjects go.

    `refusals` names the file that gets every refusal, a line of JSON each. A file smaller than
    `shared_from` is not worth the start of more processes. With `rows` only the head is read: so
    many rows, or phenopackets, and no more than some MiB.
    """

    path: str
    file_format: FileFormat
    filename: str
    source_id: SourceId
    target: str
    file_pipeline: FilePipeline | None = None
    remap_pipeline: RemapPipeline | None = None
    refusals: str | None = None
    attributes: tuple[AttributeSchema, ...] = ()
    mismatch: Mismatch = "refuse"
    cores: int = 1
    shared_from: int = SMALLEST_SHARED
    rows: int | None = None


class Report(Wire, frozen=True, kw_only=True):
    """What came of a file: rows (or phenopackets) read, subjects written, and what was left out.

    `unmatched` counts per column the cells (or single codes) that gave nothing. `displayNames`
    has the written names of attributes whose key had to be changed. `flagged` counts values that
    are none of their declared attribute and were left out of rows that stayed; a row that is
    refused for several values counts once among `refused` and has a refusal for each.
    """

    rows: int
    subjects: int
    refused: int
    refusals: tuple[Refusal, ...]
    unmatched: dict[str, int]
    unmatched_examples: dict[str, tuple[str, ...]]
    display_names: dict[str, str]
    flagged: int = 0
    flags: tuple[Refusal, ...] = ()


def take_in(task: Reading, progress: Callable[[float], None]) -> Report:
    """Read one data file and write its subjects to the target.

    Raises:
        Unreadable: the content is not what it should be; the sentence says where.
        Invalid: the pipelines do not fit the file.
        StorageFull: there is no room for the subjects.
    """
    target = Path(task.target)
    part = target.with_name(target.name + ".part")
    spool_path = target.with_name(target.name + ".spool")
    try:
        with ExitStack() as stack:
            spool = stack.enter_context(Spool(spool_path))
            intake = Intake(task, spool, progress, stack)
            intake.read()
            count = intake.write(part)
        part.replace(target)
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("There is no room left for the subjects of this file.") from fault
        raise
    except sqlite3.Error as fault:
        if getattr(fault, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StorageFull("There is no room left for the subjects of this file.") from fault
        raise
    finally:
        part.unlink(missing_ok=True)
    progress(1.0)
    return intake.report(count)


class Intake:
    """The two passes over one file: parts into the spool, then whole subjects out of it."""

    def __init__(
        self, task: Reading, spool: Spool, progress: Callable[[float], None], stack: ExitStack
    ) -> None:
        """Read this file into this spool; what is opened meanwhile goes on the stack."""
        self._task = task
        self._spool = spool
        self._progress = progress
        self._size = max(Path(task.path).stat().st_size, 1)
        self._done = 0
        self._told = 0.0
        self._rows = 0
        self._refused = 0
        self._refusals: list[Refusal] = []
        self._refusal_file: BinaryIO | None = None
        if task.refusals is not None:
            self._refusal_file = stack.enter_context(_opened(task.refusals))
        self._unmatched: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}
        self._flagged = 0
        self._flags: list[Refusal] = []
        self._left_out: list[str] = []
        self._at_fault: tuple[int, str | None] | None = None
        self._types: Types | None = None
        self._stack = stack
        self._crew: Crew | None = None
        self._work = Work(Order())

    def read(self) -> None:
        """Read the file into the spool."""
        with Path(self._task.path).open("rb") as file:
            kind = self._task.file_format
            check_content(file, self._task.filename, kind)
            if kind in TABLES:
                self._read_table(file)
            elif kind in VARIANTS:
                self._read_variants(file)
            elif kind == "phenopacket":
                self._begin(None)
                self._read_objects(self._task.filename, batches_of(file, self._advance))
            else:
                self._begin(None)
                self._read_archive()
        self._spool.complete(self._left_out)

    def write(self, part: Path) -> int:
        """Write every subject once; return how many there are."""
        if self._types is None and not self._spool.repeats:
            # Every part is a whole subject already.
            self._spool.become(part)
            return self._spool.count
        count = 0
        with part.open("wb") as out:
            for lines in self.wholes():
                out.write(lines)
                count += lines.count(b"\n")
        return count

    def wholes(self) -> Iterator[bytes]:
        """Yield whole subjects, a line each, many at a time."""
        if not self._spool.repeats:
            self._miss(self._spool.misses())
        done = 0
        kinds = None if self._types is None else self._types.kinds

        def pieces() -> Iterator[WholePiece]:
            nonlocal done
            for chunk in self._spool.chunks():
                self._miss(chunk.misses)
                done += len(chunk.parts)
                yield of_chunk(chunk, kinds, variants=self._task.file_format in VARIANTS)

        for lines in self._whole(pieces()):
            yield lines
            self._tell(_READ_SHARE + (1 - _READ_SHARE) * done / self._spool.size)

    def report(self, subjects: int) -> Report:
        """Say what came of it."""
        return Report(
            rows=self._rows,
            subjects=subjects,
            refused=self._refused,
            refusals=tuple(self._refusals),
            unmatched=self._unmatched,
            unmatched_examples={name: tuple(found) for name, found in self._examples.items()},
            display_names=self._names,
            flagged=self._flagged,
            flags=tuple(self._flags),
        )

    def _begin(self, setting: Setting | None, *, shared: bool = True) -> None:
        """Make ready for the pieces of a file, to be shared with a crew if that is of use."""
        task = self._task
        order = Order(setting=setting, attributes=task.attributes, mismatch=task.mismatch)
        self._work = Work(order)
        if shared and task.cores > 1 and task.rows is None and self._size >= task.shared_from:
            self._crew = self._stack.enter_context(Crew(worker, pack(order), task.cores))

    def _portions(self, pieces: Iterable[Piece]) -> Iterator[Portion]:
        if self._crew is not None:
            return map(unpack_portion, self._crew.map(map(pack, pieces)))
        return map(self._work.portion, pieces)

    def _whole(self, pieces: Iterable[WholePiece]) -> Iterator[bytes]:
        if self._crew is not None:
            return self._crew.map(map(pack, pieces))
        return map(whole, pieces)

    def _read_table(self, file: BinaryIO) -> None:
        task = self._task
        if task.file_pipeline is None or task.remap_pipeline is None:
            raise Invalid(
                "A table needs a file pipeline and a remap pipeline.", path="$.pipelineID"
            )
        pipeline, remap = check(task.file_pipeline), check(task.remap_pipeline)
        self._types = Types()
        table = rows_of(file, task.file_format, pipeline, self._refuse, self._advance)
        setting = Setting(
            file_pipeline=pipeline,
            remap_pipeline=remap,
            source_id=task.source_id,
            filename=task.filename,
            header=table.header,
        )
        cuttable = isinstance(table, Table) and table.reads(file) and _by_column(pipeline)
        self._begin(setting, shared=cuttable)
        if isinstance(table, Table) and self._crew is not None:
            cutter = Cutter(file, table.below.line, self._advance)
            # The first one without rows, so that a missing column is a fault of any file.
            pieces = chain([(cutter.line, b"")], cutter.pieces())
            for portion in self._portions(TablePiece(content=each, line=n) for n, each in pieces):
                self._absorb(portion)
            # What is left are rows that go on for too long.
            table = Table(
                file,
                separator(pipeline),
                refuse=self._refuse,
                advance=self._advance,
                below=Below(table.header, cutter.line),
            )
        rows = table if task.rows is None else Head(table, task.rows, self._enough)
        for portion in self._work.rows_of(rows, self._refuse):
            self._absorb(portion)

    def _read_variants(self, file: BinaryIO) -> None:
        task = self._task
        vcf = variants_of(file, task.file_format, self._advance)

        def enough() -> bool:
            return task.rows is not None and (vcf.read_sites >= task.rows or self._enough())

        checker = Checker(task.attributes, task.mismatch, frozenset({COUNT}))
        for portion in called(vcf, task.filename, checker, enough):
            self._absorb(portion)

    def _read_archive(self) -> None:
        found = entries(Path(self._task.path), self._advance)
        large: list[Entry] = []
        for first in found:
            if self._most() == 0:
                return
            for portion in self._portions(_packed(first, found, large, self._most)):
                self._absorb(portion)
            # Its place in the archive is open only until the next one is asked for.
            for entry in large:
                self._read_objects(entry.name, batches(entry.content, _ignore))
            large.clear()

    def _read_objects(self, name: str, found: Iterator[Batch]) -> None:
        def pieces() -> Iterator[Piece]:
            try:
                for batch in found:
                    most = self._most()
                    if most is None:
                        yield ObjectPiece(name=name, batch=batch)
                        continue
                    yield ObjectPiece(name=name, batch=batch.head(most))
                    if not self._most():
                        return
            except DAMAGE as fault:
                raise damaged(name, fault) from fault

        for portion in self._portions(pieces()):
            self._absorb(portion)

    def _enough(self) -> bool:
        return self._done > HEAD_BYTES

    def _most(self) -> int | None:
        """Return how many rows may still be read, if only the head is."""
        if self._task.rows is None:
            return None
        return 0 if self._enough() else max(self._task.rows - self._rows, 0)

    def _absorb(self, portion: Portion) -> None:
        """Keep what came of a piece; a fault in it comes after all before it."""
        self._rows += portion.rows
        for refusal in portion.refusals:
            self._refuse(refusal)
        for name, written in portion.names.items():
            if len(self._names) < MOST_NAMES:
                self._names.setdefault(name, written)
        if self._types is not None:
            self._types.join(portion.kinds)
        self._spool.add(portion.ids, portion.sizes, portion.bodies, portion.misses)
        self._left_out += portion.left_out
        if portion.fault is not None:
            raise Unreadable(portion.fault)

    def _refuse(self, refusal: Refusal) -> None:
        """Take note of what was left out: a row, once for all its faults, or only a value of it."""
        shown = self._flags if refusal.kept else self._refusals
        place = (refusal.line, refusal.place)
        if refusal.kept:
            self._flagged += 1
        elif refusal.attribute is None or place != self._at_fault:
            self._refused += 1
        self._at_fault = place
        if len(shown) < SHOWN_REFUSALS:
            shown.append(refusal)
        if self._refusal_file is not None:
            self._refusal_file.write(encode(refusal) + b"\n")

    def _miss(self, misses: Iterable[Miss]) -> None:
        for origin, cell in misses:
            self._unmatched[origin] = self._unmatched.get(origin, 0) + 1
            examples = self._examples.setdefault(origin, [])
            shown = cell[:LONGEST_EXAMPLE]
            if len(examples) < SHOWN_EXAMPLES and shown not in examples:
                examples.append(shown)

    def _advance(self, size: int) -> None:
        self._done += size
        self._tell(_READ_SHARE * self._done / self._size)

    def _tell(self, share: float) -> None:
        if share - self._told >= _ONE_PERCENT:
            self._told = min(share, 1.0)
            self._progress(self._told)


def _by_column(pipeline: FilePipeline) -> bool:
    """Say whether a row says whose it is; elsewhere rows are counted over the whole file."""
    return location(pipeline) is Location.COLUMN


def _packed(
    first: Entry | Packed,
    more: Iterator[Entry | Packed],
    large: list[Entry],
    most: Callable[[], int | None],
) -> Iterator[Piece]:
    """Yield pieces of small files until a large one comes, which is put aside, or enough did."""
    held: list[Packed] = []
    size = 0
    for entry in chain([first], more):
        if isinstance(entry, Entry):
            large.append(entry)
            break
        held.append(entry)
        size += len(entry.data)
        left = most()
        if size >= _PACKED_BYTES or len(held) >= _PACKED_ENTRIES or left is not None:
            yield PackedPiece(entries=held, most=left)
            held, size = [], 0
            if most() == 0:
                break
    if held:
        yield PackedPiece(entries=held)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    with Path(path).open("wb") as file:
        yield file


def _ignore(_: int) -> None:
    """Hear of progress that is counted elsewhere."""
