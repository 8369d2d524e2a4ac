"""Who may grant which role, and so whose role somebody holds; pure."""

from cvf_app.errors import Forbidden
from cvf_app.principal import Role


def check_grant(by: Role, granted: Role) -> None:
    """Let an administrator grant plain use and what they have themselves; a developer, all.

    Raises:
        Forbidden: this role may not grant that one.
    """
    may_grant = by is Role.DEVELOPER or (
        by is Role.SERVER_ADMIN and granted in {Role.USER, Role.SERVER_ADMIN}
    )
    if not may_grant:
        raise Forbidden("You can grant only a role that you have yourself.")


def holds(by: Role, role: Role) -> bool:
    """Say whether somebody of one role holds another: a developer all, others their own and use."""
    try:
        check_grant(by, role)
    except Forbidden:
        return False
    return True
