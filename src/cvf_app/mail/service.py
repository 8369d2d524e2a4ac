"""The outbox: letters are sealed and kept with the event that causes them, and sent later.

Promises: `send` returns when the letters are in the database; no mail server is asked, so an
event never fails or waits because of one. The same event twice is one letter to each recipient.
Who gets a letter and what it says can be read by nobody who has only the database.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from cvf_app import metrics
from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.errors import Conflict, NotFound, Unavailable
from cvf_app.ids import new_id
from cvf_app.mail.model import Kind, Letter, LetterId, State
from cvf_app.mail.store import KeptLetter, MailStore
from cvf_app.wire import Wire, decode, encode

KEY = "letters"
KEPT_FOR = timedelta(days=30)
TRIED_FOR = timedelta(hours=24)
_HOUR = timedelta(hours=1)
log = structlog.get_logger("cv3.mail")


class Content(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """What is sealed in a letter."""

    recipient: str
    facts: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Hour:
    """The hour of a cause: a mark of its beginning, and whether this call began it."""

    begin: str
    is_new: bool


class Mails:
    """The letters of this instance."""

    def __init__(self, store: MailStore, keys: KeyStore, clock: Clock, *, configured: bool) -> None:
        """Keep letters; `configured` says whether there is a mail server to send them to."""
        self._store = store
        self._keys = keys
        self._clock = clock
        self.configured = configured

    async def send(
        self, kind: Kind, event: str, to: Sequence[str], facts: Mapping[str, str]
    ) -> None:
        """Keep one letter for each recipient, to be sent soon; the same event twice is one letter.

        `event` names what happened (the id of a request, say) and is not told to anybody. An
        address that no mail can go to makes a letter that failed, which administrators see.

        Raises:
            ValueError: this kind needs a fact that is not given, or may not say one that is.
            Unavailable: the database or the key store does not answer.
        """
        given = frozenset(facts)
        if wrong := sorted((kind.needs - given) | (given - kind.may_say)):
            raise ValueError(f"the facts of '{kind.value}' are not these: {', '.join(wrong)}")
        for recipient in dict.fromkeys(address.strip() for address in to):
            await self._keep(kind, event, recipient, dict(facts))

    async def hour(self, cause: str) -> Hour:
        """Return the hour in which a cause is told once; a new one begins when there is none.

        Asks the database alone, so that it works while the key store is away.
        """
        now = self._clock()
        mark = new_id()
        until = (now + _HOUR).timestamp()
        taken = await self._store.take_hour(f"cause/{cause}", mark, now.timestamp(), until)
        return Hour(begin=taken, is_new=taken == mark)

    async def page(self, state: State | None, limit: int, skip: int) -> tuple[Letter, ...]:
        """Return the newest letters first; neither to whom nor what."""
        return await self._store.page(state, limit, skip)

    async def retry(self, letter_id: LetterId) -> None:
        """Try for another day to send a letter that failed, or that no mail server was there for.

        Raises:
            NotFound: there is no such letter, or it needs no help.
            Conflict: there is no mail server to send it to.
        """
        if not self.configured:
            raise Conflict("No mail server is configured: set Email.SMTP.Host.")
        now = self._clock()
        give_up_at = (now + TRIED_FOR).timestamp()
        if not await self._store.retry(letter_id, now.timestamp(), give_up_at):
            raise NotFound("There is no letter of this id that failed.")

    async def awaken(self) -> int:
        """Send what was kept within a day while no mail server was configured."""
        now = self._clock()
        return await self._store.awaken((now - TRIED_FOR).timestamp(), now.timestamp())

    async def health(self) -> str:
        """Say in a sentence how the outbox is.

        Raises:
            Unavailable: letters failed within a day or were put off; it says why.
        """
        counts = await self._store.counts()
        if not self.configured:
            kept = counts[State.NOT_CONFIGURED]
            return f"No mail server is configured. Letters kept and not sent: {kept}."
        waiting = counts[State.WAITING] + counts[State.SENDING]
        if reason := await self._store.reason():
            raise Unavailable(f"Letters that wait: {waiting}. {reason}")
        # Older ones stay in the list; nobody could make them undone here.
        if failed := await self._store.failed_since((self._clock() - TRIED_FOR).timestamp()):
            raise Unavailable(f"Letters that could not be sent since yesterday: {failed}.")
        return f"Letters that wait: {waiting}."

    async def measure(self) -> None:
        """Count the letters of the outbox by state."""
        for state, count in (await self._store.counts()).items():
            metrics.mail_outbox.labels(state.value).set(count)

    async def forget(self) -> int:
        """Remove letters older than thirty days that nobody will send, and return how many."""
        return await self._store.forget((self._clock() - KEPT_FOR).timestamp())

    async def _keep(self, kind: Kind, event: str, recipient: str, facts: dict[str, str]) -> None:
        address = recipient.casefold()
        letter_id = LetterId(await self._digest("letter", kind.value, event, address))
        now = self._clock()
        if await self._store.has(letter_id):
            return
        if kind.to_strangers and letter_id != await self._store.take_hour(
            await self._digest("hour", kind.value, address),
            letter_id,
            now.timestamp(),
            (now + _HOUR).timestamp(),
        ):
            metrics.mails.labels(kind.value, "limited").inc()
            log.info("letter_limited", kind=kind.value)
            return
        content = encode(Content(recipient=recipient, facts=facts))
        letter = KeptLetter(
            letter_id=letter_id,
            kind=kind,
            sealed=await self._keys.encrypt(KEY, content, letter_id.encode()),
            state=State.WAITING if self.configured else State.NOT_CONFIGURED,
            attempts=0,
            created_at=now.timestamp(),
            due_at=now.timestamp(),
            give_up_at=(now + TRIED_FOR).timestamp(),
            lease="",
            lapses=0,
        )
        if await self._store.add(letter):
            outcome = "kept" if self.configured else "notConfigured"
            metrics.mails.labels(kind.value, outcome).inc()
            log.info("letter_kept", kind=kind.value, letter=letter_id, outcome=outcome)

    async def open(self, letter: KeptLetter) -> Content:
        """Return to whom a letter goes and what it says.

        Raises:
            Unavailable: the key store does not answer, or the letter was tampered with.
        """
        return decode(
            await self._keys.decrypt(KEY, letter.sealed, letter.letter_id.encode()), Content
        )

    async def _digest(self, *parts: str) -> str:
        # Keyed, because addresses can be guessed; of one form whatever the key store returns.
        framed = "".join(f"{len(part)}:{part}" for part in parts)
        return hashlib.sha256((await self._keys.hmac(KEY, framed.encode())).encode()).hexdigest()
