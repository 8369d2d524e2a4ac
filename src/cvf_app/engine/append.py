"""A new generation out of an old one: its segments, one delta segment, and tombstones."""

import os
from collections.abc import Iterable
from pathlib import Path

from pyroaring import BitMap

from cvf_app.engine.build import FORMAT, Draft, Manifest, write_segments
from cvf_app.engine.segments import Generation
from cvf_app.subject import Subject, SubjectId


def append(
    old: Path, new: Path, subjects: Iterable[Subject], removed: Iterable[SubjectId] = ()
) -> int:
    """Write generation `new` beside `old`: without the removed, with the new subjects.

    A subject whose id the old generation has replaces the one there. Returns how many
    subjects the new generation has.
    """
    generation = Generation.open(old)
    with Draft(new) as draft:
        first = len(generation.manifest.segments)
        added, total = write_segments(subjects, draft.folder, first=first)
        gone: set[str] = set(removed)
        for entry in added:
            gone.update(_ids(draft.folder / entry.folder))
        entries = []
        for entry, segment in zip(generation.manifest.segments, generation.segments, strict=True):
            _link(old / entry.folder, draft.folder / entry.folder)
            dead = segment.dead | BitMap(
                row for row, name in enumerate(_ids(old / entry.folder)) if name in gone
            )
            total += entry.count - len(dead)
            name = f"dead-{entry.folder}.bin" if dead else None
            if name is not None:
                (draft.folder / name).write_bytes(dead.serialize())
            entries.append(type(entry)(folder=entry.folder, count=entry.count, dead=name))
        draft.finish(Manifest(format=FORMAT, segments=(*entries, *added)))
    generation.close()
    return total


def _link(old: Path, new: Path) -> None:
    new.mkdir()
    for file in old.iterdir():
        os.link(file, new / file.name)


def _ids(segment: Path) -> Iterable[str]:
    ends = memoryview((segment / "ids.ends").read_bytes()).cast("Q")
    start = 0
    with (segment / "ids.bin").open("rb") as file:
        for end in ends:
            yield file.read(end - start).decode()
            start = end
