"""Settings, maintenance, clean-up and the log of front ends, on a real node."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.operating import maintain, shared_secret
from cvf_app.principal import Role
from cvf_app.settings.model import PARTS
from tests.support import nodes
from tests.support.documents import NOW

ADMINS = ("dataAdmin", "serverAdmin", "developer")
OWNER = {
    "address": "1 Long Road",
    "email": "owner@example.org",
    "name": "The Owners",
    "description": "",
    "logo": "",
    "url": "https://example.org/",
    "organizationId": "ORG-1",
}
BEACON = {
    "welcomeUrl": "https://example.org/",
    "alternativeUrl": "https://example.org/other",
    "beaconId": "org.example",
    "apiVersion": "v2.0",
    "description": "A Beacon.",
    "environment": "test",
    "createDateTime": "2026-01-01T00:00:00Z",
    "updateDateTime": "2026-01-02T00:00:00.5+01:00",
}
VALUES = {
    "beaconSettings": BEACON,
    "ownershipSettings": OWNER,
    "discoverySettings": {"defaultBudget": 50, "capability": {"hpo": True}},
    "instanceSettings": {"name": "Clinic One", "url": "https://one.example.org"},
    "federationSettings": {"anonymousAccess": True, "defaultTTL": 3},
    "nexusEnabled": True,
}


@pytest.fixture(scope="module")
async def node(tmp_path_factory, mongo_url, redis_url):
    async with nodes.node(tmp_path_factory.mktemp("settings"), mongo_url, redis_url) as made:
        for role in Role:
            await made.person(role.value, role.value)
        yield made


@pytest.fixture(scope="module")
async def second(node):
    """Another process of the same instance."""
    async with nodes.beside(node) as made:
        yield made


@pytest.fixture(scope="module")
async def secret(node):
    """The secret that was made at the installation."""
    return await shared_secret(node.config)


def shown(secret, timestamp=None):
    moment = str(int(time.time())) if timestamp is None else timestamp
    return {"Authorization": f"Bearer {secret}", "X-Timestamp": moment}


async def set_maintenance(node, secret, *, on, **more):
    sent = {"maintenance": on} | more
    return await node.call("POST", "/config/maintenance", None, json=sent, headers=shown(secret))


async def until(node, status, ask):
    """Wait until this process has followed a change."""
    async with asyncio.timeout(10):
        while (answer := await ask(node)).status != status:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.1)
    return answer


class TestGlobal:
    @pytest.mark.parametrize("part", PARTS)
    @pytest.mark.parametrize("who", ADMINS)
    async def test_each_part_is_for_the_roles_of_the_table(self, node, part, who):
        may = Role(who) in PARTS[part]
        answer = await node.call("POST", "/config/global", who, json={part: VALUES[part]})
        assert answer.status == (200 if may else 403)
        seen = (await node.call("GET", "/config/global", who)).json
        assert (seen.get(part) == VALUES[part]) is may

    def test_the_table_is_the_published_one(self):
        people = {Role.SERVER_ADMIN, Role.DEVELOPER}
        data = {Role.DATA_ADMIN, Role.DEVELOPER}
        everybody = people | data
        assert {part: set(roles) for part, roles in PARTS.items()} == {
            "instanceSettings": people,
            "ownershipSettings": people,
            "nexusEnabled": people,
            "discoverySettings": data,
            "beaconSettings": everybody,
            "federationSettings": everybody,
        }

    async def test_of_several_parts_one_forbidden_one_changes_none(self, node):
        await node.call("POST", "/config/global", json={"federationSettings": {"defaultTTL": 9}})
        sent = {"federationSettings": {"defaultTTL": 1000}, "nexusEnabled": False}
        assert (await node.call("POST", "/config/global", "dataAdmin", json=sent)).status == 403
        seen = (await node.call("GET", "/config/global")).json
        assert seen["federationSettings"] == {"defaultTTL": 9}

    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_plain_user_has_no_part_in_it(self, node, method):
        answer = await node.call(method, "/config/global", "user")
        assert answer.status == 403

    @pytest.mark.parametrize(
        ("wrong", "path"),
        [
            ({"unknown": 1}, "$"),
            ({"federationSettings": {"defaultTTL": 0}}, "$.federationSettings.defaultTTL"),
            ({"federationSettings": {"open": True}}, "$.federationSettings"),
            ({"discoverySettings": {"defaultBudget": 101}}, "$.discoverySettings.defaultBudget"),
            ({"ownershipSettings": OWNER | {"email": "none"}}, "$.ownershipSettings.email"),
            ({"ownershipSettings": {"name": "x"}}, "$.ownershipSettings"),
            ({"instanceSettings": {"url": "javascript:1"}}, "$.instanceSettings.url"),
            ({"instanceSettings": {"name": "a\nb"}}, "$.instanceSettings.name"),
            ({"nexusEnabled": "yes"}, "$.nexusEnabled"),
        ],
    )
    async def test_what_is_no_setting_is_refused_with_its_place(self, node, wrong, path):
        answer = await node.call("POST", "/config/global", json=wrong)
        assert (answer.status, answer.json["path"]) == (400, path)

    async def test_anybody_sees_who_runs_the_instance(self, node, second):
        sent = {part: VALUES[part] for part in ("instanceSettings", "ownershipSettings")}
        assert (await node.call("POST", "/config/global", json=sent)).status == 200
        for process in (node, second):
            async with asyncio.timeout(10):
                while True:
                    told = (await process.call("GET", "/", None)).json
                    if told["name"] == "Clinic One" and told["owner"] == "The Owners":
                        break
                    await asyncio.sleep(0.1)
            assert (told["ownerAddress"], told["ownerEmail"], told["status"]) == (
                "1 Long Road",
                "owner@example.org",
                "OK",
            )


class TestOwn:
    async def test_ones_own_settings_are_ones_own(self, node):
        colour = {"colorSetting": {"seedColor": "aAbB09", "themeMode": 2}}
        assert (await node.call("GET", "/config/user", "user")).json == {}
        assert (await node.call("POST", "/config/user", "user", json=colour)).json == colour
        both = colour | {"capability": {"genes": True}}
        sent = {"capability": {"genes": True}}
        assert (await node.call("POST", "/config/user", "user", json=sent)).json == both
        assert (await node.call("GET", "/config/user", "user")).json == both
        assert (await node.call("GET", "/config/user", "developer")).json == {}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"colorSetting": {"seedColor": "#aabbcc", "themeMode": 1}},
            {"colorSetting": {"seedColor": "aabbcc", "themeMode": 3}},
            {"colorSetting": {"seedColor": "aabbcc"}},
            {"capability": {"all": True}},
            {"other": 1},
        ],
    )
    async def test_what_is_no_setting_is_refused(self, node, wrong):
        answer = await node.call("POST", "/config/user", "user", json=wrong)
        assert (answer.status, answer.json["path"][0]) == (400, "$")


class TestMaintenance:
    @pytest.fixture(autouse=True)
    async def ended(self, node, second, secret):
        yield
        assert (await set_maintenance(node, secret, on=False)).status == 200
        for process in (node, second):
            await until(process, 200, lambda one: one.call("POST", "/config/user", json={}))

    async def test_changes_are_refused_everywhere_and_the_rest_goes_on(self, node, second, secret):
        told = "Back at noon."
        assert (await set_maintenance(node, secret, on=True, message=told)).status == 200
        for process in (node, second):
            answer = await until(
                process, 503, lambda one: one.call("POST", "/config/user", "user", json={})
            )
            assert answer.json["error"] == told
            assert answer.headers["Retry-After"]
            refused = [
                await process.call("POST", "/sources/", json={}),
                await process.call("PATCH", f"/users/{uuid4()}", json={}),
                await process.call("PUT", "/files/upload"),
                await process.call("DELETE", f"/groups/{uuid4()}"),
                await process.call("POST", "/access-requests/", None, json={}),
                await process.call("POST", "/record/", "user", json={}),
            ]
            assert [answer.status for answer in refused] == [503] * 6
            login = {"grant_type": "authorization_code"}
            fine = [
                (await process.call("GET", "/sources/", "user"), 200),
                (await process.call("GET", "/users/"), 200),
                (await process.call("GET", "/health/live", None), 200),
                (await process.call("GET", "/health/ready", None), 200),
                (await process.call("POST", "/auth/token", None, json=login), 400),
                (await process.call("POST", "/nowhere", None), 404),
            ]
            assert [answer.status for answer, _ in fine] == [wanted for _, wanted in fine]
            key = {"Authorization": "Bearer scrape"}
            assert (await process.call("GET", "/metrics", None, headers=key)).status == 200
            told_at_root = (await process.call("GET", "/", None)).json
            assert told_at_root["status"] == "Under maintenance"

    async def test_without_a_message_there_is_a_sentence(self, node, secret):
        await set_maintenance(node, secret, on=True)
        answer = await node.call("POST", "/config/user", json={})
        assert answer.status == 503
        assert "looked after" in answer.json["error"]

    async def test_an_operator_begins_and_ends_it_on_the_machine(self, node):
        await maintain(node.config, on=True, message="By hand.")
        answer = await until(node, 503, lambda one: one.call("POST", "/config/user", json={}))
        assert answer.json["error"] == "By hand."
        await maintain(node.config, on=False, message="")
        await until(node, 200, lambda one: one.call("POST", "/config/user", json={}))


class TestSharedSecret:
    @pytest.mark.parametrize("shift", [-290, 0, 290])
    async def test_the_present_time_is_five_minutes_wide(self, node, secret, shift):
        headers = shown(secret, str(int(time.time()) + shift))
        sent = {"maintenance": False}
        answer = await node.call("POST", "/config/maintenance", None, json=sent, headers=headers)
        assert answer.status == 200

    async def test_the_time_may_be_written_out(self, node, secret):
        headers = shown(secret, datetime.now(UTC).isoformat())
        sent = {"maintenance": False}
        answer = await node.call("POST", "/config/maintenance", None, json=sent, headers=headers)
        assert answer.status == 200

    @pytest.mark.parametrize(
        "headers",
        [
            lambda _: {},
            lambda secret: shown(secret[:-1]),
            lambda secret: shown(f"{secret}x"),
            lambda _: shown("é".encode().decode("latin-1")),
            lambda secret: {"Authorization": f"Bearer {secret}"},
            lambda secret: shown(secret, ""),
            lambda secret: shown(secret, "yesterday"),
            lambda secret: shown(secret, "-1"),
            lambda secret: shown(secret, "9" * 40),
            lambda secret: shown(secret, str(int(time.time()) - 330)),
            lambda secret: shown(secret, str(int(time.time()) + 330)),
        ],
    )
    async def test_nobody_else_is_let_in(self, node, secret, headers):
        sent = {"maintenance": True}
        answer = await node.call(
            "POST", "/config/maintenance", None, json=sent, headers=headers(secret)
        )
        assert answer.status == 401
        assert (await node.call("GET", "/", None)).json["status"] == "OK"

    async def test_a_person_is_no_tool(self, node):
        answer = await node.call("POST", "/config/maintenance", json={"maintenance": True})
        assert answer.status == 401

    async def test_a_second_installation_keeps_the_secret(self, node, secret):
        assert len(secret) >= 40
        assert await shared_secret(node.config) == secret


class TestCleanup:
    async def test_what_is_left_over_goes_at_once(self, node):
        given = node.config.mongo_db
        uri = mongo_uri(
            given.host,
            int(given.port),
            user=given.user,
            password=given.password,
            database=given.database,
        )
        mongo = Mongo.open(uri, given.database, 5)
        tokens, requests = mongo.collection("upload_tokens"), mongo.collection("access_requests")
        now = int(time.time())
        (token,), (request,) = NOW["upload_tokens"], NOW["access_requests"]
        await tokens.insert(token | {"_id": "old", "expiresAt": now - 60})
        await tokens.insert(token | {"_id": "good", "expiresAt": now + 600})
        for name, days in (("old", 181), ("young", 179)):
            decided = {"status": "denied", "decidedAt": now - days * 86_400}
            await requests.insert(request | {"_id": name} | decided)
        await requests.insert(request | {"_id": "waiting"})
        report = node.folder / "data" / "reports" / "source" / str(uuid4())
        report.mkdir(parents=True)
        answer = await node.call("POST", "/config/cleanup", "dataAdmin")
        assert (answer.status, answer.json) == (200, {"status": "Success"})
        assert not report.exists()
        left = {each["_id"] for each in await tokens.find({})}
        assert left & {"old", "good"} == {"good"}
        assert {each["_id"] for each in await requests.find({})} == {"young", "waiting"}
        await requests.delete_many({"_id": {"$in": ["young", "waiting"]}})
        mongo.close()


class TestLog:
    def entry(self, **more):
        return {
            "error": "The page broke",
            "timestamp": "2026-11-21T10:00:00Z",
            "uuid": str(uuid4()),
        } | more

    @pytest.mark.parametrize("level", ["error", "info"])
    async def test_an_entry_is_one_line_of_the_log(self, node, level, caplog):
        mark = uuid4().hex
        sent = self.entry(error=f'{mark}\n{{"level": "critical"}}\x1b[2J')
        assert (await node.call("POST", f"/log/{level}", "user", json=sent)).status == 200
        lines = [record for record in caplog.records if mark in record.getMessage()]
        assert len(lines) == 1
        assert lines[0].levelname == level.upper()
        assert "\n" not in lines[0].getMessage()
        assert "\\u001b" not in lines[0].getMessage()

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"error": ""}, 400),
            ({"error": "x" * 4001}, 400),
            ({"error": "x" * 9000}, 413),
            ({"timestamp": "today"}, 400),
            ({"uuid": "1"}, 400),
            ({"level": "critical"}, 400),
        ],
    )
    async def test_what_is_no_entry_is_refused(self, node, change, status):
        answer = await node.call("POST", "/log/error", "dataAdmin", json=self.entry(**change))
        assert answer.status == status

    async def test_nobody_sends_more_than_sixty_a_minute(self, node):
        statuses = [
            (await node.call("POST", "/log/info", "serverAdmin", json=self.entry())).status
            for _ in range(62)
        ]
        assert statuses == [200] * 60 + [429] * 2
