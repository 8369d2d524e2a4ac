"""One data file becomes its subjects: the only entry of this feature into a child process.

Promises: flat memory, however large the file and wherever the rows of one subject stand (they meet
in a temporary SQLite file beside the target). The target is there whole or not at all: one JSON
`Subject` a line, each id once, in the order of first sight.
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cvf_app.errors import Invalid, StorageFull
from cvf_app.files.formats import TABLES, VARIANTS, FileFormat
from cvf_app.ids import SourceId
from cvf_app.pipelines.archive import DAMAGE, damaged, entries
from cvf_app.pipelines.carriers import joined
from cvf_app.pipelines.check import check
from cvf_app.pipelines.content import (
    check_content,
    documents_of,
    rows_of,
    subjects_of,
    variants_of,
)
from cvf_app.pipelines.demographics import settle
from cvf_app.pipelines.expand import Origin, stage
from cvf_app.pipelines.merge import Types, merge
from cvf_app.pipelines.model import FilePipeline, Refusal, RemapPipeline, Unreadable
from cvf_app.pipelines.objects import objects
from cvf_app.pipelines.phenopacket import read_phenopacket
from cvf_app.pipelines.remap import Remap
from cvf_app.pipelines.spool import Spool
from cvf_app.wire import Wire, encode

SHOWN_REFUSALS = 100
SHOWN_EXAMPLES = 5
_READ_SHARE = 0.7
_ONE_PERCENT = 0.01


class Reading(Wire, frozen=True, kw_only=True):
    """What is to be read: a file on this disk, what it is, and where its subjects go.

    Every refusal is written to the file `refusals`, if there is to be one, as a JSON line.
    """

    path: str
    file_format: FileFormat
    filename: str
    source_id: SourceId
    target: str
    file_pipeline: FilePipeline | None = None
    remap_pipeline: RemapPipeline | None = None
    refusals: str | None = None


class Report(Wire, frozen=True, kw_only=True):
    """What came of a file: rows (or phenopackets) read, subjects written, and what was left out.

    `unmatched` counts per column the cells (or single codes) that gave nothing. `displayNames`
    has the written names of attributes whose key had to be changed.
    """

    rows: int
    subjects: int
    refused: int
    refusals: tuple[Refusal, ...]
    unmatched: dict[str, int]
    unmatched_examples: dict[str, tuple[str, ...]]
    display_names: dict[str, str]


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
        with Spool(spool_path) as spool, Path(task.refusals or os.devnull).open("wb") as refused:
            intake = _Intake(task, spool, progress, refused)
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


class _Intake:
    """The two passes over one file: parts into the spool, then whole subjects out of it."""

    def __init__(
        self, task: Reading, spool: Spool, progress: Callable[[float], None], refused: BinaryIO
    ) -> None:
        self._task = task
        self._refused_lines = refused
        self._spool = spool
        self._progress = progress
        self._size = max(Path(task.path).stat().st_size, 1)
        self._done = 0
        self._told = 0.0
        self._rows = 0
        self._refused = 0
        self._refusals: list[Refusal] = []
        self._unmatched: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}
        self._types: Types | None = None

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
                self._read_objects(self._task.filename, documents_of(file, self._advance))
            else:
                for entry in entries(Path(self._task.path), self._advance):
                    try:
                        self._read_objects(entry.name, objects(entry.content, _ignore))
                    except DAMAGE as fault:
                        raise damaged(entry.name, fault) from fault
        self._spool.complete()

    def write(self, part: Path) -> int:
        """Write every subject once; return how many there are."""
        total = max(self._spool.count, 1)
        count = done = 0
        with part.open("wb") as out:
            for bodies, misses in self._spool.subjects():
                done += len(bodies)
                out.write(self._whole(bodies))
                out.write(b"\n")
                count += 1
                for origin, cell in dict.fromkeys(misses):
                    self._miss(origin, cell)
                self._tell(_READ_SHARE + (1 - _READ_SHARE) * done / total)
            out.flush()
        return count

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
        )

    def _whole(self, bodies: list[bytes]) -> bytes:
        if self._types is None and len(bodies) == 1:
            return bodies[0]
        parts = [self._spool.decode(body) for body in bodies]
        if self._task.file_format in VARIANTS:
            return encode(joined(parts))
        whole = merge(parts)
        return encode(whole if self._types is None else settle(self._types.typed(whole)))

    def _read_table(self, file: BinaryIO) -> None:
        task = self._task
        if task.file_pipeline is None or task.remap_pipeline is None:
            raise Invalid(
                "A table needs a file pipeline and a remap pipeline.", path="$.pipelineID"
            )
        pipeline = check(task.file_pipeline)
        remap = Remap(check(task.remap_pipeline))
        types = self._types = Types()
        table = rows_of(file, task.file_format, pipeline, self._refuse, self._advance)
        staged_rows = stage(table, pipeline, Origin(task.source_id, task.filename), self._refuse)
        for staged in staged_rows:
            subject, unmatched = remap.part(staged)
            types.see(subject.eav)
            self._spool.add(subject.subject_id, encode(subject), unmatched)
        self._rows = table.read_rows
        self._names = remap.display_names

    def _read_variants(self, file: BinaryIO) -> None:
        vcf = variants_of(file, self._task.file_format, self._advance)
        for part in subjects_of(vcf, self._task.filename):
            self._spool.add(part.subject_id, encode(part), ())
        self._rows = vcf.read_sites

    def _read_objects(self, name: str, found: Iterator[tuple[str, bytes]]) -> None:
        cohort = PurePosixPath(name).parent.name
        for where, data in found:
            self._rows += 1
            try:
                subject, names = read_phenopacket(data, cohort)
            except Unreadable as fault:
                place = f"{name}, {where}" if where else name
                raise Unreadable(f"{place}: {fault.sentence}") from fault
            self._names.update(names)
            self._spool.add(subject.subject_id, encode(subject), ())

    def _refuse(self, refusal: Refusal) -> None:
        self._refused += 1
        self._refused_lines.write(encode(refusal) + b"\n")
        if len(self._refusals) < SHOWN_REFUSALS:
            self._refusals.append(refusal)

    def _miss(self, origin: str, cell: str) -> None:
        self._unmatched[origin] = self._unmatched.get(origin, 0) + 1
        examples = self._examples.setdefault(origin, [])
        if len(examples) < SHOWN_EXAMPLES and cell not in examples:
            examples.append(cell[:200])

    def _advance(self, size: int) -> None:
        self._done += size
        self._tell(_READ_SHARE * self._done / self._size)

    def _tell(self, share: float) -> None:
        if share - self._told >= _ONE_PERCENT:
            self._told = min(share, 1.0)
            self._progress(self._told)


def _ignore(_: int) -> None:
    """Hear of progress that is counted elsewhere."""
