"""Reading a generation: mapped segment files, opened when first asked, shared by all threads.

A segment never changes. Rows that no longer count are listed beside it (`dead`), and
nothing that a generation answers shows them.
"""

import mmap
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from cvf_app.engine.build import FORMAT, Manifest, SegmentEntry
from cvf_app.engine.cache import BitmapCache
from cvf_app.engine.columns import Column, ColumnReader
from cvf_app.engine.keys import Kind, after, key, prefix, split
from cvf_app.engine.plan import CAPABILITY_KEYS
from cvf_app.errors import Unavailable
from cvf_app.wire import decode

VALUES_SHOWN = 1000
# Whole numbers below this are shown without an exponent or a fraction.
PLAINLY = 1e15
CACHE_BYTES = 64 << 20
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.uint32]
_EMPTY = BitMap()
# Fields of few, often asked terms, for which a dictionary is worth its memory.
_TERM_FIELDS = frozenset({"hpo", "ordo", "snomed"})


@dataclass(frozen=True, slots=True)
class Variants:
    """The variants of one gene and class, by frequency; unknown ones (NaN) at the end."""

    rows: Rows
    afs: Floats
    acs: Rows


def _mapped(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        if path.stat().st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Segment:
    """One immutable segment; every method is safe to call from several threads."""

    def __init__(self, folder: Path, entry: SegmentEntry, cache: BitmapCache, dead: BitMap) -> None:
        """Map the files, which reads nothing yet."""
        self.count = entry.count
        self.dead = dead
        self._cache = cache
        self._name = entry.folder
        files = folder / entry.folder
        self._keys = _mapped(files / "keys.bin")
        self._index = np.frombuffer(_mapped(files / "index.bin"), np.uint64).reshape(-1, 3)
        self._postings = _mapped(files / "postings.bin")
        self._columns = ColumnReader(lambda name, kind: _array(files / name, kind))
        self._afs = _array(files / "afs.bin", np.float64)
        self._variant_rows = _array(files / "variant_rows.bin", np.uint32)
        self._acs = _array(files / "acs.bin", np.uint32)
        self._documents = _mapped(files / "documents.bin")
        self._document_ends = _array(files / "documents.ends", np.uint64)
        self._ids = _mapped(files / "ids.bin")
        self._id_ends = _array(files / "ids.ends", np.uint64)
        self._terms: dict[str, dict[str, int]] = {}

    @property
    def live(self) -> int:
        """How many subjects count."""
        return self.count - len(self.dead)

    @cached_property
    def everybody(self) -> BitMap:
        """All rows that count."""
        return BitMap(range(self.count)) - self.dead

    def posting(self, kind: Kind, name: str, value: str = "") -> BitMap:
        """Return the rows that have a value, dead ones among them."""
        if kind is Kind.FIELD and name in _TERM_FIELDS:
            at = self._term_table(name).get(value, -1)
        else:
            at = self._find(key(kind, name, value))
        return _EMPTY if at < 0 else self._posting_at(at)

    def union(self, field: str, terms: frozenset[str]) -> BitMap:
        """Return the rows that have any of the terms."""
        if len(terms) == 1:
            return self.posting(Kind.FIELD, field, next(iter(terms)))
        return self._cache.get((self._name, field, terms), lambda: self._unite(field, terms))

    def remembered(self, name: Hashable, make: Callable[[], BitMap]) -> BitMap:
        """Return a bitmap that is kept under a name of the caller's."""
        return self._cache.get((self._name, name), make)

    def texts(self, kind: Kind, attribute: str) -> tuple[int, list[bytes]]:
        """Return all distinct texts of an attribute, in order, and the number of the first."""
        start = prefix(kind, attribute)
        low, high = self.span(start)
        if low == high:
            return low, []
        # All keys of the name stand one after another, each beginning with the same bytes, whose
        # end stands nowhere else in them; only a value that holds them too needs the slow way.
        first = int(self._index[low - 1, 0]) if low else 0
        pieces = bytes(self._keys[first : int(self._index[high - 1, 0])]).split(start)[1:]
        if len(pieces) == high - low:
            return low, pieces
        return low, [self._key(at)[len(start) :] for at in range(low, high)]

    def postings(self, numbers: Sequence[int]) -> BitMap:
        """Return the rows that have any of the values with these numbers."""
        if not numbers:
            return _EMPTY
        return BitMap.union(*(self._posting_at(at) for at in numbers))

    def posted(self, number: int) -> BitMap:
        """Return the rows that have the value with this number."""
        return self._posting_at(number)

    def column(self, kind: Kind, name: str) -> Column:
        """Return a numeric column, empty if there is none."""
        return self._columns.column(*self._place(self._find(key(kind, name))))

    def variant_keys(self, gene: str | None = None) -> Iterator[tuple[str, str, int]]:
        """Go through the genes and classes that there are, with the number of each."""
        low, high = self.span(Kind.VARIANTS.value if gene is None else prefix(Kind.VARIANTS, gene))
        for at in range(low, high):
            yield (*split(self._key(at)), at)

    def variants(self, number: int) -> Variants:
        """Return the variants of a gene and class by its number."""
        start, size = self._place(number)
        piece = slice(start, start + size)
        return Variants(self._variant_rows[piece], self._afs[piece], self._acs[piece])

    def names(self, kind: Kind) -> Iterator[str]:
        """Go through the names of a kind of which each has one key."""
        for at in range(*self.span(kind.value)):
            yield split(self._key(at))[0]

    def span(self, start: bytes) -> tuple[int, int]:
        """Return the numbers between which all keys begin so."""
        return self._left(start), self._left(after(start))

    def text_at(self, number: int, skip: int) -> str:
        """Return the text of a value by its number, past the `skip` bytes that name it."""
        return self._key(number)[skip:].decode()

    def subject_id(self, row: int) -> str:
        """Return the id of a row."""
        return bytes(_slice(self._ids, self._id_ends, row)).decode()

    def document(self, row: int) -> bytes:
        """Return the JSON of a row."""
        return bytes(_slice(self._documents, self._document_ends, row))

    def _unite(self, field: str, terms: frozenset[str]) -> BitMap:
        table = self._term_table(field)
        places = [table[term] for term in terms if term in table]
        # Read past the cache: a union of hundreds would push out what is asked every time.
        return BitMap.union(*map(self._read, places)) if places else _EMPTY

    def _term_table(self, field: str) -> dict[str, int]:
        table = self._terms.get(field)
        if table is None:
            start = prefix(Kind.FIELD, field)
            low, high = self.span(start)
            table = {self._key(at)[len(start) :].decode(): at for at in range(low, high)}
            self._terms[field] = table
        return table

    def _posting_at(self, at: int) -> BitMap:
        return self._cache.get((self._name, at), lambda: self._read(at))

    def _read(self, at: int) -> BitMap:
        start, size = self._place(at)
        return BitMap.deserialize(self._postings[start : start + size])

    def _place(self, at: int) -> tuple[int, int]:
        if at < 0:
            return 0, 0
        return int(self._index[at, 1]), int(self._index[at, 2])

    def _key(self, at: int) -> bytes:
        return bytes(_slice(self._keys, self._index[:, 0], at))

    def _left(self, wanted: bytes) -> int:
        low, high = 0, len(self._index)
        while low < high:
            middle = (low + high) // 2
            if self._key(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def _find(self, wanted: bytes) -> int:
        at = self._left(wanted)
        return at if at < len(self._index) and self._key(at) == wanted else -1


def _array(path: Path, kind: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - any numpy type
    return np.frombuffer(_mapped(path), kind)


def _slice(texts: mmap.mmap | bytes, ends: npt.NDArray[np.uint64], at: int) -> bytes:
    start = int(ends[at - 1]) if at else 0
    return texts[start : int(ends[at])]


class Generation:
    """All subjects of a source at one time, ready to be asked."""

    def __init__(self, folder: Path, manifest: Manifest, cache_bytes: int) -> None:
        """Remember where the segments are."""
        self.folder = folder
        self.manifest = manifest
        self._cache = BitmapCache(cache_bytes)
        self._lock = threading.Lock()
        self._closed = False
        self._dead = [
            BitMap.deserialize((folder / entry.dead).read_bytes()) if entry.dead else BitMap()
            for entry in manifest.segments
        ]
        self._segments: tuple[Segment, ...] | None = None
        self._frequencies: dict[tuple[str, str], float] | None = None

    @classmethod
    def open(cls, folder: Path, *, cache_bytes: int = CACHE_BYTES) -> "Generation":
        """Open a generation, in milliseconds whatever its size; segments are mapped when asked."""
        try:
            manifest = decode((folder / "manifest.json").read_bytes(), Manifest)
        except FileNotFoundError as fault:
            raise Unavailable("The source's search index is not on this machine.") from fault
        if manifest.format != FORMAT:
            raise Unavailable("The source's search index was written by another version.")
        return cls(folder, manifest, cache_bytes)

    @property
    def count(self) -> int:
        """How many subjects count."""
        counted = zip(self.manifest.segments, self._dead, strict=True)
        return sum(entry.count - len(dead) for entry, dead in counted)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, mapped at the first call."""
        with self._lock:
            if self._closed:
                raise Unavailable("The source's search index was closed while it was asked.")
            if self._segments is None:
                self._segments = tuple(
                    Segment(self.folder, entry, self._cache, dead)
                    for entry, dead in zip(self.manifest.segments, self._dead, strict=True)
                )
            return self._segments

    @cached_property
    def capability_keys(self) -> frozenset[str]:
        """The kinds of data that at least one subject has."""
        return frozenset(
            name
            for name in CAPABILITY_KEYS
            if any(
                segment.posting(Kind.FIELD, "has", name) - segment.dead for segment in self.segments
            )
        )

    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Return every attribute with its distinct values as text, the first thousand of each."""
        names = {
            name
            for segment in self.segments
            for name in segment.names(Kind.HAS_ATTRIBUTE)
            if segment.posting(Kind.HAS_ATTRIBUTE, name) - segment.dead
        }
        return {name: self._values(name) for name in sorted(names)}

    def local_frequency(self, gene: str, mutation: str) -> float:
        """Return the share of alleles of a gene and class among all alleles of the source."""
        with self._lock:
            known = self._frequencies
        if known is None:
            known = self._count_alleles()
            with self._lock:
                self._frequencies = known
        return known.get((gene, mutation), 0.0)

    def looks(self) -> tuple[int, int]:
        """Return how often a bitmap was in the cache and was not, since the last call."""
        return self._cache.drain()

    def forget(self) -> None:
        """Drop the cache, as if just opened."""
        self._cache.clear()

    def close(self) -> None:
        """Let go of the files; answers already given can still be read."""
        with self._lock:
            self._closed = True
            self._segments = None
        self._cache.clear()

    def _count_alleles(self) -> dict[tuple[str, str], float]:
        totals: dict[tuple[str, str], int] = {}
        for segment in self.segments:
            dead = np.frombuffer(segment.dead.to_array(), np.uint32)
            for gene, mutation, at in segment.variant_keys():
                found = segment.variants(at)
                acs = found.acs if not len(dead) else found.acs[~np.isin(found.rows, dead)]
                totals[gene, mutation] = totals.get((gene, mutation), 0) + int(acs.sum())
        alleles = 2 * self.count
        return {name: total / alleles for name, total in totals.items()} if alleles else {}

    def _values(self, attribute: str) -> tuple[str, ...]:
        values: set[str] = set()
        for segment in self.segments:
            values.update(_texts_of(segment, attribute))
            values.update(_numbers_of(segment, attribute))
        return tuple(sorted(values)[:VALUES_SHOWN])


def _texts_of(segment: Segment, attribute: str) -> Iterator[str]:
    for kind in (Kind.TEXT, Kind.TRUTH):
        start = prefix(kind, attribute)
        low, high = segment.span(start)
        shown = 0
        for at in range(low, high):
            if not segment.dead or segment.posted(at) - segment.dead:
                yield segment.text_at(at, len(start))
                shown += 1
            if shown == VALUES_SHOWN:
                break


def _numbers_of(segment: Segment, attribute: str) -> Iterator[str]:
    column = segment.column(Kind.NUMBERS, attribute).numbers()
    dead = np.frombuffer(segment.dead.to_array(), np.uint32)
    values = column.values if not len(dead) else column.values[~np.isin(column.rows, dead)]
    for value in np.unique(values)[:VALUES_SHOWN].tolist():
        yield str(int(value)) if value.is_integer() and abs(value) < PLAINLY else repr(value)
