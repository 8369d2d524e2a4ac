"""What is told to listeners, and what travels between processes.

`Update` and `Notice` go to listeners. `Change` and `Lost` travel through Redis: they hold ids and,
of a deletion, to whom it may be told, and never data.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, cast

from cvf_app.principal import Principal, Role, UserId
from cvf_app.wire import Wire


class Operation(Enum):
    """What happened to a thing."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class Update(Wire, frozen=True, kw_only=True):
    """What happened: `data` is the thing as `GET` shows it to you; of a deletion, a list of ids."""

    interface: str
    operation: Operation
    data: Any
    id: str


class Notice(Wire, frozen=True, kw_only=True):
    """A word about the stream itself; after `reset` load anew what you show."""

    event: Literal["ready", "reset", "alive", "dropped", "closed"]
    reason: str
    id: str | None = None


class Hello(Wire, frozen=True, kw_only=True):
    """The first message of a websocket whose request had no `Authorization` header."""

    token: str
    last_event_id: str = ""


class Audience(Wire, frozen=True, kw_only=True):
    """To whom a deletion may be told: these users, and everybody with one of these roles."""

    users: tuple[UserId, ...] = ()
    roles: tuple[Role, ...] = ()

    def holds(self, listener: Principal) -> bool:
        """Say whether somebody belongs to it."""
        return listener.role in self.roles or listener.user_id in self.users


class Change(Wire, frozen=True, kw_only=True, tag_field="kind", tag="change"):
    """Something that happened to things of one interface; an audience only with a deletion."""

    interface: str
    operation: Operation
    ids: tuple[str, ...]
    audience: Audience | None = None


class Lost(Wire, frozen=True, kw_only=True, tag_field="kind", tag="lost"):
    """Changes may have gone untold."""


Announcement = Change | Lost
# A union is a kind for reading, though its type is none for the checker.
ANNOUNCEMENT = cast("type[Announcement]", Announcement)

View = Callable[[Principal], Wire | None]
"""How a thing looks to somebody; nothing to whom `GET` would answer that there is none."""


@dataclass(frozen=True)
class Interface:
    """What the updates must know of one kind of thing.

    `look` is one look-up for all listeners, however many there are. `audience` says of things that
    are about to go who may know of them; an id that is missing in the answer is told to nobody.
    """

    look: Callable[[str], Awaitable[View | None]]
    audience: Callable[[tuple[str, ...]], Awaitable[Mapping[str, Audience]]]


@dataclass(frozen=True)
class Standing:
    """What somebody may do now; `reach` is anything that differs when they see other things."""

    role: Role
    reach: object


@dataclass(frozen=True)
class Admitted:
    """Who opens a stream, and until when (epoch seconds) their token is good."""

    principal: Principal
    expires_at: float


Admit = Callable[[str], Awaitable[Admitted]]
Standings = Callable[[frozenset[UserId]], Awaitable[Mapping[UserId, Standing]]]
