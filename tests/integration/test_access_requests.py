"""Requests for access on a real node, from the form to the first question."""

import asyncio
import io
import json
from uuid import uuid4

import pytest
import redis.asyncio

from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.interfaces import COLLECTIONS
from cvf_app.mail.store import LETTERS
from cvf_app.users.access_requests.store import COLLECTION
from tests.support import nodes


def asking(name, **more):
    return {
        "firstName": "Ada",
        "lastName": name.title(),
        "email": f"{name}@clinic.example",
        "affiliation": "Clinic of Somewhere",
        "justification": "I look for\npatients like mine.",
    } | more


@pytest.fixture(scope="module")
async def node(tmp_path_factory, mongo_url, redis_url):
    async with nodes.node(tmp_path_factory.mktemp("asking"), mongo_url, redis_url) as made:
        await made.person("theserverAdmin", "serverAdmin")
        yield made


@pytest.fixture(scope="module")
async def second(node):
    """Another process of the same instance."""
    async with nodes.beside(node) as made:
        yield made


@pytest.fixture
async def mongo(node):
    given = node.config.mongo_db
    uri = mongo_uri(
        given.host,
        int(given.port),
        user=given.user,
        password=given.password,
        database=given.database,
    )
    opened = Mongo.open(uri, given.database, 5)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
async def unlimited(node):
    """Let each test have the whole limit: they all come from one address."""
    path = node.config.redis.path
    where = {"unix_socket_path": path} if path else {"host": node.config.redis.host}
    if not path:
        where["port"] = int(node.config.redis.port)
    async with redis.asyncio.Redis(**where) as client:
        keys = [key async for key in client.scan_iter("cv3-limit:*")]
        if keys:
            await client.delete(*keys)


async def ask(node, name, **more):
    """Ask for access as anybody and return the request's id."""
    answer = await node.call("POST", "/access-requests/", None, json=asking(name, **more))
    assert answer.status == 200, answer.body
    assert answer.json["status"] == "Success"
    return answer.json["requestId"]


async def decide(node, request_id, word, who="admin", **sent):
    return await node.call("POST", f"/access-requests/{request_id}/{word}", who, **sent)


async def status(node, request_id):
    return (await node.call("GET", f"/access-requests/{request_id}")).json["status"]


async def kinds(mongo):
    """Return how many letters of each kind there are."""
    found = await mongo.collection(LETTERS).find({})
    return {
        kind: sum(letter["kind"] == kind for letter in found)
        for kind in {letter["kind"] for letter in found}
    }


class TestAsking:
    async def test_a_request_is_shown_to_administrators_as_it_was_asked(self, node):
        request_id = await ask(node, "shown")
        shown = (await node.call("GET", f"/access-requests/{request_id}")).json
        assert asking("shown").items() <= shown.items()
        assert shown["status"] == "waiting"
        waiting = await node.call("GET", "/access-requests/?status=waiting&limit=200")
        assert shown in waiting.json
        denied = await node.call("GET", "/access-requests/?status=denied")
        assert shown not in denied.json

    async def test_asking_again_changes_nothing_and_is_answered_alike(self, node, mongo):
        first = await ask(node, "twice")
        before = await kinds(mongo)
        again = await ask(node, "twice", justification="Another one", email="TWICE@clinic.example")
        assert again == first
        shown = (await node.call("GET", f"/access-requests/{first}")).json
        assert shown["justification"] == asking("twice")["justification"]
        assert await kinds(mongo) == before

    async def test_many_at_once_are_one_request(self, node, mongo):
        before = await mongo.collection(COLLECTION).count({})
        ids = await asyncio.gather(*(ask(node, "atonce") for _ in range(4)))
        assert len(set(ids)) == 1
        assert await mongo.collection(COLLECTION).count({}) == before + 1

    async def test_the_requester_and_each_administrator_are_told_once(self, node, mongo):
        before = await kinds(mongo)
        await ask(node, "told")
        after = await kinds(mongo)
        assert after["access-request-received"] == before.get("access-request-received", 0) + 1
        assert after["access-request-waiting"] == before.get("access-request-waiting", 0) + 2

    @pytest.mark.parametrize(
        "wrong",
        [
            {"email": "nobody"},
            {"email": "a@b.example\r\nBcc: c@d.example"},
            {"email": "a@b\n"},
            {"firstName": ""},
            {"lastName": "x" * 101},
            {"affiliation": "a\nb"},
            {"justification": ""},
            {"justification": "x" * 4001},
            {"justification": "\x1b[2J"},
            {"role": "developer"},
            {"status": "approved"},
            {"email": None},
        ],
        ids=lambda wrong: next(iter(wrong)),
    )
    async def test_what_is_no_request_is_refused_with_the_place(self, node, wrong):
        sent = asking("wrong") | wrong
        answer = await node.call("POST", "/access-requests/", None, json=sent)
        assert answer.status == 400
        assert answer.json["path"].startswith("$")

    async def test_nothing_of_a_person_can_be_read_in_the_database(self, node, mongo):
        marks = {name: f"Planted{uuid4().hex}" for name in ("firstName", "affiliation")}
        marks["justification"] = f"Because{uuid4().hex}"
        address = f"Planted{uuid4().hex}@clinic.example"
        request_id = await ask(node, "x", email=address, **marks)
        done = await decide(node, request_id, "approve", json={"username": "planted"})
        assert done.status == 200
        password = done.json["initialPassword"]
        everything = ""
        for name in COLLECTIONS:
            everything += json.dumps(await mongo.collection(name).find({}), default=str)
        assert request_id in everything
        hidden = [*marks.values(), address, address.casefold(), password, "planted"]
        assert [mark for mark in hidden if mark in everything] == []


class TestLimits:
    async def test_one_address_on_the_network_has_twenty_an_hour(self, node):
        statuses = [
            (
                await node.call("POST", "/access-requests/", None, json=asking(f"crowd{number}"))
            ).status
            for number in range(22)
        ]
        assert statuses == [200] * 20 + [429] * 2

    async def test_one_mailbox_has_five_a_day(self, node):
        statuses = [
            (await node.call("POST", "/access-requests/", None, json=asking("mailbox"))).status
            for _ in range(7)
        ]
        assert statuses == [200] * 5 + [429] * 2


class TestApproving:
    async def test_who_is_approved_can_ask_questions(self, node, mongo):
        request_id = await ask(node, "newcomer")
        before = (await kinds(mongo)).get("access-request-approved", 0)
        assert (await node.call("GET", "/sources/", "newcomer@clinic.example")).status == 403
        done = await decide(node, request_id, "approve")
        assert done.status == 200
        assert done.json["username"] == "newcomer@clinic.example"
        assert done.json["initialPassword"]
        assert (await node.call("GET", "/sources/", "newcomer@clinic.example")).status == 200
        assert await status(node, request_id) == "approved"
        user = (await node.call("GET", f"/users/{done.json['userId']}")).json
        assert (user["role"], user["lastName"]) == ("user", "Newcomer")
        assert (await kinds(mongo))["access-request-approved"] == before + 1

    async def test_approved_twice_is_one_user(self, node, second, mongo):
        request_id = await ask(node, "doubled")
        answers = await asyncio.gather(
            decide(node, request_id, "approve"), decide(second, request_id, "approve")
        )
        answers.append(await decide(node, request_id, "approve"))
        assert {answer.status for answer in answers} <= {200, 503}
        ids = {answer.json["userId"] for answer in answers if answer.status == 200}
        assert len(ids) == 1
        told = [answer.json.get("initialPassword") for answer in answers if answer.status == 200]
        assert sum(password is not None for password in told) == 1
        users = (await node.call("GET", "/users/")).json
        assert sum(user["email"] == "doubled@clinic.example" for user in users) == 1
        letters = await mongo.collection(LETTERS).count({"kind": "access-request-approved"})
        approved = await mongo.collection(COLLECTION).count({"status": "approved"})
        assert letters == approved

    async def test_an_approval_cut_off_is_done_by_the_next(self, node, mongo):
        request_id = await ask(node, "cutoff")
        first = await decide(node, request_id, "approve")
        # As if the process had died between the user and the end.
        cut = {"$set": {"status": "approving", "userId": None}}
        await mongo.collection(COLLECTION).update_one({"_id": request_id}, cut)
        assert (await decide(node, request_id, "deny")).status == 409
        again = await decide(node, request_id, "approve")
        assert (again.status, again.json["userId"]) == (200, first.json["userId"])
        assert await status(node, request_id) == "approved"

    async def test_an_approval_that_fails_leaves_the_request_waiting(self, node):
        request_id = await ask(node, "unlucky")
        node.issuer.refusing = True
        try:
            assert (await decide(node, request_id, "approve")).status == 503
        finally:
            node.issuer.refusing = False
        assert await status(node, request_id) == "waiting"
        users = (await node.call("GET", "/users/")).json
        assert "unlucky@clinic.example" not in {user["username"] for user in users}
        assert (await decide(node, request_id, "approve")).status == 200

    async def test_a_name_that_is_taken_is_a_conflict_and_another_one_does(self, node):
        request_id = await ask(node, "namesake")
        taken = await decide(node, request_id, "approve", json={"username": "theserverAdmin"})
        assert taken.status == 409
        assert await status(node, request_id) == "waiting"
        free = await decide(node, request_id, "approve", json={"username": "namesake.2"})
        assert (free.status, free.json["username"]) == (200, "namesake.2")

    async def test_an_address_that_is_no_login_name_needs_one(self, node):
        request_id = await ask(node, "odd", email="o'dd!@clinic.example")
        answer = await decide(node, request_id, "approve")
        assert (answer.status, answer.json["path"]) == (400, "$.username")
        assert (await decide(node, request_id, "approve", json={"username": "odd"})).status == 200

    async def test_nobody_approves_into_a_role_that_they_do_not_hold(self, node):
        request_id = await ask(node, "climber")
        for role in ("dataAdmin", "developer"):
            sent = {"json": {"role": role}}
            answer = await decide(node, request_id, "approve", "theserverAdmin", **sent)
            assert answer.status == 403
        assert await status(node, request_id) == "waiting"

    async def test_an_approval_takes_no_other_fields(self, node):
        request_id = await ask(node, "careful")
        answer = await decide(node, request_id, "approve", json={"budget": 1})
        assert answer.status == 400


class TestDenying:
    async def test_denied_is_told_once_and_stays_denied(self, node, mongo):
        request_id = await ask(node, "unwanted")
        before = (await kinds(mongo)).get("access-request-denied", 0)
        for _ in range(2):
            assert (await decide(node, request_id, "deny", json={"reason": "No."})).status == 200
        assert (await kinds(mongo))["access-request-denied"] == before + 1
        assert (await decide(node, request_id, "approve")).status == 409
        assert await status(node, request_id) == "denied"

    async def test_who_was_denied_may_ask_again(self, node):
        first = await ask(node, "stubborn")
        await decide(node, first, "deny")
        second = await ask(node, "stubborn")
        assert second != first
        assert await status(node, second) == "waiting"

    async def test_who_was_denied_long_ago_may_ask_again_though_that_is_forgotten(
        self, node, mongo
    ):
        """The number of decided requests goes down with what is forgotten."""
        first = await ask(node, "patient")
        await decide(node, first, "deny")
        second = await ask(node, "patient")
        await decide(node, second, "deny")
        await mongo.collection(COLLECTION).delete_one({"_id": first})
        third = await ask(node, "patient")
        assert await status(node, third) == "waiting"
        assert third != second
        fourth = await ask(node, "patient")
        assert fourth == third

    async def test_approved_cannot_be_denied(self, node):
        request_id = await ask(node, "safe")
        assert (await decide(node, request_id, "approve")).status == 200
        assert (await decide(node, request_id, "deny")).status == 409

    async def test_approved_and_denied_at_once_is_one_of_them(self, node, second):
        request_id = await ask(node, "torn")
        answers = await asyncio.gather(
            decide(node, request_id, "approve"), decide(second, request_id, "deny")
        )
        ended = await status(node, request_id)
        users = (await node.call("GET", "/users/")).json
        there = "torn@clinic.example" in {user["username"] for user in users}
        assert there is (ended == "approved")
        assert (answers[0].status == 200) is (ended == "approved")


class TestUnknown:
    @pytest.mark.parametrize("word", ["approve", "deny"])
    async def test_there_is_no_such_request(self, node, word):
        assert (await decide(node, uuid4(), word)).status == 404
        assert (await node.call("GET", f"/access-requests/{uuid4()}")).status == 404

    async def test_what_is_no_status_is_refused(self, node):
        assert (await node.call("GET", "/access-requests/?status=lost")).status == 400

    async def test_a_body_that_is_too_large_is_refused(self, node):
        large = io.BytesIO(b" " * 2**21)
        answer = await node.call("POST", "/access-requests/", None, data=large)
        assert answer.status == 413
