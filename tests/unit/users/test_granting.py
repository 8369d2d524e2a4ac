"""Who may grant which role."""

import pytest

from cvf_app.errors import Forbidden
from cvf_app.principal import Role
from cvf_app.users.granting import check_grant, holds

ALLOWED = {(Role.DEVELOPER, role) for role in Role} | {
    (Role.SERVER_ADMIN, Role.SERVER_ADMIN),
    (Role.SERVER_ADMIN, Role.USER),
}


class TestCheckGrant:
    @pytest.mark.parametrize("by", Role)
    @pytest.mark.parametrize("granted", Role)
    def test_nobody_grants_more_than_they_have(self, by, granted):
        if (by, granted) in ALLOWED:
            check_grant(by, granted)
        else:
            with pytest.raises(Forbidden):
                check_grant(by, granted)


class TestHolds:
    @pytest.mark.parametrize("by", Role)
    @pytest.mark.parametrize("role", Role)
    def test_somebody_holds_what_they_may_grant(self, by, role):
        assert holds(by, role) is ((by, role) in ALLOWED)
