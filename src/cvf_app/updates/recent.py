"""The last announcements, so that a listener who comes back is told what they missed.

Pure. Promises: what stands after an id is either told whole or not at all: an id that is not among
the remembered ones has no known successors.
"""

from collections import OrderedDict
from collections.abc import Iterable

from cvf_app.backends.stream import BEGIN
from cvf_app.updates.model import Announcement, Change, Operation

MOST = 2000
Told = tuple[str, Announcement]


class Recent:
    """A bounded memory of announcements by their ids, oldest first."""

    def __init__(self, most: int = MOST) -> None:
        """Begin with nothing remembered, at the beginning of the stream."""
        self._most = most
        self._kept: OrderedDict[str, Announcement] = OrderedDict()
        # What stands after the base is remembered whole.
        self._base = BEGIN

    def add(self, told: Iterable[Told]) -> None:
        """Remember what comes next."""
        for entry_id, announcement in told:
            self._kept[entry_id] = announcement
            if len(self._kept) > self._most:
                self._base, _ = self._kept.popitem(last=False)

    def begin(self, base: str) -> None:
        """Forget everything and begin after an id."""
        self._kept.clear()
        self._base = base

    def after(self, entry_id: str) -> tuple[Told, ...] | None:
        """Return what came after an id, or nothing when that is not known."""
        if entry_id == self._base:
            return tuple(self._kept.items())
        if entry_id not in self._kept:
            return None
        ids = iter(reversed(self._kept.items()))
        later: list[Told] = []
        for each in ids:
            if each[0] == entry_id:
                break
            later.append(each)
        return tuple(reversed(later))


def newest(told: Iterable[Told]) -> list[Told]:
    """Leave out an update that a later one of the same thing makes needless; keep the order.

    An insert stays, since the later update would come to somebody who has not heard of the thing.
    """
    kept: list[Told] = []
    seen: set[tuple[str, str]] = set()
    for entry_id, announcement in reversed(tuple(told)):
        if isinstance(announcement, Change) and announcement.operation is Operation.UPDATE:
            key = (announcement.interface, announcement.ids[0])
            if key in seen:
                continue
            seen.add(key)
        kept.append((entry_id, announcement))
    return kept[::-1]


def position(entry_id: str) -> tuple[int, int]:
    """Return an id as numbers that can be compared; what is no id comes before all."""
    moment, _, number = entry_id.partition("-")
    if not (moment.isascii() and moment.isdigit() and number.isascii() and number.isdigit()):
        return (-1, 0)
    return int(moment[:20]), int(number[:20])
