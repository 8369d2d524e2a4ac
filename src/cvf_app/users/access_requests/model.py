"""A request for access: what a stranger says of themselves, and what became of it."""

from enum import Enum
from typing import Annotated, NewType

import msgspec

from cvf_app.principal import Role, UserId
from cvf_app.users.model import END, Email, Line, Username
from cvf_app.wire import Wire

AccessRequestId = NewType("AccessRequestId", str)
GivenName = Annotated[
    str, msgspec.Meta(pattern=rf"^[^\x00-\x1f\x7f\u2028\u2029]*{END}", min_length=1, max_length=100)
]
# Free text has lines and tabs, and nothing else that a terminal would obey.
Text = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*{END}", min_length=1, max_length=4000
    ),
]
Reason = Annotated[
    str, msgspec.Meta(pattern=rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*{END}", max_length=1000)
]
RequestIdGiven = Annotated[str, msgspec.Meta(max_length=64)]


class Status(Enum):
    """What became of a request; `approving` is an approval that has begun."""

    WAITING = "waiting"
    APPROVING = "approving"
    APPROVED = "approved"
    DENIED = "denied"

    @property
    def decided(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in {Status.APPROVED, Status.DENIED}


class NewAccessRequest(Wire, frozen=True, kw_only=True):
    """A request for access as sent; `requestId` is passed over, since anybody may send one."""

    first_name: GivenName
    last_name: GivenName
    email: Email
    affiliation: Line
    justification: Text
    request_id: RequestIdGiven | None = None


class AccessRequest(Wire, frozen=True, kw_only=True):
    """A request for access; times are Unix seconds, `userId` is who came of it."""

    request_id: AccessRequestId
    first_name: str
    last_name: str
    email: str
    affiliation: str
    justification: str
    status: Status
    created_at: int
    decided_at: int | None = None
    decided_by: UserId | None = None
    user_id: UserId | None = None


class AskedAccess(Wire, frozen=True, kw_only=True):
    """What somebody who asks for access learns: the same whether they have asked before or not."""

    status: str
    request_id: AccessRequestId


class Approval(Wire, frozen=True, kw_only=True):
    """How a request is approved: the login name (else the address) and the role (else `user`)."""

    username: Username | None = None
    role: Role = Role.USER


class Denial(Wire, frozen=True, kw_only=True):
    """Why a request is denied, in words for the one who asked; may be left out."""

    reason: Reason = ""


class Approved(Wire, frozen=True, kw_only=True):
    """An approval; `initialPassword` is there if we made the account, and is told this once."""

    status: str
    user_id: UserId
    username: str
    initial_password: str | None = None
