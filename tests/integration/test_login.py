"""Logging in with a real OpenID provider: codes, tokens, people, and all the ways to be refused."""

import asyncio
import base64
import json
import time
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from quart import Quart

from cvf_app.backends.http import Http
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.backends.mongo import Mongo
from cvf_app.clock import now
from cvf_app.errors import Invalid, Unavailable
from cvf_app.ids import new_id
from cvf_app.parts import provide
from cvf_app.principal import Role
from cvf_app.users.identity import NewAccount
from cvf_app.users.identity.oidc import CLIENT_SECRET, Oidc
from cvf_app.users.identity.scim import SCIM_CLIENT, Scim
from cvf_app.users.model import NewUser
from cvf_app.users.routes import bp
from cvf_app.users.service import Users
from cvf_app.users.store import COLLECTION, UserStore
from cvf_app.web import errors
from tests.support import services
from tests.support.canaille import ADMINISTRATOR, Canaille, canaille_python


class KeysThatFailOnce(FileKeyStore):
    """A key store whose disk fails once, when a person's key is to be made."""

    failing = False

    async def create_user_key(self, user_id):
        if self.failing:
            self.failing = False
            raise Unavailable("planted")
        await super().create_user_key(user_id)


class Watch:
    """A clock that tests can put forward."""

    ahead = timedelta()

    def __call__(self):
        return now() + self.ahead

    def forward(self, **shift):
        self.ahead += timedelta(**shift)


@dataclass
class Instance:
    """The users of an instance behind its HTTP interface, and the provider beside it."""

    provider: Canaille
    keys: KeysThatFailOnce
    http: Http
    mongo: Mongo
    accounts: Scim
    users: Users
    watch: Watch
    app: Quart

    def client(self):
        return self.app.test_client()

    async def exchange(self, **fields):
        return await self.client().post("/auth/token", json=fields)

    async def code(self, username, password):
        walked = await asyncio.to_thread(self.provider.walk, username, password)
        return {
            "grant_type": "authorization_code",
            "code": walked.code,
            "code_verifier": walked.verifier,
            "redirect_uri": walked.redirect_uri,
        }

    async def log_in(self, username, password):
        answer = await self.exchange(**await self.code(username, password))
        assert answer.status_code == 200, await answer.get_data()
        return await answer.get_json()

    async def ask(self, method, path, token=None, **more):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self.client().open(path, method=method, headers=headers, **more)

    async def administrator(self):
        return (await self.log_in(ADMINISTRATOR, self.provider.password))["access_token"]

    async def user(self, name, role="user"):
        token = await self.administrator()
        new = {"username": name, "email": f"{name}@example.org", "role": role}
        answer = await self.ask("POST", "/users/", token, json=new)
        assert answer.status_code == 200, await answer.get_data()
        return await answer.get_json()


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    python = canaille_python()
    if python is None:
        pytest.skip("Canaille is not installed and CV3_TEST_CANAILLE_PYTHON is not set")
    running = Canaille(tmp_path_factory.mktemp("canaille"), python)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
async def instance(provider, tmp_path_factory):
    try:
        with services.mongodb() as uri:
            mongo = Mongo.open(uri, f"users_{new_id()[:8]}", 10)
            folder = tmp_path_factory.mktemp("instance") / "keys"
            keys = KeysThatFailOnce.open(folder, create=True)
            await keys.write_secret(CLIENT_SECRET, {"client_secret": provider.client_secret})
            scim = {"client_id": provider.scim_id, "client_secret": provider.scim_secret}
            await keys.write_secret(SCIM_CLIENT, scim)
            http = Http.open(frozenset({provider.issuer}))
            oidc = Oidc(http, keys, now, issuer=provider.issuer, client_id=provider.client_id)
            accounts = Scim(http, keys, now, issuer=provider.issuer)
            store = UserStore(mongo.collection(COLLECTION))
            await store.prepare()
            watch = Watch()
            users = Users(store, oidc, accounts, keys, watch)
            await users.ensure_administrator(ADMINISTRATOR, ADMINISTRATOR, "ada@example.org")
            app = Quart(__name__)
            app.register_blueprint(bp)
            errors.install(app)
            provide(app, {Users: users})
            app.extensions["cv3_authenticate"] = users.authenticate
            yield Instance(provider, keys, http, mongo, accounts, users, watch, app)
            await http.close()
            await keys.close()
            await mongo.drop()
            mongo.close()
    except services.Missing as reason:
        pytest.skip(str(reason))


def changed(token, **claims):
    """Change claims of a token without signing it again."""
    head, body, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
    forged = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    return f"{head}.{forged}.{signature}"


class TestToken:
    async def test_code_with_its_verifier_becomes_tokens(self, instance):
        tokens = await instance.log_in(ADMINISTRATOR, instance.provider.password)
        assert tokens["token_type"] == "Bearer"
        assert tokens["refresh_token"]
        answer = await instance.ask("GET", "/auth/user-info", tokens["access_token"])
        user = await answer.get_json()
        assert (user["username"], user["role"]) == (ADMINISTRATOR, "developer")
        assert user["active"] is user["allowLogin"] is True

    async def test_form_is_taken_as_well_as_json(self, instance):
        fields = await instance.code(ADMINISTRATOR, instance.provider.password)
        answer = await instance.client().post("/auth/token", form=fields)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"

    async def test_code_is_good_once(self, instance):
        fields = await instance.code(ADMINISTRATOR, instance.provider.password)
        assert (await instance.exchange(**fields)).status_code == 200
        assert (await instance.exchange(**fields)).status_code == 401

    @pytest.mark.parametrize(
        "wrong",
        [{"code_verifier": "x" * 64}, {"code": "none"}, {"redirect_uri": "http://127.0.0.1/else"}],
    )
    async def test_wrong_part_is_refused(self, instance, wrong):
        fields = await instance.code(ADMINISTRATOR, instance.provider.password)
        answer = await instance.exchange(**{**fields, **wrong})
        assert answer.status_code == 401
        assert (await answer.get_json())["code"] == "unauthenticated"

    async def test_refresh_token_gives_new_tokens(self, instance):
        tokens = await instance.log_in(ADMINISTRATOR, instance.provider.password)
        again = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        fresh = await (await instance.exchange(**again)).get_json()
        answer = await instance.ask("GET", "/auth/user-info", fresh["access_token"])
        assert answer.status_code == 200
        bogus = {"grant_type": "refresh_token", "refresh_token": "none"}
        assert (await instance.exchange(**bogus)).status_code == 401

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"grant_type": "password", "username": "a", "password": "b"}, "$.grant_type"),
            ({"grant_type": "client_credentials"}, "$.grant_type"),
            ({"grant_type": "authorization_code"}, "$.code"),
            ({"grant_type": "authorization_code", "code": "c"}, "$.code_verifier"),
            ({"grant_type": "refresh_token"}, "$.refresh_token"),
            ({}, "$"),
        ],
    )
    async def test_other_grants_and_missing_parts_are_invalid(self, instance, fields, path):
        answer = await instance.exchange(**fields)
        assert (answer.status_code, (await answer.get_json())["path"]) == (400, path)


class TestAuthenticate:
    async def test_no_token_and_bad_tokens_are_401(self, instance):
        good = await instance.administrator()
        forged = jwt.encode(
            {"alg": "RS256", "typ": "at+jwt", "kid": "mine"},
            {
                "iss": instance.provider.issuer,
                "sub": ADMINISTRATOR,
                "aud": instance.provider.client_id,
                "exp": int(time.time()) + 60,
            },
            RSAKey.generate_key(2048),
        )
        unsigned = (
            base64.urlsafe_b64encode(b'{"alg":"none"}').decode() + "." + good.split(".")[1] + "."
        )
        head = json.loads(base64.urlsafe_b64decode(good.split(".")[0] + "=="))
        odd = base64.urlsafe_b64encode(json.dumps(head | {"crit": 5}).encode()).decode().rstrip("=")
        bad = [
            f"{odd}.{good.partition('.')[2]}",
            "x",
            "a.b.c",
            "é",
            "x" * 20_000,
            good[:-8] + "AAAAAAAA",
            forged,
            unsigned,
        ]
        for token in [None, *bad, changed(good, sub="eve")]:
            answer = await instance.ask("GET", "/auth/user-info", token)
            assert answer.status_code == 401, token
            assert answer.headers["WWW-Authenticate"] == "Bearer"

    async def test_id_token_is_no_access_token(self, instance):
        fields = await instance.code(ADMINISTRATOR, instance.provider.password)
        pair = base64.b64encode(
            f"{instance.provider.client_id}:{instance.provider.client_secret}".encode()
        ).decode()
        answer = await instance.http.post_form(
            f"{instance.provider.issuer}/oauth/token",
            fields,
            headers={"Authorization": f"Basic {pair}"},
        )
        token = str(answer.fields()["id_token"])
        assert (await instance.ask("GET", "/auth/user-info", token)).status_code == 401

    async def test_token_of_another_client_is_401(self, instance):
        pair = f"{instance.provider.scim_id}:{instance.provider.scim_secret}"
        answer = await instance.http.post_form(
            f"{instance.provider.issuer}/oauth/token",
            {"grant_type": "client_credentials", "scope": "scim"},
            headers={"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"},
        )
        token = str(answer.fields()["access_token"])
        assert (await instance.ask("GET", "/auth/user-info", token)).status_code == 401

    async def test_good_token_of_a_stranger_is_403(self, instance):
        made = await instance.user("stranger")
        token = (await instance.log_in("stranger", made["initialPassword"]))["access_token"]
        await instance.mongo.collection(COLLECTION).delete_one({"_id": made["userId"]})
        instance.watch.forward(seconds=11)
        assert (await instance.ask("GET", "/auth/user-info", token)).status_code == 403
        fields = await instance.code("stranger", made["initialPassword"])
        assert (await instance.exchange(**fields)).status_code == 403

    async def test_user_without_key_is_401_and_inactive_403(self, instance):
        made = await instance.user("keyless")
        token = (await instance.log_in("keyless", made["initialPassword"]))["access_token"]
        await instance.keys.delete_user_key(made["userId"])
        instance.watch.forward(seconds=11)
        assert (await instance.ask("GET", "/auth/user-info", token)).status_code == 401
        await instance.keys.create_user_key(made["userId"])
        assert (await instance.ask("GET", "/auth/user-info", token)).status_code == 200
        users = instance.mongo.collection(COLLECTION)
        await users.update_one({"_id": made["userId"]}, {"$set": {"active": False}})
        instance.watch.forward(seconds=11)
        assert (await instance.ask("GET", "/auth/user-info", token)).status_code == 403


class TestUsers:
    async def test_new_user_can_log_in_and_is_kept_unreadable(self, instance):
        made = await instance.user("grace")
        kept = await instance.mongo.collection(COLLECTION).find_one({"_id": made["userId"]})
        assert "grace" not in str(kept)
        token = (await instance.log_in("grace", made["initialPassword"]))["access_token"]
        shown = await (await instance.ask("GET", "/auth/user-info", token)).get_json()
        assert shown == {name: made[name] for name in made if name != "initialPassword"}
        for path in ("/users/", f"/users/{made['userId']}"):
            assert (await instance.ask("GET", path, token)).status_code == 403

    async def test_users_are_listed_and_found(self, instance):
        made = await instance.user("mary")
        token = await instance.administrator()
        listed = await (await instance.ask("GET", "/users/", token)).get_json()
        assert {"mary", ADMINISTRATOR} <= {user["username"] for user in listed}
        answer = await instance.ask("GET", f"/users/{made['userId']}", token)
        assert (await answer.get_json())["email"] == "mary@example.org"
        assert (await instance.ask("GET", "/users/none", token)).status_code == 404

    async def test_only_ids_of_users_are_known(self, instance):
        made = await instance.user("known")
        store = UserStore(instance.mongo.collection(COLLECTION))
        assert await store.known((made["userId"], "none")) == {made["userId"]}

    async def test_second_user_of_a_name_is_a_conflict(self, instance):
        await instance.user("twice")
        token = await instance.administrator()
        new = {"username": "Twice", "email": "t@example.org"}
        assert (await instance.ask("POST", "/users/", token, json=new)).status_code == 409

    @pytest.mark.parametrize(
        "body",
        [
            {"username": "../x", "email": "a@b"},
            {"username": "x", "email": "none"},
            {"username": "x", "email": "a@b", "role": "king"},
            {"username": "x", "email": "a@b", "active": True},
        ],
    )
    async def test_body_that_is_no_new_user_is_invalid(self, instance, body):
        token = await instance.administrator()
        assert (await instance.ask("POST", "/users/", token, json=body)).status_code == 400

    async def test_server_admin_grants_no_data_role(self, instance):
        made = await instance.user("joan", "serverAdmin")
        token = (await instance.log_in("joan", made["initialPassword"]))["access_token"]
        new = {"username": "x1", "email": "x@example.org", "role": "dataAdmin"}
        assert (await instance.ask("POST", "/users/", token, json=new)).status_code == 403

    async def test_registration_that_failed_half_way_goes_on(self, instance):
        new = NewUser(username="half", email="half@example.org")
        instance.keys.failing = True
        with pytest.raises(Unavailable, match="planted"):
            await instance.users.register(new, Role.DEVELOPER)
        done = await instance.users.register(new, Role.DEVELOPER)
        assert done.user.allow_login
        await instance.log_in("half", done.password)

    async def test_account_that_was_there_keeps_its_password(self, instance):
        made = await instance.user("before")
        await instance.mongo.collection(COLLECTION).delete_one({"_id": made["userId"]})
        again = await instance.user("before")
        assert "initialPassword" not in again
        await instance.log_in("before", made["initialPassword"])

    async def test_administrator_is_made_once(self, instance):
        again = [
            await instance.users.ensure_administrator(ADMINISTRATOR, ADMINISTRATOR, "a@b.org")
            for _ in range(2)
        ]
        assert again[0] == again[1]


class TestProvider:
    async def test_anyone_learns_where_to_log_in(self, instance):
        found = await (await instance.ask("GET", "/config/keycloak")).get_json()
        assert found["url"] == found["issuer"] == instance.provider.issuer
        assert (found["realm"], found["client_id"]) == ("", instance.provider.client_id)
        assert found["authorizationEndpoint"] == f"{instance.provider.issuer}/oauth/authorize"

    async def test_locked_account_cannot_log_in(self, instance):
        made = await instance.user("locked")
        account = await instance.accounts.find("locked")
        await instance.accounts.set_active(account, active=False)
        with pytest.raises(PermissionError):
            await instance.code("locked", made["initialPassword"])

    async def test_account_is_changed_and_removed_and_never_invited(self, instance):
        person = NewAccount(username="mona", email="m@example.org", first_name="", last_name="")
        made = await instance.accounts.create(person, "a first password")
        with pytest.raises(Invalid):
            await instance.accounts.create(msgspec.structs.replace(person, username="m2"), None)
        assert instance.accounts.invites is False
        with pytest.raises(Unavailable):
            await instance.accounts.invite(made)
        changed = msgspec.structs.replace(person, email="n@example.org", first_name="Mona")
        await instance.accounts.change(made, changed)
        assert (await instance.accounts.find("mona")).email == "n@example.org"
        await instance.code("mona", "a first password")
        for _ in range(2):
            await instance.accounts.delete(made)
        assert await instance.accounts.find("mona") is None

    async def test_tokens_stay_good_while_the_provider_is_down(self, instance):
        token = await instance.administrator()
        fields = await instance.code(ADMINISTRATOR, instance.provider.password)
        instance.provider.stop()
        try:
            assert (await instance.ask("GET", "/auth/user-info", token)).status_code == 200
            answer = await instance.exchange(**fields)
            assert answer.status_code == 503
            assert "identity provider" in (await answer.get_json())["error"]
        finally:
            instance.provider.start()
        assert (await instance.exchange(**fields)).status_code == 200
