"""Letters to people: the kinds there are, what each may say, and how one stands in the outbox.

Promises: what a kind may say is listed here; a fact outside the list is refused, so that free
text of a stranger cannot reach a letter that was not meant to carry it. Nothing shown of a letter
tells to whom it goes or what it says.
"""

from enum import Enum
from typing import Annotated, NewType

import msgspec

from cvf_app.wire import Wire

LetterId = NewType("LetterId", str)


class Kind(Enum):
    """The kinds of letters; each has a template of its name."""

    ACCESS_REQUEST_RECEIVED = "access-request-received"
    ACCESS_REQUEST_WAITING = "access-request-waiting"
    ACCESS_REQUEST_APPROVED = "access-request-approved"
    ACCESS_REQUEST_DENIED = "access-request-denied"
    LOGIN_PERMITTED = "login-permitted"
    LOGIN_REVOKED = "login-revoked"
    ACCOUNT_CREATED = "account-created"
    TROUBLE = "trouble"
    TEST = "test"

    @property
    def needs(self) -> frozenset[str]:
        """The facts without which this letter says nothing."""
        return _NEEDS.get(self, frozenset())

    @property
    def may_say(self) -> frozenset[str]:
        """All the facts that this letter may carry."""
        return self.needs | _MAY_SAY.get(self, frozenset())

    @property
    def to_strangers(self) -> bool:
        """Whether anybody can cause it to any address: then at most one an hour goes there."""
        return self is Kind.ACCESS_REQUEST_RECEIVED


_NEEDS = {
    # Told to administrators only: who asks, in the words of who asks.
    Kind.ACCESS_REQUEST_WAITING: frozenset({"name", "email"}),
    Kind.LOGIN_PERMITTED: frozenset({"username"}),
    Kind.LOGIN_REVOKED: frozenset({"username"}),
    Kind.ACCOUNT_CREATED: frozenset({"username"}),
    Kind.TROUBLE: frozenset({"cause", "explanation"}),
}
# `link` is an address of ours where the reader goes on; no letter carries a password.
_MAY_SAY = {
    Kind.ACCESS_REQUEST_WAITING: frozenset({"affiliation", "justification", "link"}),
    Kind.ACCESS_REQUEST_APPROVED: frozenset({"username", "link"}),
    # The words of the administrator who decided, never those of who asked.
    Kind.ACCESS_REQUEST_DENIED: frozenset({"reason"}),
    Kind.LOGIN_PERMITTED: frozenset({"link"}),
    Kind.ACCOUNT_CREATED: frozenset({"link"}),
    Kind.TROUBLE: frozenset({"details", "advice"}),
}


class State(Enum):
    """How a letter stands."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    NOT_CONFIGURED = "notConfigured"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self in {State.SENT, State.FAILED}


class Letter(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """A letter as administrators see it: neither to whom nor what; times are Unix seconds."""

    letter_id: LetterId
    kind: Kind
    state: State
    attempts: int
    created_at: int
    due_at: int | None
    ended_at: int | None
    reason: str


class Trial(Wire, frozen=True, kw_only=True):
    """To whom a letter of trial goes."""

    to: Annotated[str, msgspec.Meta(min_length=3, max_length=254)]


class Delivered(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """How the mail server took a letter; `encryption` is empty where there was none."""

    encryption: str
    logged_in: bool
