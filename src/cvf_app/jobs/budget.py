"""The budget of one host as arithmetic: who holds what, who waits, and who may go next. Pure.

Promises, as long as holders are renewed: what is held never exceeds the budget; whoever asked first
is not kept waiting by whoever asked later (a later one goes ahead only into what stays free when
the first goes too), so each goes after finitely many others have ended; what a dead worker held
comes back when its claim lapses.

A book that nobody has written to for `QUIET_SECONDS`, or that is new, may have lost what others
hold, and lets nobody go until they have had the time to say so.
"""

from collections.abc import Iterable

import msgspec

from cvf_app.wire import Heard

TICK_SECONDS = 1.0
LAPSE_SECONDS = 6.0
QUIET_SECONDS = 3.0


class Claim(Heard, frozen=True, kw_only=True):
    """What one job holds, or waits for; `owner` is the worker that speaks for it."""

    job_id: str
    owner: str
    size: str
    cores: int
    memory_mib: int
    asked_at: float
    held: bool
    lapses_at: float = 0.0


class Book(Heard, frozen=True, kw_only=True):
    """The budget of one host and all claims on it; nobody goes before `opens_at`."""

    host: str
    enforcement: str
    cores: int
    memory_mib: int
    opens_at: float
    written_at: float
    claims: tuple[Claim, ...] = ()

    @property
    def held(self) -> tuple[Claim, ...]:
        """What is held."""
        return tuple(claim for claim in self.claims if claim.held)

    @property
    def waiting(self) -> tuple[Claim, ...]:
        """Who waits, in order."""
        return tuple(sorted((one for one in self.claims if not one.held), key=_order))


def opened(book: Book | None, fresh: Book, settle: float, now: float) -> Book:
    """Return the book as it is now: lapsed claims are out, and a doubtful one is shut for a while.

    Host, enforcement and budget are those of `fresh`, which is what the worker knows.
    """
    if book is None:
        return msgspec.structs.replace(fresh, opens_at=now + settle, written_at=now, claims=())
    quiet = now - book.written_at > QUIET_SECONDS
    return msgspec.structs.replace(
        fresh,
        opens_at=now + settle if quiet else book.opens_at,
        written_at=now,
        claims=tuple(claim for claim in book.claims if claim.lapses_at > now),
    )


def kept(book: Book, claims: Iterable[Claim], now: float) -> Book:
    """Renew claims; what is held is held even if the book had forgotten it."""
    by_id = {claim.job_id: claim for claim in book.claims}
    for claim in claims:
        there = by_id.get(claim.job_id)
        # Who waits does not take the place of who holds, nor of who has been let go meanwhile.
        if claim.held or there is None or not there.held:
            by_id[claim.job_id] = msgspec.structs.replace(claim, lapses_at=now + LAPSE_SECONDS)
    return msgspec.structs.replace(book, claims=tuple(by_id.values()))


def asked(book: Book, claim: Claim, now: float) -> tuple[Book, bool]:
    """Ask for a job's share: it is held now and the answer is yes, or it waits."""
    there = next((one for one in book.held if one.job_id == claim.job_id), None)
    if there is not None and there.owner != claim.owner:
        return book, False
    goes = there is not None or (now >= book.opens_at and may_go(book, claim))
    return kept(book, [msgspec.structs.replace(claim, held=goes)], now), goes


def released(book: Book, job_id: str, owner: str) -> Book:
    """Give back what an owner holds for a job."""
    claims = (one for one in book.claims if (one.job_id, one.owner) != (job_id, owner))
    return msgspec.structs.replace(book, claims=tuple(claims))


def may_go(book: Book, claim: Claim) -> bool:
    """Say whether a claim may go now, without keeping anybody waiting who asked before it."""
    held, blocked = list(book.held), None
    # Whoever is ahead and could go now has its room, although its worker has not asked again yet.
    ahead = [one for one in book.waiting if _order(one) < _order(claim)]
    for one in [*(each for each in ahead if each.job_id != claim.job_id), claim]:
        goes = _fits(book, [*held, one]) and (blocked is None or _leaves(book, held, blocked, one))
        if one is claim:
            return goes
        if goes:
            held.append(one)
        elif blocked is None:
            blocked = one
    raise RuntimeError("a claim is last in its own queue")


def _leaves(book: Book, held: Iterable[Claim], first: Claim, claim: Claim) -> bool:
    """Say whether the first waits only for those who went before it asked, if a claim goes."""
    later = [one for one in held if _order(one) > _order(first)]
    return _fits(book, [*later, first, claim])


def _fits(book: Book, claims: Iterable[Claim]) -> bool:
    claims = tuple(claims)
    cores = sum(claim.cores for claim in claims)
    return cores <= book.cores and sum(one.memory_mib for one in claims) <= book.memory_mib


def _order(claim: Claim) -> tuple[float, str]:
    return claim.asked_at, claim.job_id
