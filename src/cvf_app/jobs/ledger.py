"""The books of this host's budget: reserve before a job begins, give back when it has ended.

The book of a host is one value in Redis, changed by compare-and-set with the arithmetic of
`budget.py`. Each worker renews what it holds every `TICK_SECONDS`, so what a dead one held comes
back by itself after `LAPSE_SECONDS`.

Without Redis the same book is kept in a file of the host's temporary folder under a lock: jobs go
on, and the host is not overrun. At each change of place everybody says at the next tick what they
hold, and until all have had the time to say so (`settle`) nobody new goes.
"""

import fcntl
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from cvf_app.backends.redis import ANSWER_SECONDS, Redis
from cvf_app.clock import Clock
from cvf_app.errors import Invalid, Unavailable
from cvf_app.ids import new_id
from cvf_app.jobs import budget
from cvf_app.jobs.budget import TICK_SECONDS, Book, Claim
from cvf_app.jobs.sizes import Sizes
from cvf_app.loops import in_thread
from cvf_app.wire import decode, encode

KEPT_SECONDS = 3600
_LARGEST = 16 * 2**20
Change = Callable[[Book], Book]
log = structlog.get_logger("cv3.jobs")


@dataclass(frozen=True)
class Settle:
    """How long nobody new goes after a book was lost: all must have had the time to write in it.

    In Redis that is one tick; in the file it is a tick and what it takes to see that Redis is away.
    """

    redis: float = TICK_SECONDS * 2
    file: float = TICK_SECONDS + ANSWER_SECONDS * 2


class Ledger:
    """This process's hand in the books of its host."""

    def __init__(  # noqa: PLR0913 - what a host and its books are known by
        self,
        redis: Redis,
        clock: Clock,
        sizes: Sizes,
        *,
        name: str = "cv3-jobs",
        host: str | None = None,
        settle: Settle | None = None,
    ) -> None:
        """Keep the books of `host` (else this one) under a name in Redis."""
        self._redis = redis
        self._clock = clock
        self._sizes = sizes
        self._host = host or socket.gethostname()
        self._owner = new_id()
        self._roster = f"{name}:hosts"
        self._key = f"{name}:host:{self._host}"
        self._file = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}.book"
        self._settle = settle or Settle()
        self._mine: dict[str, Claim] = {}
        self._away = False
        self.enforcement = ""

    async def reserve(self, job_id: str, size: str, asked_at: float) -> bool:
        """Take a job's share if it may go now; else it waits in its place and is asked for again.

        Raises:
            Unavailable: neither Redis nor the file can be written to.
        """
        claim = self._claim(job_id, size, asked_at)
        answer = False

        def ask(book: Book) -> Book:
            nonlocal answer
            changed, answer = budget.asked(book, claim, book.written_at)
            return changed

        await self._change(ask)
        if answer:
            self._mine[job_id] = msgspec.structs.replace(claim, held=True)
        return answer

    async def release(self, job_id: str) -> None:
        """Give back what a job held; if that cannot be written now, it lapses."""
        if self._mine.pop(job_id, None) is None:
            return
        try:
            await self._change(lambda book: budget.released(book, job_id, self._owner))
        except Unavailable as fault:
            log.warning("release_failed", job_id=job_id, cause=fault.sentence)

    async def tick(self, waiting: Sequence[tuple[str, str, float]]) -> None:
        """Renew what is held here, and keep the places of waiting jobs: id, size, since when.

        Raises:
            Unavailable: neither Redis nor the file can be written to.
        """
        claims = [*self._mine.values(), *(self._claim(*one) for one in waiting)]
        await self._change(lambda book: budget.kept(book, claims, book.written_at))

    async def books(self) -> tuple[Book, ...]:
        """Return the book of every host, or of this one alone while Redis is away."""
        now = self._clock().timestamp()
        try:
            values = await self._redis.roster(self._roster)
        except Unavailable:
            values = tuple(filter(None, [await in_thread(self._read)]))
        books = (_book(value) for value in values)
        return tuple(
            msgspec.structs.replace(
                book, claims=tuple(claim for claim in book.claims if claim.lapses_at > now)
            )
            for book in books
            if book is not None and now - book.written_at < budget.LAPSE_SECONDS
        )

    def _claim(self, job_id: str, size: str, asked_at: float) -> Claim:
        limits = self._sizes.limits[size]
        return Claim(
            job_id=job_id,
            owner=self._owner,
            size=size,
            cores=limits.cores,
            memory_mib=limits.memory_mib,
            asked_at=asked_at,
            held=False,
        )

    async def _change(self, change: Change) -> None:
        try:
            await self._redis.change(
                self._key,
                lambda value: self._changed(value, change, self._settle.redis),
                roster=self._roster,
                seconds=KEPT_SECONDS,
            )
        except Unavailable as fault:
            if not self._away:
                log.warning("ledger_in_a_file", cause=fault.sentence)
            self._away = True
            await in_thread(self._change_file, change)
        else:
            self._away = False

    def _changed(self, value: bytes | None, change: Change, settle: float) -> bytes:
        now = self._clock().timestamp()
        fresh = Book(
            host=self._host,
            enforcement=self.enforcement,
            cores=self._sizes.cores,
            memory_mib=self._sizes.memory_mib,
            opens_at=now,
            written_at=now,
        )
        return encode(change(budget.opened(_book(value), fresh, settle, now)))

    def _change_file(self, change: Change) -> None:
        """Change the book in the file, which is ours alone to read, under its lock."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self._file, flags, 0o600), "r+b") as file:
                if os.fstat(file.fileno()).st_uid != os.getuid():
                    raise Unavailable("The books of this host belong to somebody else.")
                fcntl.flock(file, fcntl.LOCK_EX)
                value = file.read(_LARGEST)
                changed = self._changed(value or None, change, self._settle.file)
                file.seek(0)
                file.write(changed)
                file.truncate()
        except OSError as fault:
            raise Unavailable("The books of this host cannot be written.") from fault

    def _read(self) -> bytes | None:
        try:
            return self._file.read_bytes()
        except OSError:
            return None


def _book(value: bytes | None) -> Book | None:
    """Read a book; one that another version wrote counts as lost."""
    if value is None:
        return None
    try:
        return decode(value, Book)
    except Invalid as fault:
        log.warning("book_unreadable", cause=fault.sentence)
        return None
