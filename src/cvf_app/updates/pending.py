"""Announcements on their way out: few of each thing, and none of them lost unsaid.

Pure. Promises: of one thing at most one announcement is taken in `PAUSE_SECONDS`, the first one at
once; what was put last is always taken in the end; a deletion takes the place of all that waits of
the thing and waits for nothing. Memory is bounded: with more than `most` things waiting they are
all given up for one `Lost`.
"""

from collections.abc import Iterable

from cvf_app.updates.model import Announcement, Change, Lost, Operation

PAUSE_SECONDS = 0.5
MOST = 10_000
MOST_IDS = 1000
_Key = tuple[str, str]


class Pending:
    """What was announced and has not been sent."""

    def __init__(self, most: int | None = None) -> None:
        """Begin with nothing."""
        self._most = MOST if most is None else most
        self._waiting: dict[_Key, Operation] = {}
        self._gone: list[Change] = []
        self._gone_ids = 0
        self._sent: dict[_Key, float] = {}
        self._lost = False

    def put(self, announcement: Announcement) -> None:
        """Take an announcement in."""
        if isinstance(announcement, Lost):
            self._give_up()
        elif announcement.operation is Operation.DELETE:
            for each in announcement.ids:
                self._waiting.pop((announcement.interface, each), None)
            self._gone.append(announcement)
            self._gone_ids += len(announcement.ids)
        else:
            for each in announcement.ids:
                self._wait((announcement.interface, each), announcement.operation)
        self._bound()

    def take(self, now: float) -> list[Announcement]:
        """Return what is due at this moment (seconds of any steady clock), deletions first."""
        self._sent = {
            key: moment for key, moment in self._sent.items() if now - moment < PAUSE_SECONDS
        }
        taken: list[Announcement] = [Lost()] if self._lost else []
        for change in self._gone:
            taken.extend(_pieces(change))
        self._lost, self._gone, self._gone_ids = False, [], 0
        for key in [key for key in self._waiting if key not in self._sent]:
            operation = self._waiting.pop(key)
            self._sent[key] = now
            taken.append(Change(interface=key[0], operation=operation, ids=(key[1],)))
        return taken

    def put_back(self, taken: Iterable[Announcement]) -> None:
        """Take in again what could not be sent; what came meanwhile is newer."""
        newly_gone = {(gone.interface, each) for gone in self._gone for each in gone.ids}
        for announcement in taken:
            if isinstance(announcement, Lost):
                self._lost = True
            elif announcement.operation is Operation.DELETE:
                self._gone.insert(0, announcement)
                self._gone_ids += len(announcement.ids)
            else:
                key = (announcement.interface, announcement.ids[0])
                self._sent.pop(key, None)
                if key not in newly_gone:
                    self._wait(key, announcement.operation)
        self._bound()

    def wait(self, now: float) -> float | None:
        """Return the seconds until something is due; nothing when there is nothing."""
        if self._lost or self._gone:
            return 0.0
        if not self._waiting:
            return None
        return max(0.0, min(self._due(key) for key in self._waiting) - now)

    def _due(self, key: _Key) -> float:
        return self._sent[key] + PAUSE_SECONDS if key in self._sent else 0.0

    def _wait(self, key: _Key, operation: Operation) -> None:
        # Nobody has heard of a thing whose insert still waits, whatever became of it since.
        if Operation.INSERT in (operation, self._waiting.get(key)):
            operation = Operation.INSERT
        self._waiting[key] = operation

    def _bound(self) -> None:
        if len(self._waiting) + self._gone_ids > self._most:
            self._give_up()

    def _give_up(self) -> None:
        self._lost = True
        self._waiting.clear()
        self._gone, self._gone_ids = [], 0


def _pieces(change: Change) -> Iterable[Change]:
    for start in range(0, len(change.ids), MOST_IDS):
        yield Change(
            interface=change.interface,
            operation=change.operation,
            ids=change.ids[start : start + MOST_IDS],
            audience=change.audience,
        )
