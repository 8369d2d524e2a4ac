"""One explicit model for what each operation takes in, so that nobody sets what is not theirs.

The published interface takes whole things (`PATCH` a `user`); a field that an operation does not
mean to change would be changed by it. So no operation takes in what another one does, and none
takes in a thing as it is shown, but for those named here with the reason.
"""

import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

import cvf_app
from cvf_app.web.openapi_bundle import FOLDER, bundle

# Shown as they are set: no field of them is decided by anybody else.
SHOWN_AS_SET = {"system_config", "user_setting", "eav_index", "declarations", "pipeline"}
# The same thing by two ways.
TAKEN_TWICE = {"log_entry"}
READ_ONLY = {
    "new_user": {"userId", "active", "allowLogin"},
    "user_change": {"userId", "username", "allowLogin"},
    "new_access_request": {"status", "createdAt", "decidedAt", "decidedBy", "userId"},
    "approval": {"userId", "budget", "active", "allowLogin"},
}


@pytest.fixture(scope="module")
def description():
    return bundle(FOLDER / "openapi-all.json")


@pytest.fixture(scope="module")
def taken(description):
    """Return the name of what each operation takes in as JSON."""
    found = {}
    for path, item in description["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
                found[f"{method.upper()} {path}"] = name
    return found


def shown(description):
    """Return the names of what operations answer with."""
    text = repr(
        [
            response
            for item in description["paths"].values()
            for method, operation in item.items()
            if method != "parameters"
            for response in operation["responses"].values()
        ]
    )
    return set(re.findall(r"schemas/(\w+)", text))


class TestInput:
    def test_no_operation_takes_in_what_another_one_does(self, taken):
        counted = Counter(taken.values())
        twice = {name for name, number in counted.items() if number > 1}
        assert twice <= SHOWN_AS_SET | TAKEN_TWICE

    def test_none_takes_in_a_thing_as_it_is_shown(self, taken, description):
        assert set(taken.values()) & shown(description) <= SHOWN_AS_SET

    def test_what_others_decide_is_in_no_model(self, description):
        schemas = description["components"]["schemas"]
        wrong = {
            name: set(schemas[name]["properties"]) & fields for name, fields in READ_ONLY.items()
        }
        assert not any(wrong.values())

    def test_handlers_of_people_read_models_and_no_dictionaries(self):
        root = Path(inspect.getfile(cvf_app)).parent
        routes = [*root.glob("users/**/routes.py"), *root.glob("settings/routes.py")]
        read = [kind for file in routes for kind in re.findall(r"body\((\w+)", file.read_text())]
        assert len(read) >= 8
        assert "dict" not in read
