"""What a run changes in a source: which shares stay, which come, which go. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvf_app.sources.model import Contents, DataFileId, Share

SMALL = 0.25


@dataclass(frozen=True)
class Fresh:
    """Subjects of a data file that are to take the place of what the source has of it."""

    data_file_id: DataFileId
    path: Path
    subjects: int


@dataclass(frozen=True)
class Change:
    """The difference between what a source holds and what it is to hold.

    A share that replaces another of the same data file takes its place among the others, so that
    the parts of a subject merge in the same order as before; others come last.
    """

    old: Contents
    staying: dict[DataFileId, Share]
    fresh: dict[DataFileId, Fresh]
    gone: tuple[Share, ...]
    order: tuple[DataFileId, ...]

    @classmethod
    def of(cls, old: Contents, fresh: Sequence[Fresh], alive: Collection[DataFileId]) -> "Change":
        """Compare what a source holds with fresh subjects; only files that are alive count."""
        new = {each.data_file_id: each for each in fresh if each.data_file_id in alive}
        there = [share.data_file_id for share in old.shares if share.data_file_id in alive]
        return cls(
            old=old,
            staying={
                share.data_file_id: share
                for share in old.shares
                if share.data_file_id in alive and share.data_file_id not in new
            },
            fresh=new,
            gone=tuple(
                share
                for share in old.shares
                if share.data_file_id not in alive or share.data_file_id in new
            ),
            order=tuple(dict.fromkeys((*there, *new))),
        )

    @property
    def expected(self) -> int:
        """How many subjects there are at most."""
        parts: tuple[Share | Fresh, ...] = (*self.staying.values(), *self.fresh.values())
        return sum(each.subjects for each in parts)

    @property
    def is_small(self) -> bool:
        """Whether it touches few of the subjects; no change at all asks for everything anew."""
        touched: dict[DataFileId, int] = {}
        changed: tuple[Share | Fresh, ...] = (*self.gone, *self.fresh.values())
        for each in changed:
            # A file that is read again mostly holds the same subjects.
            touched[each.data_file_id] = max(touched.get(each.data_file_id, 0), each.subjects)
        return bool(touched and self.staying) and (
            sum(touched.values()) < SMALL * self.old.record_count
        )

    def folder(self, name: str) -> str | None:
        """Return the name of the next generation's folder, made by the attempt of this name."""
        return f"{self.old.generation + 1}-{name[:8]}" if self.order else None
