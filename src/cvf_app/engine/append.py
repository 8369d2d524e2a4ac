"""A new generation out of an old one: its segments, one delta segment, and tombstones.

Old segments are hard links, so that a small change costs what the change is large. Memory does not
grow with the old generation but by the marks of what is touched and one bit for each dead row.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from pyroaring import BitMap

from cvf_app.engine.build import FORMAT, Draft, Manifest, SegmentEntry, write_segments
from cvf_app.engine.marks import Marks, among, packed, unpacked
from cvf_app.engine.segments import Generation
from cvf_app.subject import Subject

ROWS_AT_ONCE = 20_000
MOST_SEGMENTS = 16
MOST_DEAD = 0.25
_FULL_SEGMENT = 1_000_000


def append(
    old: Path,
    new: Path,
    subjects: Iterable[Subject],
    touched: Marks,
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write generation `new` beside `old`: without the touched subjects, with these.

    Every subject of the old generation whose id has one of the touched marks (`engine/marks.py`,
    in ascending order) is taken out; what is to stay of them, or come, is given as subjects.
    Returns how many subjects the new generation has.
    """
    generation = Generation.open(old)
    with Draft(new) as draft:
        names = [int(entry.folder) for entry in generation.manifest.segments]
        added, total = write_segments(
            subjects, draft.folder, progress=progress, first=max(names, default=-1) + 1
        )
        entries: list[SegmentEntry] = []
        for entry, segment in zip(generation.manifest.segments, generation.segments, strict=True):
            dead = segment.dead | _touched(old / entry.folder, touched)
            if len(dead) == entry.count:
                continue
            _link(old / entry.folder, draft.folder / entry.folder)
            total += entry.count - len(dead)
            name = f"dead-{entry.folder}.bin" if dead else None
            if name is not None:
                (draft.folder / name).write_bytes(dead.serialize())
            entries.append(SegmentEntry(folder=entry.folder, count=entry.count, dead=name))
        draft.finish(Manifest(format=FORMAT, segments=(*entries, *added)))
    generation.close()
    return total


def worn(generation: Generation) -> bool:
    """Say whether a generation has so many segments or dead rows that it should be built anew."""
    entries = generation.manifest.segments
    rows = sum(entry.count for entry in entries)
    return (
        len(entries) >= MOST_SEGMENTS + rows // _FULL_SEGMENT
        or rows - generation.count > MOST_DEAD * rows
    )


def _link(old: Path, new: Path) -> None:
    new.mkdir()
    for file in old.iterdir():
        os.link(file, new / file.name)


def _touched(segment: Path, touched: Marks) -> BitMap:
    """Return the rows whose ids have one of these marks."""
    rows = BitMap()
    first = 0
    for ids in _ids(segment):
        found = np.flatnonzero(among(unpacked(packed(ids)), touched)) + first
        rows |= BitMap(found.astype(np.uint32))
        first += len(ids)
    return rows


def _ids(segment: Path) -> Iterator[list[bytes]]:
    """Yield the ids of a segment's rows, some thousands at a time."""
    start = 0
    with (segment / "ids.bin").open("rb") as texts, (segment / "ids.ends").open("rb") as places:
        while ends := memoryview(places.read(8 * ROWS_AT_ONCE)).cast("Q"):
            text = texts.read(ends[-1] - start)
            cuts = [0, *(end - start for end in ends)]
            yield [text[low:high] for low, high in pairwise(cuts)]
            start = ends[-1]
