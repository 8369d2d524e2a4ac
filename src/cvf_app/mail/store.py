"""Letters in MongoDB, one document each, and the hours in which one of a kind has gone already.

A letter's `_id` is a keyed digest of its kind, event and recipient, so the database refuses the
same letter a second time and nobody can find out by trying who gets one. `sealed` holds recipient
and facts, and is emptied when the letter is sent. Every change is one `update_one` with what must
still be true in its filter: `lease` is another one after each, so only who saw a letter as it is
changes it.
"""

from dataclasses import dataclass, replace

from cvf_app.backends.mongo import Document, Index, Mongo
from cvf_app.backends.sealed_documents import SealedDocuments
from cvf_app.errors import Conflict
from cvf_app.ids import new_id
from cvf_app.mail.model import Kind, Letter, LetterId, State

LETTERS = "letters"
HOURS = "letter_hours"
INDICES = (Index((("state", 1), ("dueAt", 1))), Index((("createdAt", 1),)))
_FIELDS = {"sealed": 0}


@dataclass(frozen=True, kw_only=True)
class KeptLetter:
    """A letter as stored; times are seconds with fractions."""

    letter_id: LetterId
    kind: Kind
    sealed: str
    state: State
    attempts: int
    created_at: float
    due_at: float
    give_up_at: float
    lease: str
    lapses: int


class MailStore:
    """The collections of letters and of hours."""

    def __init__(self, mongo: Mongo) -> None:
        """Keep letters in this database."""
        self._letters = mongo.collection(LETTERS)
        self.sealed = SealedDocuments(self._letters)
        self._hours = mongo.collection(HOURS)

    async def prepare(self) -> None:
        """Make the indices; when the database is new."""
        await self._letters.create_indices(INDICES)

    async def add(self, letter: KeptLetter) -> bool:
        """Keep a new letter; False when it is there already."""
        document: Document = {
            "_id": letter.letter_id,
            "kind": letter.kind.value,
            "sealed": letter.sealed,
            "state": letter.state.value,
            "attempts": letter.attempts,
            "createdAt": letter.created_at,
            "dueAt": letter.due_at,
            "giveUpAt": letter.give_up_at,
            "lease": letter.lease,
            "leaseUntil": 0.0,
            "lapses": letter.lapses,
            "held": False,
            "endedAt": None,
            "reason": "",
        }
        try:
            await self._letters.insert(document)
        except Conflict:
            return False
        return True

    async def has(self, letter_id: LetterId) -> bool:
        """Say whether a letter was kept before, sent or not."""
        return await self._letters.find_one({"_id": letter_id}, {"_id": 1}) is not None

    async def take_hour(self, key: str, mark: str, now: float, until: float) -> str:
        """Mark a key until a moment, unless it is marked; return the mark that it has then."""
        try:
            await self._hours.insert({"_id": key, "mark": mark, "until": until})
        except Conflict:
            over = {"_id": key, "until": {"$lte": now}}
            if await self._hours.update_one(over, {"$set": {"mark": mark, "until": until}}):
                return mark
            found = await self._hours.find_one({"_id": key})
            # Gone only when the clean-up of another host took it just now.
            return mark if found is None else str(found["mark"])
        return mark

    async def due(self, now: float, limit: int) -> tuple[KeptLetter, ...]:
        """Return letters to be sent now, the longest due first."""
        waiting = {"state": State.WAITING.value, "dueAt": {"$lte": now}}
        found = await self._letters.find(waiting, sort=[("dueAt", 1)], limit=limit)
        return tuple(_read(each) for each in found)

    async def lapsed(self, now: float) -> tuple[KeptLetter, ...]:
        """Return letters that somebody began to send and never said how it went."""
        found = await self._letters.find(
            {"state": State.SENDING.value, "leaseUntil": {"$lte": now}}
        )
        return tuple(_read(each) for each in found)

    async def claim(self, seen: KeptLetter, until: float) -> KeptLetter | None:
        """Take a letter that is still as it was seen, and return it as it is then."""
        taken = replace(seen, state=State.SENDING, lease=new_id())
        change = {"state": taken.state.value, "lease": taken.lease, "leaseUntil": until}
        return taken if await self._changed(seen, change) else None

    async def take_back(self, seen: KeptLetter, now: float) -> bool:
        """Let a letter whose sender is gone wait again, and count that."""
        change = {
            "state": State.WAITING.value,
            "lease": new_id(),
            "dueAt": now,
            "lapses": seen.lapses + 1,
            "attempts": seen.attempts + 1,
        }
        return await self._changed(seen, change)

    async def postpone(self, letter: KeptLetter, due_at: float, why: str, *, held: bool) -> bool:
        """Make a letter that is still as given wait until a moment, after one more attempt.

        `held`: it waits for the mail server itself, see `release`.
        """
        waiting = {
            "state": State.WAITING.value,
            "lease": new_id(),
            "dueAt": due_at,
            "reason": why,
            "held": held,
            "attempts": letter.attempts + 1,
        }
        return await self._changed(letter, waiting)

    async def release(self, now: float) -> int:
        """Make all letters due that waited for the mail server, since it is back."""
        where = {"state": State.WAITING.value, "held": True}
        return await self._letters.update_many(where, {"$set": {"held": False, "dueAt": now}})

    async def retry(self, letter_id: LetterId, now: float, give_up_at: float) -> bool:
        """Make a letter due that failed or was never tried; False when there is no such."""
        idle = [State.FAILED.value, State.NOT_CONFIGURED.value]
        again = {
            "state": State.WAITING.value,
            "lease": new_id(),
            "dueAt": now,
            "giveUpAt": give_up_at,
            "lapses": 0,
            "endedAt": None,
        }
        where = {"_id": letter_id, "state": {"$in": idle}}
        return bool(await self._letters.update_one(where, {"$set": again}))

    async def end(self, letter: KeptLetter, state: State, at: float, reason: str = "") -> bool:
        """End a letter that is still as given; what a letter said is not kept when it is sent."""
        ended: Document = {
            "state": state.value,
            "lease": new_id(),
            "endedAt": at,
            "reason": reason,
            "attempts": letter.attempts + 1,
        }
        if state is State.SENT:
            ended["sealed"] = ""
        return await self._changed(letter, ended)

    async def awaken(self, created_after: float, now: float) -> int:
        """Send what was kept while no mail server was configured, if it is not too old."""
        young = {"state": State.NOT_CONFIGURED.value, "createdAt": {"$gt": created_after}}
        return await self._letters.update_many(
            young, {"$set": {"state": State.WAITING.value, "dueAt": now}}
        )

    async def page(self, state: State | None, limit: int, skip: int) -> tuple[Letter, ...]:
        """Return the newest letters first, without what they say."""
        where = {} if state is None else {"state": state.value}
        order = [("createdAt", -1), ("_id", 1)]
        found = await self._letters.find(where, sort=order, limit=limit, skip=skip, fields=_FIELDS)
        return tuple(_shown(each) for each in found)

    async def counts(self) -> dict[State, int]:
        """Return how many letters there are in each state."""
        return {state: await self._letters.count({"state": state.value}) for state in State}

    async def failed_since(self, moment: float) -> int:
        """Return how many letters failed after a moment."""
        where = {"state": State.FAILED.value, "endedAt": {"$gt": moment}}
        return await self._letters.count(where)

    async def reason(self) -> str:
        """Return why a letter that was tried still waits; empty when none does."""
        where = {"state": State.WAITING.value, "attempts": {"$gt": 0}}
        found = await self._letters.find(where, sort=[("dueAt", 1)], limit=1, fields={"reason": 1})
        return str(found[0]["reason"]) if found else ""

    async def forget(self, before: float) -> int:
        """Remove letters of before a moment that nobody will send, and the hours that are over."""
        gone = [State.SENT.value, State.FAILED.value, State.NOT_CONFIGURED.value]
        await self._hours.delete_many({"until": {"$lt": before}})
        return await self._letters.delete_many(
            {"state": {"$in": gone}, "createdAt": {"$lt": before}}
        )

    async def _changed(self, seen: KeptLetter, change: Document) -> bool:
        where = {"_id": seen.letter_id, "state": seen.state.value, "lease": seen.lease}
        return bool(await self._letters.update_one(where, {"$set": change}))


def _read(found: Document) -> KeptLetter:
    return KeptLetter(
        letter_id=LetterId(found["_id"]),
        kind=Kind(found["kind"]),
        sealed=found["sealed"],
        state=State(found["state"]),
        attempts=found["attempts"],
        created_at=float(found["createdAt"]),
        due_at=float(found["dueAt"]),
        give_up_at=float(found["giveUpAt"]),
        lease=found["lease"],
        lapses=found["lapses"],
    )


def _shown(found: Document) -> Letter:
    state = State(found["state"])
    return Letter(
        letter_id=LetterId(found["_id"]),
        kind=Kind(found["kind"]),
        state=state,
        attempts=found["attempts"],
        created_at=int(found["createdAt"]),
        due_at=int(found["dueAt"]) if state is State.WAITING else None,
        ended_at=None if found["endedAt"] is None else int(found["endedAt"]),
        reason=found["reason"],
    )
