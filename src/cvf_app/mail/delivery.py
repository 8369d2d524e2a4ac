"""The postman: takes letters that are due to the mail server, and writes down how it went.

Promises: a letter is in one hand at a time (a claim with a lease). It counts as sent when the mail
server has taken it; if the process dies between that and the note of it, the letter goes out once
more, and never a third time. A mail server that is away delays letters by a minute, five, fifteen,
then an hour each, for a day; when it is back all that waited for it goes at once. What cannot be
sent is kept as failed, with the reason. One letter at a time, each bounded in time: nothing else
waits for the mail server.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from cvf_app import metrics
from cvf_app.backends.mail import LetterRefused, LoginRefused, MailDown, Relay, Session
from cvf_app.clock import Clock
from cvf_app.errors import Conflict, Invalid, Unavailable
from cvf_app.ids import new_id
from cvf_app.mail.model import Delivered, Kind, LetterId, State
from cvf_app.mail.service import Mails
from cvf_app.mail.store import KeptLetter, MailStore
from cvf_app.mail.writing import Writer

# Longer than a delivery may take, so that a lease lapses only when its holder is gone.
LEASE = timedelta(seconds=120)
DELAYS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60))
AT_ONCE = 20
_MOST_LAPSES = 1
_NO_SERVER = "No mail server is configured: set Email.SMTP.Host."
_HANDED_TWICE = (
    "The process ended twice while it handed this letter over, so it may have arrived; "
    "it was not sent a third time."
)
log = structlog.get_logger("cv3.mail")


class Delivery:
    """The way of letters from the outbox to the mail server."""

    def __init__(
        self, mails: Mails, store: MailStore, relay: Relay, writer: Writer, clock: Clock
    ) -> None:
        """Send the letters of this outbox."""
        self._mails = mails
        self._store = store
        self._relay = relay
        self._writer = writer
        self._clock = clock
        self._awake = False
        self._was_down = False
        self._unmarked: set[LetterId] = set()

    async def work(self) -> None:
        """Send what is due now; called again and again.

        Raises:
            LoginRefused: the mail server does not accept our login; the letters wait.
            Unavailable: the database does not answer.
        """
        if not self._mails.configured:
            return
        if not self._awake:
            await self._mails.awaken()
            self._awake = True
        await self._take_back()
        if due := await self._store.due(self._now(), AT_ONCE):
            await self._send(due)

    async def test(self, recipient: str) -> Delivered:
        """Send a letter past the outbox, now, and tell how the mail server took it.

        Raises:
            Conflict: there is no mail server.
            Invalid: this is no address.
            MailDown: the server takes nothing from us.
            LetterRefused: it does not take this letter.
        """
        if not self._mails.configured:
            raise Conflict(_NO_SERVER)
        message = self._writer.write(Kind.TEST, LetterId(new_id()), recipient, {}, self._clock())
        async with self._relay.session() as session:
            await session.deliver(message, self._writer.envelope_sender, recipient)
            return Delivered(encryption=session.tls, logged_in=session.logged_in)

    async def hand_over(self, kind: Kind, to: Sequence[str], facts: Mapping[str, str]) -> None:
        """Send a letter to each of these past the outbox, now; nothing is kept of it.

        Raises:
            MailDown: the server takes nothing from us.
        """
        async with self._relay.session() as session:
            for recipient in to:
                letter_id = LetterId(new_id())
                message = self._writer.write(kind, letter_id, recipient, facts, self._clock())
                try:
                    await session.deliver(message, self._writer.envelope_sender, recipient)
                except LetterRefused as fault:
                    log.warning("letter_refused", letter=letter_id, reason=fault.sentence)

    async def _take_back(self) -> None:
        for letter in await self._store.lapsed(self._now()):
            if letter.letter_id in self._unmarked:
                # It was taken from our own hands, and the database was away when we noted it.
                await self._end(letter, State.SENT)
                self._unmarked.discard(letter.letter_id)
            elif letter.lapses >= _MOST_LAPSES:
                await self._end(letter, State.FAILED, _HANDED_TWICE)
            else:
                await self._store.take_back(letter, self._now())

    async def _send(self, due: tuple[KeptLetter, ...]) -> None:
        left = list(due)
        try:
            async with self._relay.session() as session:
                if self._was_down:
                    log.info("mail_server_is_back")
                    await self._store.release(self._now())
                    self._was_down = False
                while left:
                    letter = await self._store.claim(left[0], self._now(LEASE))
                    if letter is not None:
                        left[0] = letter
                        await self._deliver(session, letter)
                    left.pop(0)
        except MailDown as fault:
            log.warning("mail_server_down", reason=fault.sentence, waiting=len(left))
            self._was_down = True
            # A letter at which the server broke off may be the cause: it goes after the others, and
            # is not hurried when the server is back.
            broke = left[0].state is State.SENDING
            for letter in (*left[1:], left[0]):
                await self._postpone(letter, fault.sentence, held=not (broke and letter is left[0]))
            if isinstance(fault, LoginRefused):
                raise

    async def _deliver(self, session: Session, letter: KeptLetter) -> None:
        """Hand one letter over.

        Raises:
            MailDown: the mail server takes nothing more.
        """
        try:
            content = await self._mails.open(letter)
        except Unavailable as fault:
            await self._postpone(letter, fault.sentence, held=False)
            return
        created = datetime.fromtimestamp(letter.created_at, UTC)
        try:
            message = self._writer.write(
                letter.kind, letter.letter_id, content.recipient, content.facts, created
            )
            await session.deliver(message, self._writer.envelope_sender, content.recipient)
        except Invalid as fault:
            await self._end(letter, State.FAILED, fault.sentence)
        except LetterRefused as fault:
            if fault.for_good:
                await self._end(letter, State.FAILED, fault.sentence)
            else:
                await self._postpone(letter, fault.sentence, held=False)
        else:
            self._unmarked.add(letter.letter_id)
            await self._end(letter, State.SENT)
            self._unmarked.discard(letter.letter_id)

    async def _postpone(self, letter: KeptLetter, reason: str, *, held: bool) -> None:
        if self._now() >= letter.give_up_at:
            await self._end(letter, State.FAILED, f"Tried for a day. {reason}")
            return
        delay = DELAYS[min(letter.attempts, len(DELAYS) - 1)]
        due = min(self._now(delay), letter.give_up_at)
        if await self._store.postpone(letter, due, reason, held=held):
            metrics.mails.labels(letter.kind.value, "postponed").inc()
            log.info("letter_postponed", letter=letter.letter_id, reason=reason)

    async def _end(self, letter: KeptLetter, state: State, reason: str = "") -> None:
        if await self._store.end(letter, state, self._now(), reason):
            metrics.mails.labels(letter.kind.value, state.value).inc()
            log.info("letter_ended", letter=letter.letter_id, state=state.value, reason=reason)

    def _now(self, later: timedelta = timedelta()) -> float:
        return (self._clock() + later).timestamp()
