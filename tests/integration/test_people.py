"""Users and their administrators on a real node: who may do what to whom, and how people go."""

import asyncio
import time
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from cvf_app.backends.http import Http
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.backends.redis import Redis
from cvf_app.clock import now
from cvf_app.errors import CafeVariomeError, Conflict, Forbidden, Unavailable
from cvf_app.mail.service import Mails
from cvf_app.mail.store import LETTERS, MailStore
from cvf_app.principal import Role
from cvf_app.users.arrivals import Arrivals
from cvf_app.users.identity import NewAccount
from cvf_app.users.identity.oidc import Oidc
from cvf_app.users.identity.scim import SCIM_CLIENT, Scim
from cvf_app.users.model import NewUser
from cvf_app.users.sealing import Sealing
from cvf_app.users.service import Users
from cvf_app.users.store import COLLECTION, UserStore
from cvf_app.web.limits import Limits, Turns
from tests.support import nodes
from tests.support.listening import sse
from tests.support.peers.issuer import CLIENT, Issuer

ACTS = ("activate", "deactivate", "permit-login", "revoke-login")


@asynccontextmanager
async def database(config):
    """The database of a node."""
    given = config.mongo_db
    uri = mongo_uri(
        given.host,
        int(given.port),
        user=given.user,
        password=given.password,
        database=given.database,
    )
    mongo = Mongo.open(uri, given.database, 5)
    try:
        yield mongo
    finally:
        mongo.close()


async def letters(node, kind):
    async with database(node.config) as mongo:
        return await mongo.collection(LETTERS).count({"kind": kind})


@pytest.fixture(scope="module")
async def node(tmp_path_factory, mongo_url, redis_url):
    """A node of our own, for here people come and go."""
    async with nodes.node(tmp_path_factory.mktemp("people"), mongo_url, redis_url) as made:
        for role in Role:
            await made.person(f"the{role.value}", role.value)
        await made.person("other", "serverAdmin")
        yield made


@pytest.fixture(scope="module")
async def second(node):
    """Another process of the same instance."""
    async with nodes.beside(node) as made:
        yield made


async def until(node, who, status, path="/auth/user-info"):
    """Wait until somebody is answered so; a minute is what is promised."""
    async with asyncio.timeout(60):
        # What another process remembers has no event to wait for.
        while (await node.call("GET", path, who)).status != status:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.2)


class TestRules:
    @pytest.mark.parametrize("target", ["dataAdmin", "developer"])
    async def test_nobody_touches_whose_role_they_do_not_hold(self, node, target):
        path = f"/users/{node.people['the' + target]}"
        answers = [
            await node.call("PATCH", path, "theserverAdmin", json={"firstName": "X"}),
            await node.call("PATCH", path, "theserverAdmin", json={"role": "user"}),
            await node.call("DELETE", path, "theserverAdmin"),
            *[await node.call("POST", f"{path}/{act}", "theserverAdmin") for act in ACTS],
        ]
        assert [answer.status for answer in answers] == [403] * 7
        shown = (await node.call("GET", path)).json
        assert (shown["role"], shown["active"], shown["allowLogin"]) == (target, True, True)

    async def test_server_admin_changes_users_and_server_admins(self, node):
        for name in ("theuser", "other"):
            path = f"/users/{node.people[name]}"
            answer = await node.call("PATCH", path, "theserverAdmin", json={"affiliation": "Here"})
            assert (answer.status, answer.json["affiliation"]) == (200, "Here")

    async def test_a_role_is_changed_with_a_new_token_only(self, node):
        """ASVS 5.0, 7.5.3: what was left logged in changes nobody's rights."""
        path = f"/users/{node.people['theuser']}"
        old = node.issuer.token("theserverAdmin", iat=int(time.time()) - 660)
        headers = {"Authorization": f"Bearer {old}"}
        answer = await node.call("PATCH", path, None, headers=headers, json={"role": "user"})
        assert answer.status == 401
        change = {"affiliation": "Here"}
        assert (await node.call("PATCH", path, None, headers=headers, json=change)).status == 200
        changed = await node.call("PATCH", path, "theserverAdmin", json={"role": "user"})
        assert changed.status == 200

    @pytest.mark.parametrize("role", ["dataAdmin", "developer"])
    async def test_nobody_grants_a_role_that_they_do_not_hold(self, node, role):
        path = f"/users/{node.people['theuser']}"
        answer = await node.call("PATCH", path, "theserverAdmin", json={"role": role})
        assert answer.status == 403
        new = {"username": "granted", "email": "g@example.org", "role": role}
        assert (await node.call("POST", "/users/", "theserverAdmin", json=new)).status == 403
        assert (await node.call("GET", path)).json["role"] == "user"

    @pytest.mark.parametrize(
        "change", [{"role": "user"}, {"role": "developer"}, {"active": False}, {"budget": 1}]
    )
    async def test_nobody_changes_what_they_may_do_themselves(self, node, change):
        path = f"/users/{node.people['thedeveloper']}"
        answer = await node.call("PATCH", path, "thedeveloper", json=change)
        assert answer.status == 403

    async def test_nobody_shuts_out_or_removes_themselves(self, node):
        path = f"/users/{node.people['thedeveloper']}"
        answers = [await node.call("POST", f"{path}/{act}", "thedeveloper") for act in ACTS]
        answers.append(await node.call("DELETE", path, "thedeveloper"))
        assert [answer.status for answer in answers] == [403] * 5

    async def test_everybody_may_have_another_name(self, node):
        path = f"/users/{node.people['thedeveloper']}"
        answer = await node.call("PATCH", path, "thedeveloper", json={"lastName": "Byron"})
        assert (answer.status, answer.json["lastName"]) == (200, "Byron")

    @pytest.mark.parametrize(
        "change",
        [
            {"userId": "x"},
            {"username": "x"},
            {"allowLogin": True},
            {"budget": 101},
            {"budget": "1"},
            {"email": "a@b\n"},
            {"firstName": "a\r\nBcc: b@c"},
            {"role": "king"},
        ],
        ids=str,
    )
    async def test_a_change_takes_what_it_lists_and_nothing_else(self, node, change):
        path = f"/users/{node.people['theuser']}"
        before = (await node.call("GET", path)).json
        answer = await node.call("PATCH", path, json=change)
        assert answer.status == 400
        assert answer.json["path"].startswith("$")
        assert (await node.call("GET", path)).json == before

    async def test_a_change_shows_and_the_same_again_changes_nothing(self, node):
        path = f"/users/{node.people['theuser']}"
        change = {"email": "new@example.org", "firstName": "Ada", "budget": 7}
        first = await node.call("PATCH", path, json=change)
        assert first.status == 200
        assert change.items() <= first.json.items()
        assert (await node.call("PATCH", path, json=change)).json == first.json

    async def test_there_is_no_such_user(self, node):
        path = f"/users/{uuid4()}"
        answers = [
            await node.call("GET", path),
            await node.call("PATCH", path, json={}),
            await node.call("DELETE", path),
            *[await node.call("POST", f"{path}/{act}") for act in ACTS],
        ]
        assert [answer.status for answer in answers] == [404] * 7


class TestLastDeveloper:
    async def test_two_who_remove_each_other_leave_one(self, tmp_path, mongo_url, redis_url):
        acts = [
            ("POST", "/deactivate", {}),
            ("POST", "/revoke-login", {}),
            ("PATCH", "", {"json": {"role": "user"}}),
            ("DELETE", "", {}),
        ]
        async with (
            nodes.node(tmp_path, mongo_url, redis_url) as one,
            nodes.beside(one) as two,
        ):
            left = "admin"
            for number, (method, after, sent) in enumerate(acts):
                name = f"developer{number}"
                new = {"username": name, "email": f"{name}@example.org", "role": "developer"}
                theirs = (await one.call("POST", "/users/", left, json=new)).json["userId"]
                ours = (await one.call("GET", "/auth/user-info", left)).json["userId"]
                # Each process remembers its own for ten seconds, so both get as far as the rule.
                await two.call("GET", "/auth/user-info", name)
                answers = await asyncio.gather(
                    one.call(method, f"/users/{theirs}{after}", left, **sent),
                    two.call(method, f"/users/{ours}{after}", name, **sent),
                )
                assert sorted(answer.status for answer in answers) == [200, 409]
                left = left if answers[0].status == 200 else name
                found = (await two.call("GET", "/users/", left)).json
                able = [
                    user["username"]
                    for user in found
                    if user["role"] == "developer" and user["active"] and user["allowLogin"]
                ]
                assert able == [left]


class TestLogin:
    async def test_revoked_is_out_everywhere_and_permitted_is_in_again(self, node, second):
        person = await node.person("goer")
        assert (await second.call("GET", "/auth/user-info", "goer")).status == 200
        assert (await node.call("POST", f"/users/{person}/revoke-login")).status == 200
        assert (await node.call("GET", "/auth/user-info", "goer")).status == 401
        await until(second, "goer", 401)
        shown = (await node.call("GET", f"/users/{person}")).json
        assert (shown["active"], shown["allowLogin"]) == (True, False)
        local = [user["userId"] for user in (await node.call("GET", "/users/local")).json]
        assert person not in local
        assert node.people["theuser"] in local
        assert (await node.call("POST", f"/users/{person}/permit-login")).status == 200
        assert (await second.call("GET", "/auth/user-info", "goer")).status == 200

    async def test_an_open_stream_of_somebody_revoked_ends(self, node, second):
        person = await node.person("listener")
        async with sse(second, "listener") as ear:
            await node.call("POST", f"/users/{person}/revoke-login")
            await ear.until(lambda each: "closed" in each.events(), seconds=60)
            assert "may not log in" in ear.notices[-1]["reason"]

    async def test_each_permission_and_revocation_is_one_letter(self, node):
        person = await node.person("reader")
        before = [await letters(node, kind) for kind in ("login-permitted", "login-revoked")]
        for act in ("permit-login", "revoke-login", "revoke-login", "permit-login", "permit-login"):
            assert (await node.call("POST", f"/users/{person}/{act}")).status == 200
        after = [await letters(node, kind) for kind in ("login-permitted", "login-revoked")]
        assert after == [before[0] + 1, before[1] + 1]

    async def test_a_deactivated_user_is_out_until_activated(self, node, second):
        person = await node.person("sleeper")
        assert (await second.call("GET", "/auth/user-info", "sleeper")).status == 200
        assert (await node.call("POST", f"/users/{person}/deactivate")).status == 200
        await until(second, "sleeper", 403)
        assert (await node.call("POST", f"/users/{person}/activate")).status == 200
        assert (await second.call("GET", "/auth/user-info", "sleeper")).status == 200

    async def test_a_demoted_user_has_the_new_role_everywhere_soon(self, node, second):
        person = await node.person("riser", "dataAdmin")
        assert (await second.call("GET", "/groups/", "riser")).status == 200
        assert (await node.call("PATCH", f"/users/{person}", json={"role": "user"})).status == 200
        await until(second, "riser", 403, "/groups/")


class TestDeletion:
    async def test_what_is_kept_of_somebody_goes_with_them(self, node):
        person = await node.person("leaver")
        source = await node.source("left")
        group = await node.group("count", [person, node.people["theuser"]], [source], "leaving")
        colour = {"colorSetting": {"seedColor": "00ff00", "themeMode": 1}}
        assert (await node.call("POST", "/config/user", "leaver", json=colour)).status == 200
        assert (await node.call("DELETE", f"/users/{person}")).status == 200
        assert (await node.call("GET", f"/users/{person}")).status == 404
        assert (await node.call("DELETE", f"/users/{person}")).status == 404
        assert (await node.call("GET", "/auth/user-info", "leaver")).status == 403
        members = (await node.call("GET", f"/groups/{group}")).json["assignedUsers"]
        assert members == [node.people["theuser"]]
        async with database(node.config) as mongo:
            assert await mongo.collection("user_settings").count({"_id": person}) == 0
        again = await node.person("leaver")
        assert again != person
        assert (await node.call("GET", "/config/user", "leaver")).json == {}


class TestArrivals:
    async def federation(self, node, *, on):
        sent = {"federationSettings": {"autoUserRegistration": on}}
        assert (await node.call("POST", "/config/global", json=sent)).status == 200

    async def found(self, node, name):
        users = (await node.call("GET", "/users/")).json
        return [user for user in users if user["username"] == name]

    async def test_a_stranger_is_nobody_unless_switched_on(self, node):
        assert (await node.call("GET", "/auth/user-info", "stranger")).status == 403
        assert await self.found(node, "stranger") == []

    async def test_a_stranger_waits_for_an_administrator(self, node):
        await self.federation(node, on=True)
        try:
            named = {"preferred_username": "ada.l", "email": "ada@example.org"}
            token = node.issuer.token("subject-of-ada", **named)
            headers = {"Authorization": f"Bearer {token}"}

            async def ask(where):
                return (await where.call("GET", "/auth/user-info", None, headers=headers)).status

            assert await asyncio.gather(*(ask(node) for _ in range(8))) == [403] * 8
            (user,) = await self.found(node, "ada.l")
            assert user["email"] == "ada@example.org"
            assert (user["role"], user["active"], user["allowLogin"]) == ("user", False, False)
            for act in ("activate", "permit-login"):
                await node.call("POST", f"/users/{user['userId']}/{act}")
            assert await ask(node) == 200
        finally:
            await self.federation(node, on=False)

    async def test_the_name_of_somebody_else_is_not_taken(self, node):
        await self.federation(node, on=True)
        try:
            token = node.issuer.token("subject-of-thief", preferred_username="theuser")
            headers = {"Authorization": f"Bearer {token}"}
            assert (await node.call("GET", "/sources/", None, headers=headers)).status == 403
            assert len(await self.found(node, "theuser")) == 1
            assert len(await self.found(node, "subject-of-thief")) == 1
        finally:
            await self.federation(node, on=False)


class PlantedKeys(FileKeyStore):
    """A key store whose disk fails, or hangs, when a person's key is to be made."""

    failing = False
    hanging: asyncio.Event | None = None

    async def create_user_key(self, user_id):
        if self.hanging:
            self.hanging.set()
            await asyncio.Event().wait()
        if self.failing:
            raise Unavailable("planted")
        await super().create_user_key(user_id)


class PlantedMails(Mails):
    """An outbox whose database fails."""

    failing = False

    async def send(self, kind, event, to, facts):
        if self.failing:
            raise Unavailable("planted")
        await super().send(kind, event, to, facts)


class Bench:
    """Users without a node around them, so that parts can fail."""

    def __init__(self, folder, mongo, redis_url, issuer):
        self.mongo = mongo
        self.issuer = issuer
        self.keys = PlantedKeys.open(folder / "keys", create=True)
        self.http = Http.open(frozenset({issuer.address}))
        self.mails = PlantedMails(MailStore(mongo), self.keys, now, configured=True)
        self.store = UserStore(mongo.collection(COLLECTION))
        self.accounts = Scim(self.http, self.keys, now, issuer=issuer.address)
        oidc = Oidc(self.http, self.keys, now, issuer=issuer.address, client_id=CLIENT)
        self.redis = Redis.open(redis_url)
        name = f"bench-{uuid4()}"
        limits, turns = Limits(self.redis.count, name), Turns(self.redis.alone, name)
        self.arrivals = Arrivals(self.store, Sealing(self.keys), limits, self.allowed)
        self.users = Users(
            self.store,
            oidc,
            self.accounts,
            self.keys,
            now,
            mails=self.mails,
            arrivals=self.arrivals,
            alone=turns.alone,
        )

    async def allowed(self):
        return True

    async def traces(self, name):
        """Return what there is of a person: account, documents, users who can be seen."""
        documents = await self.mongo.collection(COLLECTION).count({})
        shown = [user for user in await self.users.list_users() if user.username == name]
        return name in self.issuer.accounts, documents, len(shown)


@pytest.fixture
async def bench(tmp_path, mongo_url, redis_url):
    issuer = Issuer()
    await issuer.start()
    mongo = Mongo.open(mongo_url, f"cv3_people_{uuid4().hex[:8]}", 5)
    made = Bench(tmp_path, mongo, redis_url, issuer)
    await made.keys.write_secret(SCIM_CLIENT, {"client_id": "scim", "client_secret": "x"})
    await made.store.prepare()
    yield made
    await made.http.close()
    await made.redis.close()
    await made.keys.close()
    await mongo.drop()
    mongo.close()
    await issuer.stop()


HALF = {"username": "half", "email": "half@example.org", "first_name": "", "last_name": ""}
NEW = NewUser(username="half", email="half@example.org")


class TestRegistration:
    @pytest.mark.parametrize("part", ["account", "account that was made", "key", "letter"])
    async def test_a_part_that_fails_undoes_the_whole(self, bench, part):
        bench.issuer.refusing = part == "account"
        bench.issuer.losing = part == "account that was made"
        bench.keys.failing = part == "key"
        bench.mails.failing = part == "letter"
        with pytest.raises(CafeVariomeError):
            await bench.users.register(NEW, Role.DEVELOPER)
        assert await bench.traces("half") == (False, 0, 0)
        bench.issuer.refusing = bench.issuer.losing = False
        bench.keys.failing = bench.mails.failing = False
        done = await bench.users.register(NEW, Role.DEVELOPER)
        assert done.user.active
        assert done.user.allow_login
        assert done.password
        assert await bench.traces("half") == (True, 1, 1)

    async def test_a_process_that_dies_leaves_nobody_and_is_gone_on_with(self, bench):
        bench.keys.hanging = asyncio.Event()
        dying = asyncio.create_task(bench.users.register(NEW, Role.DEVELOPER))
        await bench.keys.hanging.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        assert await bench.traces("half") == (True, 1, 0)
        bench.keys.hanging = None
        done = await bench.users.register(NEW, Role.DEVELOPER)
        assert done.password
        assert await bench.traces("half") == (True, 1, 1)

    async def test_an_account_that_was_there_is_left_alone(self, bench):
        await bench.accounts.create(NewAccount(**HALF), "secret")
        bench.keys.failing = True
        with pytest.raises(Unavailable):
            await bench.users.register(NEW, Role.DEVELOPER)
        assert await bench.traces("half") == (True, 0, 0)

    async def test_the_same_name_at_once_is_one_user(self, bench):
        tries = [bench.users.register(NEW, Role.DEVELOPER) for _ in range(4)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        made = [each for each in ended if not isinstance(each, BaseException)]
        refused = [each for each in ended if isinstance(each, Conflict | Unavailable)]
        assert (len(made), len(refused)) == (1, 3)
        assert made[0].password
        assert await bench.traces("half") == (True, 1, 1)


class TestCrowd:
    async def test_no_more_come_than_the_limit(self, bench):
        for number in range(35):
            with pytest.raises(Forbidden):
                await bench.users.authenticate(bench.issuer.token(f"crowd{number}"))
        assert await bench.mongo.collection(COLLECTION).count({}) == 30


class TestTurns:
    async def test_only_one_is_alone(self, redis_url):
        redis = Redis.open(redis_url)
        key, inside, most = f"turn-{uuid4()}", 0, 0

        async def take():
            nonlocal inside, most
            async with redis.alone(key, 30):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.01)
                inside -= 1

        await asyncio.gather(*(take() for _ in range(6)))
        assert most == 1
        await redis.close()

    async def test_a_turn_that_lapsed_is_not_taken_from_the_next(self, redis_url):
        redis = Redis.open(redis_url)
        key = f"turn-{uuid4()}"
        async with redis.alone(key, 1):
            await asyncio.sleep(1.2)
            entered = redis.alone(key, 30)
            await entered.__aenter__()
        with pytest.raises(Unavailable):
            await redis.alone(key, 30).__aenter__()
        await entered.__aexit__(None, None, None)
        await redis.close()
