"""The interface description against the app: routes both ways, structs both ways, and itself."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate
from quart import Quart
from quart.typing import TestClientProtocol as QuartClient

import cvf_app
from cvf_app.web.access import is_for_operators, who_may_call
from cvf_app.web.errors import install
from cvf_app.web.openapi import bp
from cvf_app.web.openapi_bundle import FOLDER, bundle
from cvf_app.wire import Wire

_METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return bundle(FOLDER / "openapi-all.json")


def written(path: str) -> str:
    """Spell a route as the description does: published twice, described once."""
    braces = re.sub(r"<(?:\w+(?:\([^)]*\))?:)?(\w+)>", r"{\1}", path)
    return re.sub(r"^/source/", "/sources/", braces)


def served(app: Quart) -> dict[tuple[str, str], str]:
    return {
        (written(rule.rule), method.lower()): rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method.lower() in _METHODS and rule.endpoint != "static"
    }


def operations(description: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path, method): operation
        for path, item in description["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    }


def structs() -> dict[str, type[Wire]]:
    modules = [
        module.name
        for module in pkgutil.walk_packages(cvf_app.__path__, "cvf_app.")
        if module.name.split(".")[1] not in ("console", "local", "app", "__main__")
    ]
    return {
        name: kind
        for module in modules
        for name, kind in vars(importlib.import_module(module)).items()
        if inspect.isclass(kind) and issubclass(kind, Wire)
    }


def schemas_within(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield value
        for inner in value.values():
            yield from schemas_within(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from schemas_within(inner)


class TestRoutes:
    def test_every_route_is_described(self, app: Quart, description: dict[str, Any]) -> None:
        assert set(served(app)) - set(operations(description)) == set()

    def test_everything_described_is_a_route(self, app: Quart, description: dict[str, Any]) -> None:
        # The metrics are served only where the configuration asks for them.
        optional = {("/metrics", "get")}
        assert set(operations(description)) - set(served(app)) <= optional

    def test_the_description_says_who_may_call(
        self, app: Quart, description: dict[str, Any]
    ) -> None:
        wrong = []
        for where, operation in operations(description).items():
            endpoint = served(app).get(where)
            if endpoint is None:
                continue
            view = app.view_functions[endpoint]
            roles = who_may_call(view)
            if bool(roles or is_for_operators(view)) != bool(operation["security"]):
                wrong.append(where)
            if is_for_operators(view) != (operation["security"] == [{"sharedSecret": []}]):
                wrong.append(where)
            told = set(re.findall(r"`(\w+)`", operation["description"].partition("Roles:")[2]))
            if told and told != {role.value for role in roles}:
                wrong.append(where)
        assert wrong == []


class TestDescription:
    @pytest.mark.parametrize("top", sorted(FOLDER.glob("openapi-*.json")), ids=lambda top: top.name)
    def test_each_top_file_is_valid_openapi(self, top: Any) -> None:
        document = bundle(top)
        validate(document)
        assert ".json" not in json.dumps(list(_references(document)))

    def test_no_file_is_left_over(self) -> None:
        reached: set[str] = set()
        for top in FOLDER.glob("openapi-*.json"):
            document = bundle(top)
            for parts in document["components"].values():
                reached |= set(parts)
        files = {file.stem for file in (FOLDER / "components").rglob("*.json")}
        assert files - reached == set()

    def test_every_operation_has_a_name_of_its_own_a_summary_and_an_error(
        self, description: dict[str, Any]
    ) -> None:
        found = operations(description)
        names = [operation["operationId"] for operation in found.values()]
        assert len(names) == len(set(names))
        assert all(operation["summary"] and operation["tags"] for operation in found.values())
        guarded = [operation for operation in found.values() if operation["security"]]
        assert all({"401", "503"} <= set(operation["responses"]) for operation in guarded)

    def test_no_object_is_without_properties(self, description: dict[str, Any]) -> None:
        empty = [
            schema
            for schema in schemas_within(description)
            if not schema.get("properties")
            and not isinstance(schema.get("additionalProperties"), dict)
        ]
        assert empty == []

    def test_what_we_take_in_is_closed(self, description: dict[str, Any]) -> None:
        # A token request is open, since clients of OpenID send more than we read.
        open_ones = []
        components = description["components"]["schemas"]
        for where, operation in operations(description).items():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                name = media["schema"].get("$ref", "").rpartition("/")[2]
                schema = components[name]
                if (
                    schema.get("type") == "object"
                    and schema.get("additionalProperties") is not False
                ):
                    open_ones.append(where)
        assert open_ones == [("/auth/token", "post")]


class TestStructs:
    def test_each_schema_agrees_with_the_struct_of_its_title(
        self, description: dict[str, Any]
    ) -> None:
        known, wrong, compared = structs(), [], 0
        for name, schema in description["components"]["schemas"].items():
            kind = known.get(schema.get("title", ""))
            if kind is None:
                continue
            compared += 1
            _, components = msgspec.json.schema_components([kind], ref_template="{name}")
            ours = components[kind.__name__]
            if set(ours["properties"]) != set(schema["properties"]):
                wrong.append((name, "fields"))
            if set(ours["required"]) != set(schema.get("required", ())):
                wrong.append((name, "required"))
            if ours.get("additionalProperties", True) != schema.get("additionalProperties", True):
                wrong.append((name, "closed"))
            if inspect.cleandoc(kind.__doc__ or "") != schema["description"]:
                wrong.append((name, "description"))
        assert wrong == []
        assert compared > 30


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


@pytest.fixture
def client() -> QuartClient:
    spare = Quart(__name__)
    spare.register_blueprint(bp)
    install(spare)
    return spare.test_client()


class TestPage:
    async def test_the_bundled_file_is_served(
        self, client: QuartClient, description: dict[str, Any]
    ) -> None:
        answer = await client.get("/openapi/openapi-all.json")
        assert await answer.get_json() == description

    async def test_the_files_are_served_as_they_are(self, client: QuartClient) -> None:
        answer = await client.get("/openapi/components/schemas/error_body.json")
        assert (
            await answer.get_data()
            == (FOLDER / "components" / "schemas" / "error_body.json").read_bytes()
        )

    @pytest.mark.parametrize(
        "path",
        ["/openapi/../pyproject.toml", "/openapi/..%2fpyproject.toml", "/openapi/components",
         "/docs/swagger-ui.js", "/docs/..%2f__init__.py"],
    )  # fmt: skip
    async def test_nothing_else_is_served(self, client: QuartClient, path: str) -> None:
        assert (await client.get(path)).status_code == 404

    async def test_the_page_loads_only_parts_that_are_here(self, client: QuartClient) -> None:
        answer = await client.get("/docs")
        page = await answer.get_data(as_text=True)
        parts = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(parts) == 5
        for part in [*parts, "/docs/oauth2-redirect.html", "/docs/oauth2-redirect.js"]:
            assert (await client.get(part)).status_code == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "http" not in policy
