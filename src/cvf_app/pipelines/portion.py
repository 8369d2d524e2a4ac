"""A piece of a data file becomes parts of subjects, in a member of a crew or the reader itself.

Pure. What comes of a piece does not depend on the pieces before it, so that many may be worked on
side by side and put together in order. A fault ends a piece and is told with all that came before.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import PurePosixPath

import msgspec

from cvf_app.ids import SourceId
from cvf_app.pipelines.archive import Packed, unpack
from cvf_app.pipelines.attributes import AttributeSchema, Mismatch
from cvf_app.pipelines.carriers import joined
from cvf_app.pipelines.checking import Checker, fed_by, refusals_of
from cvf_app.pipelines.demographics import settle
from cvf_app.pipelines.expand import Origin, Staged, separator, stage
from cvf_app.pipelines.merge import Types, merge
from cvf_app.pipelines.model import FilePipeline, Refusal, RemapPipeline, Unreadable
from cvf_app.pipelines.objects import Batch, objects
from cvf_app.pipelines.phenopacket import read_phenopacket
from cvf_app.pipelines.read import Below, Table
from cvf_app.pipelines.remap import Remap
from cvf_app.pipelines.rows import Rows
from cvf_app.pipelines.spool import Chunk, Miss
from cvf_app.subject import Subject
from cvf_app.wire import encode

MOST_PARTS = 2000
MOST_BYTES = 512 * 2**10
Refuse = Callable[[Refusal], None]
_SUBJECT = msgspec.json.Decoder(Subject)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker of a table must know beside the piece."""

    file_pipeline: FilePipeline
    remap_pipeline: RemapPipeline
    source_id: str
    filename: str
    header: tuple[str, ...]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker must know beside the piece: of a table, and what is declared of attributes."""

    setting: Setting | None = None
    attributes: tuple[AttributeSchema, ...] = ()
    mismatch: Mismatch = "refuse"


class Portion(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a piece: parts of subjects, a line each, and what is told of them.

    Of the subjects in `left_out` nothing is kept, whichever piece it came with.
    """

    ids: list[str] = []
    sizes: list[int] = []
    bodies: bytes = b""
    misses: dict[int, bytes] = {}
    rows: int = 0
    refusals: list[Refusal] = []
    names: dict[str, str] = {}
    kinds: dict[str, int] = {}
    fault: str | None = None
    left_out: list[str] = []


class TablePiece(msgspec.Struct, frozen=True, kw_only=True, tag="table"):
    """Whole rows of a table, without its header."""

    content: bytes
    line: int


class ObjectPiece(msgspec.Struct, frozen=True, kw_only=True, tag="objects"):
    """Whole JSON objects of a file."""

    name: str
    batch: Batch


class PackedPiece(msgspec.Struct, frozen=True, kw_only=True, tag="packed"):
    """Whole small files of an archive, still packed."""

    entries: list[Packed]
    most: int | None = None


class WholePiece(msgspec.Struct, frozen=True, kw_only=True, tag="whole"):
    """Parts that become whole subjects: their types, and whether the values wait for them."""

    parts: bytes
    counts: tuple[int, ...] | None
    kinds: dict[str, int] | None
    variants: bool = False


Piece = TablePiece | ObjectPiece | PackedPiece
_PIECE = msgspec.msgpack.Decoder(Piece | WholePiece)
_PORTION = msgspec.msgpack.Decoder(Portion)
_ORDER = msgspec.msgpack.Decoder(Order)
pack = msgspec.msgpack.encode
unpack_portion = _PORTION.decode


class Parts:
    """Gathers the parts of one piece; parts of one id that meet here become one."""

    def __init__(self) -> None:
        """Begin without parts."""
        # The one part of most is kept as bytes; more are kept as they are, and merged in the end.
        self._found: dict[str, list[Subject] | bytes] = {}
        self._misses: dict[str, list[Miss]] = {}
        self.size = 0
        self.types = Types()

    def __len__(self) -> int:
        """Return how many parts there are."""
        return len(self._found)

    def add(self, subject: Subject, misses: Iterable[Miss] = ()) -> None:
        """Take a part."""
        name = subject.subject_id
        body = encode(subject)
        self.size += len(body)
        known = self._found.get(name)
        if known is None:
            self._found[name] = body
        elif isinstance(known, bytes):
            self._found[name] = [_SUBJECT.decode(known), subject]
        else:
            known.append(subject)
        if misses:
            self._misses.setdefault(name, []).extend(misses)

    def portion(
        self,
        *,
        rows: int,
        refusals: list[Refusal],
        names: dict[str, str],
        fault: str | None,
    ) -> Portion:
        """Return what was gathered."""
        bodies = [
            (found if isinstance(found, bytes) else encode(merge(found))) + b"\n"
            for found in self._found.values()
        ]
        misses = (
            {
                place: encode(tuple(dict.fromkeys(self._misses[name])))
                for place, name in enumerate(self._found)
                if name in self._misses
            }
            if self._misses
            else {}
        )
        return Portion(
            ids=list(self._found),
            sizes=[len(body) for body in bodies],
            bodies=b"".join(bodies),
            misses=misses,
            rows=rows,
            refusals=refusals,
            names=names,
            kinds=self.types.kinds,
            fault=fault,
        )


class Mapper:
    """Rows of a table become portions."""

    def __init__(self, setting: Setting, order: Order) -> None:
        """Compile the pipelines."""
        self._setting = setting
        fed = fed_by(setting.remap_pipeline, setting.header)
        self._checker = Checker(order.attributes, order.mismatch, fed)
        self._faulty = 0
        self._remap = Remap(setting.remap_pipeline)
        self._origin = Origin(SourceId(setting.source_id), setting.filename)

    def portions(self, table: Rows, refuse: Refuse) -> Iterator[Portion]:
        """Yield what the rows of a table give, some thousand rows at a time.

        A fault is in the last portion and is not raised.
        """
        staged = stage(table, self._setting.file_pipeline, self._origin, refuse)
        told = 0
        ended = False
        while not ended:
            parts, fault = Parts(), None
            self._remap.forget()
            try:
                ended = self._fill(staged, parts, refuse)
            except Unreadable as found:
                fault, ended = found.sentence, True
            read, told = table.read_rows - told, table.read_rows
            yield parts.portion(
                rows=read, refusals=[], names=self._remap.display_names, fault=fault
            )

    def piece(self, given: TablePiece) -> Portion:
        """Return what a piece of a table gives, as one portion."""
        refusals: list[Refusal] = []
        table = Table(
            io.BytesIO(given.content),
            separator(self._setting.file_pipeline),
            refuse=refusals.append,
            advance=_ignore,
            below=Below(self._setting.header, given.line),
        )
        parts, fault = Parts(), None
        self._remap.forget()
        try:
            staged = stage(table, self._setting.file_pipeline, self._origin, refusals.append)
            for one in staged:
                self._take(one, parts, refusals.append)
        except Unreadable as found:
            fault = found.sentence
        return parts.portion(
            rows=table.read_rows,
            refusals=refusals,
            names=self._remap.display_names,
            fault=fault,
        )

    def _fill(self, staged: Iterator[Staged], parts: Parts, refuse: Refuse) -> bool:
        """Take rows until there are enough; say whether that was the last one."""
        for taken, one in enumerate(staged, 1):
            self._take(one, parts, refuse)
            if taken >= MOST_PARTS or parts.size >= MOST_BYTES:
                return False
        return True

    def _take(self, staged: Staged, parts: Parts, refuse: Refuse) -> None:
        part, unmatched = self._remap.part(staged)
        # Here the texts of attributes get their types, or are judged by what is declared of them.
        subject, faults = self._checker.admit(part)
        # A row that counts make several subjects of is at fault once.
        if faults and staged.line != self._faulty:
            self._faulty = staged.line
            for refusal in refusals_of(faults, staged.line, kept=subject is not None):
                refuse(refusal)
        if subject is not None:
            parts.types.see(subject.eav, self._checker.names)
            parts.add(subject, unmatched)


def packets(found: Iterable[tuple[str, str, bytes]], checker: Checker) -> Portion:
    """Return what phenopackets give, of which each has a file's name and a place in it."""
    parts, fault, rows = Parts(), None, 0
    refusals: list[Refusal] = []
    names: dict[str, str] = {}
    folder, cohort = "", ""
    try:
        for name, where, data in found:
            rows += 1
            if name != folder:
                folder, cohort = name, PurePosixPath(name).parent.name
            place = f"{name}, {where}" if where else name
            try:
                packet, shown, units = read_phenopacket(data, cohort)
            except Unreadable as raised:
                raise Unreadable(f"{place}: {raised.sentence}") from raised
            subject, faults = checker.admit(packet, units)
            refusals += refusals_of(faults, _line(where), place, kept=subject is not None)
            if subject is not None:
                names.update(shown)
                parts.add(subject)
    except Unreadable as raised:
        fault = raised.sentence
    return parts.portion(rows=rows, refusals=refusals, names=names, fault=fault)


def _line(where: str) -> int:
    """Return the number of the line or item that words name; of a whole file it is the first."""
    number = where.rpartition(" ")[2]
    return int(number) if number.isdigit() else 1


def packed_packets(entries: Iterable[Packed], most: int | None, checker: Checker) -> Portion:
    """Return what the small files of an archive give, or the first so many of them."""
    found = (
        (entry.name, where, data)
        for entry in entries
        for where, data in objects(io.BytesIO(unpack(entry)), _ignore)
    )
    return packets(islice(found, most), checker)


def whole(given: WholePiece) -> bytes:
    """Return whole subjects, a line each."""
    lines = given.parts.split(b"\n")
    lines.pop()
    found: Iterable[Subject]
    if given.counts is None:
        found = map(_SUBJECT.decode, lines)
    else:
        rest = iter(lines)
        together = joined if given.variants else merge
        found = (
            together([_SUBJECT.decode(next(rest)) for _ in range(count)]) for count in given.counts
        )
    if given.kinds is not None:
        types = Types(given.kinds)
        found = (settle(types.typed(subject)) for subject in found)
    return b"".join(chain.from_iterable((encode(subject), b"\n") for subject in found))


def of_chunk(chunk: Chunk, kinds: dict[str, int] | None, *, variants: bool) -> WholePiece:
    """Return a chunk of the spool as work."""
    return WholePiece(parts=chunk.parts, counts=chunk.counts, kinds=kinds, variants=variants)


class Work:
    """What a member of a crew, or the reader itself, does with a piece."""

    def __init__(self, order: Order) -> None:
        """Compile the pipelines, if the pieces are of a table."""
        setting = order.setting
        self._rows = None if setting is None else Mapper(setting, order)
        self._checker = Checker(order.attributes, order.mismatch)

    def portion(self, piece: Piece) -> Portion:
        """Return what a piece of a file gives."""
        match piece:
            case TablePiece():
                return self._table().piece(piece)
            case ObjectPiece(name=name, batch=batch):
                found = ((name, where, one) for where, one in batch.objects())
                return packets(found, self._checker)
            case PackedPiece(entries=entries, most=most):
                return packed_packets(entries, most, self._checker)

    def rows_of(self, table: Rows, refuse: Refuse) -> Iterator[Portion]:
        """Yield what a table gives that is not cut into pieces."""
        return self._table().portions(table, refuse)

    def _table(self) -> Mapper:
        if self._rows is None:
            raise TypeError("a table without pipelines")
        return self._rows


def worker(order: bytes) -> Callable[[bytes], bytes]:
    """Become a member of a crew."""
    work = Work(_ORDER.decode(order))

    def worked(data: bytes) -> bytes:
        piece = _PIECE.decode(data)
        return whole(piece) if isinstance(piece, WholePiece) else pack(work.portion(piece))

    return worked


def _ignore(_: int) -> None:
    """Hear of progress that is counted elsewhere."""
