"""Alarms: the administrators are told of trouble that needs a person, once per cause and hour.

Promises: an alarm is in the outbox when `raise_alarm` returns, one letter for each active
administrator of people, and the same cause raises no other within the hour, whichever process it
comes from. Where the key store is the trouble nothing can be sealed: the letters then go straight
to the mail server, to the addresses that were known last, and are written down nowhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from cvf_app.errors import CafeVariomeError, Unavailable
from cvf_app.mail.model import Kind
from cvf_app.mail.service import Mails

Addresses = Callable[[], Awaitable[Sequence[str]]]
LAST_SECONDS = 5.0
log = structlog.get_logger("cv3.alarm")


class Post(Protocol):
    """What takes letters to the mail server past the outbox; see `mail/delivery.py`."""

    async def hand_over(self, kind: Kind, to: Sequence[str], facts: Mapping[str, str]) -> None:
        """Send a letter to each of these, now."""
        ...


class Alerts:
    """What tells administrators of trouble."""

    def __init__(self, mails: Mails, post: Post, administrators: Addresses) -> None:
        """Write through this outbox to the addresses of the administrators."""
        self._mails = mails
        self._post = post
        self._administrators = administrators
        self._known: tuple[str, ...] = ()
        self._noted: dict[str, Mapping[str, str]] = {}

    async def raise_alarm(self, cause: str, facts: Mapping[str, str]) -> None:
        """Tell every active administrator, unless the same cause was told within the hour.

        `cause` is a word; `facts` are `explanation` and, where there are some, `details` and
        `advice`.

        Raises:
            Unavailable: the database does not answer, or nobody could be told.
        """
        log.critical("alarm", cause=cause, explanation=facts.get("explanation", ""))
        hour = await self._mails.hour(cause)
        told = {"cause": cause, **facts}
        try:
            self._known = tuple(await self._administrators())
            await self._mails.send(Kind.TROUBLE, f"{cause}/{hour.begin}", self._known, told)
        except Unavailable as fault:
            if not hour.is_new or not self._known or not self._mails.configured:
                raise
            log.warning("alarm_goes_unsealed", cause=cause, reason=fault.sentence)
            await self._post.hand_over(Kind.TROUBLE, self._known, told)

    def note(self, cause: str, facts: Mapping[str, str]) -> None:
        """Remember an alarm to be raised soon, for those who cannot wait."""
        self._noted.setdefault(cause, facts)

    async def raise_noted(self) -> None:
        """Raise what was noted; what cannot be raised now is tried again at the next call."""
        for cause, facts in tuple(self._noted.items()):
            try:
                await self.raise_alarm(cause, facts)
            except CafeVariomeError as fault:
                log.warning("alarm_waits", cause=cause, reason=fault.sentence)
            else:
                self._noted.pop(cause, None)

    async def last_words(self, dead: Sequence[str]) -> None:
        """Raise what must be told before this process ends; `dead` loops are why it does."""
        for loop in dead:
            self.note(
                f"loop ended: {loop}",
                {
                    "explanation": (
                        f"The background work '{loop}' of a process ended by a fault. The process "
                        "is started again; the log has the details."
                    ),
                    "advice": "If this comes again, send the log to the developers.",
                },
            )
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.raise_noted()
        except TimeoutError:
            log.warning("last_alarms_lost", causes=sorted(self._noted))

    async def learn(self) -> None:
        """Remember the administrators' addresses, for the day when the key store is away."""
        try:
            self._known = tuple(await self._administrators())
        except Unavailable as fault:
            log.info("administrators_unknown", reason=fault.sentence)
