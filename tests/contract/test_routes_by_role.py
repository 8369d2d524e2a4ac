"""Every route against the published table of roles, as `docs/operations/people.md` carries it.

The page says which routes belong to which area and which roles an area lets in; the app says what
each handler declares. That the declarations are kept is tested in `integration/test_roles.py`.
"""

import re
from pathlib import Path

import pytest

from cvf_app.principal import Role
from cvf_app.web.access import is_for_operators, who_may_call
from tests.support.shared import NO_SHARED, SHARED

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "people.md"
HEADINGS = ["anonymous", "remote user", "user", "dataAdmin", "serverAdmin", "developer"]
ROLES = {role.value: role for role in Role}
# Published as open to anonymous people where the settings allow it; until the internal user
# `anonymous` exists, nobody is let in without a login.
CLOSED_YET = "record query"


def rows(text: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is this one."""
    found, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and cells[0] == first:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not set(line) <= set("|- "):
            found.append(cells)
    return found


def areas(text: str, first: str) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for cells in rows(text, first)}


def written(rule: str) -> str:
    return re.sub(r"<[^>]+>", "*", rule)


def served(app) -> dict[str, object]:
    """Return each operation (`GET /users/*`) with its handler."""
    return {
        f"{method} {written(rule.rule)}": app.view_functions[rule.endpoint]
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


@pytest.fixture(scope="module")
def table(page) -> dict[str, list[str]]:
    return areas(page, "area") | areas(page, "area of ours")


@pytest.fixture(scope="module")
def area_of(page, table) -> dict[str, str]:
    """Return the area of each operation on the page."""
    found: dict[str, str] = {}
    for routes, begin in rows(page, "routes"):
        (area,) = [name for name in table if name.startswith(begin)]
        for operation in re.findall(r"`([^`]+)`", routes):
            assert operation not in found, f"{operation} stands twice"
            found[operation] = area
    return found


def lets_in(cells: list[str]) -> frozenset[Role]:
    """Read a row: the roles that it lets in; none means that it is public."""
    said = dict(zip(HEADINGS, cells, strict=True))
    if said["anonymous"] == "yes":
        assert set(cells) == {"yes"}
        return frozenset()
    assert said["anonymous"] == "no" or "only where" in said["anonymous"]
    return frozenset(role for name, role in ROLES.items() if said[name].startswith("yes"))


class TestTable:
    def test_every_route_is_in_one_area_and_every_line_is_a_route(self, app, area_of):
        assert set(area_of) == set(served(app))

    def test_every_route_lets_in_whom_its_area_lets_in(self, app, area_of, table):
        wrong = [
            (operation, sorted(role.value for role in who_may_call(view)))
            for operation, view in served(app).items()
            if who_may_call(view) != lets_in(table[area_of[operation]])
        ]
        assert wrong == []

    def test_only_what_tools_call_asks_for_the_shared_secret(self, app):
        asked = {name for name, view in served(app).items() if is_for_operators(view)}
        assert asked == {"POST /config/maintenance"}

    def test_a_wrong_mark_would_be_found(self, area_of, table):
        assert lets_in(table[area_of["GET /users/"]]) == {Role.SERVER_ADMIN, Role.DEVELOPER}
        assert lets_in(table[area_of["POST /groups/"]]) == {Role.DATA_ADMIN, Role.DEVELOPER}
        assert lets_in(table[area_of["POST /access-requests/"]]) == frozenset()
        assert lets_in(table[area_of["POST /record/"]]) == frozenset(Role)
        assert area_of["POST /record/"] == CLOSED_YET

    def test_the_page_carries_the_published_table(self, page):
        if SHARED is None:
            pytest.skip(NO_SHARED)
        published = (SHARED / "protocols" / "cv3-api.md").read_text()
        theirs = areas(published, "area")
        assert len(theirs) == 7
        assert areas(page, "area") == theirs
