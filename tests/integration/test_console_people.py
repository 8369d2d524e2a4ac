"""`cvf users` and `cvf access-requests` against a real node."""

import asyncio
import json
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from cvf_app.console import __main__ as command
from cvf_app.console import access_requests, call, people
from cvf_app.console.failures import Failure
from cvf_app.console.server import Server


@pytest.fixture
def cvf(node, monkeypatch):
    """Run a command as the administrator and return what it printed as JSON."""
    server = Server(node.address, lambda _: node.issuer.token("admin"))
    for module in (people, access_requests, call):
        monkeypatch.setattr(module, "server", lambda _: server)
    runner = CliRunner()

    async def run(*words, plain=False):
        words = list(words) if plain else [*words, "--json"]
        done = await asyncio.to_thread(runner.invoke, command.app, words)
        if isinstance(done.exception, Failure):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout if plain else json.loads(done.stdout)

    return run


class TestUsers:
    async def test_somebody_is_added_changed_shut_out_let_in_and_deleted(self, cvf):
        name = f"console{uuid4().hex[:8]}"
        made = await cvf("users", "create", name, "--email", f"{name}@example.org")
        assert made["initialPassword"]
        assert name in await cvf("users", "list", plain=True)
        assert (await cvf("users", "role", name, "dataAdmin"))["role"] == "dataAdmin"
        for act, field, value in (
            ("deactivate", "active", False),
            ("activate", "active", True),
            ("revoke-login", "allowLogin", False),
            ("permit-login", "allowLogin", True),
        ):
            assert (await cvf("users", act, name)) == {"status": "Success"}
            assert (await cvf("users", "show", f"{name}@example.org"))[field] is value
        assert "Deleted" in await cvf("users", "delete", name, plain=True)
        with pytest.raises(Failure, match="no user"):
            await cvf("users", "show", name)

    async def test_what_is_refused_is_said_in_the_words_of_the_server(self, cvf):
        with pytest.raises(Failure, match="Nobody"):
            await cvf("users", "deactivate", "admin")

    async def test_somebody_is_made_into_a_group_or_not_at_all(self, cvf, node):
        name = f"console{uuid4().hex[:8]}"
        group = await node.group("count", [], [], name)
        with pytest.raises(Failure, match="no group"):
            await cvf("users", "create", name, "--group", "nosuch")
        with pytest.raises(Failure, match="no user"):
            await cvf("users", "show", name)
        made = await cvf("users", "create", name, "--group", name)
        kept = (await node.call("GET", f"/groups/{group}")).json
        assert kept["assignedUsers"] == [made["userId"]]


class TestCall:
    async def test_any_operation_can_be_called(self, cvf, node):
        source = await node.source(f"called{uuid4().hex[:8]}")
        shown = json.loads(await cvf("call", "get", f"/sources/{source}", plain=True))
        assert shown["sourceId"] == source
        change = '{"sourceType": "internal", "displayName": "Changed", "sourceName": "%s"}'
        path = f"/sources/{source}"
        await cvf("call", "PATCH", path, "--data", change % shown["sourceName"], plain=True)
        assert (await node.call("GET", path)).json["displayName"] == "Changed"
        await cvf("call", "DELETE", path, plain=True)
        with pytest.raises(Failure, match="no such source"):
            await cvf("call", "GET", path, plain=True)

    async def test_what_cannot_be_sent_is_said(self, cvf):
        for words in (
            ("GET", "sources"),
            ("LOOK", "/sources/"),
            ("POST", "/sources/", "--data", "{"),
        ):
            with pytest.raises(Failure):
                await cvf("call", *words, plain=True)


class TestAccessRequests:
    async def asked(self, node, name):
        sent = {
            "firstName": "Con",
            "lastName": "Sole",
            "email": f"{name}@clinic.example",
            "affiliation": "Clinic",
            "justification": "Patients",
        }
        answer = await node.call("POST", "/access-requests/", None, json=sent)
        return answer.json["requestId"]

    async def test_requests_are_listed_approved_and_denied(self, node, cvf):
        name = f"asker{uuid4().hex[:8]}"
        good, bad = await self.asked(node, name), await self.asked(node, f"{name}2")
        listed = await cvf("access-requests", "list", "--status", "waiting")
        assert {good, bad} <= {each["requestId"] for each in listed}
        assert "Con Sole" in await cvf("access-requests", "list", plain=True)
        assert (await cvf("access-requests", "show", good))["justification"] == "Patients"
        done = await cvf("access-requests", "approve", good, "--username", name)
        assert (done["username"], bool(done["initialPassword"])) == (name, True)
        await cvf("access-requests", "deny", bad, "--reason", "Not now.")
        assert (await cvf("access-requests", "show", bad))["status"] == "denied"
