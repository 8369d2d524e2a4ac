"""Who asks: the person behind a request, settled before a handler runs.

Roles are a set of rights, not a ladder: a data admin may what a server admin may not.
"""

from datetime import datetime
from enum import Enum
from typing import NewType

from cvf_app.wire import Wire

UserId = NewType("UserId", str)


class Role(Enum):
    """The four published roles of a local user."""

    DEVELOPER = "developer"
    DATA_ADMIN = "dataAdmin"
    SERVER_ADMIN = "serverAdmin"
    USER = "user"


class Principal(Wire, frozen=True, kw_only=True):
    """The local user on whose behalf a request or a job runs; `issued_at`: of a request's token."""

    user_id: UserId
    username: str
    role: Role
    issued_at: datetime | None = None
