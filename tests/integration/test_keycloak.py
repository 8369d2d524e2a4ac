"""A real Keycloak: accounts, invitations, exchange, rotated keys, and an instance on it."""

import asyncio
import base64
import json
import logging
import re
from datetime import timedelta
from html import unescape

import pytest

from cvf_app.assembly import install
from cvf_app.backends.http import Http
from cvf_app.backends.keycloak import KeycloakServer
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.clock import now
from cvf_app.config import load
from cvf_app.console.device import log_in_by_device
from cvf_app.console.failures import Failure
from cvf_app.errors import Conflict, Invalid, Unauthenticated, Unavailable
from cvf_app.users.identity import NewAccount
from cvf_app.users.identity.configured import keycloak_server, people
from tests.support import nodes
from tests.support.providers import REDIRECT, Consent, Real
from tests.support.realm import CLIENT

OTHER = "node-b"


class Watch:
    """A clock that tests can put forward."""

    ahead = timedelta()

    def __call__(self):
        return now() + self.ahead


class Counting(Http):
    """The one HTTP client, which counts how often the keys are asked for."""

    asked_for_keys = 0

    async def get_json(self, url, *, service=""):
        self.asked_for_keys += url.endswith("/certs")
        return await super().get_json(url, service=service)


class Here:
    """One process of an instance over the realm."""

    def __init__(self, realm, config, http, keys):
        self.realm, self.http, self.keys = realm, http, keys
        self.watch = Watch()
        self.server = keycloak_server(config, keys)
        self.identity, self.accounts = people(config, http, keys, self.server, self.watch)

    async def log_in(self, username, password):
        real = Real(
            issuer=self.realm.issuer,
            client_id=CLIENT,
            client_secret="",
            username=username,
            password=password,
        )
        endpoint = (await self.identity.provider()).authorization_endpoint
        return await self.identity.exchange_code(**await real.log_in(endpoint))

    async def log_in_after_refusal(self, username, password):
        """Log in when Keycloak has written a refusal down: until then it refuses every attempt."""
        async with asyncio.timeout(20):
            while True:
                try:
                    return await self.log_in(username, password)
                except Failure:
                    await asyncio.sleep(1)


@pytest.fixture
async def process(realm):
    """Make processes; each has its own memory of keys, all have one key store."""
    keys = FileKeyStore.open(realm.folder / "keys")
    http = Counting.open(frozenset({realm.address}))
    made = []

    def make():
        made.append(Here(realm, load(realm.file), http, keys))
        return made[-1]

    yield make
    for each in made:
        await each.server.close()
    await http.close()
    await keys.close()


@pytest.fixture
def here(process):
    return process()


@pytest.fixture(scope="module")
def grace(realm):
    return realm.person("grace")


def new(name, **more):
    fields = {"username": name, "email": f"{name}@example.org", "first_name": "", "last_name": ""}
    return NewAccount(**fields | more)


def said(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


class TestAccounts:
    async def test_account_is_made_found_listed_changed_and_removed(self, here, realm):
        made = await here.accounts.create(new("Mary", affiliation="Leicester"), "pass word 1")
        assert (made.username, made.email, made.active) == (
            "mary",
            "Mary@example.org".lower(),
            True,
        )
        assert await here.accounts.find("MARY") == made
        assert await here.accounts.find("mar") is None
        assert made in await here.accounts.list_accounts()
        changed = {"email": "new@example.org", "last_name": "Shelley", "affiliation": "London"}
        await here.accounts.change(made, new("Mary", **changed))
        await here.accounts.set_active(made, active=False)
        kept = realm.admin().get_user(made.account_id)
        assert (kept["email"], kept["lastName"], kept["enabled"]) == (
            "new@example.org",
            "Shelley",
            False,
        )
        assert kept["attributes"]["affiliation"] == ["London"]
        await here.accounts.delete(made)
        await here.accounts.delete(made)
        assert await here.accounts.find("mary") is None

    async def test_all_accounts_are_listed_page_by_page(self, here):
        made = [await here.accounts.create(new(f"many{n}"), None) for n in range(105)]
        listed = await here.accounts.list_accounts()
        assert {each.account_id for each in made} <= {each.account_id for each in listed}
        assert not any(each.username.startswith("service-account") for each in listed)
        for each in made:
            await here.accounts.delete(each)

    async def test_name_or_address_that_is_taken_is_a_conflict(self, here):
        await here.accounts.create(new("taken"), None)
        for other in (new("Taken", email="x@example.org"), new("x", email="taken@example.org")):
            with pytest.raises(Conflict):
                await here.accounts.create(other, None)

    async def test_what_keycloak_does_not_take_is_invalid(self, here):
        with pytest.raises(Invalid):
            await here.accounts.create(new("badmail", email="none"), None)

    async def test_password_can_be_given_and_given_anew(self, here):
        made = await here.accounts.create(new("joan"), "first one 1")
        claims = await here.identity.verify((await here.log_in("joan", "first one 1")).access_token)
        assert claims.subject == made.subject
        await here.accounts.set_password(made, "second one 2")
        with pytest.raises(Failure):
            await here.log_in("joan", "first one 1")
        await here.log_in_after_refusal("joan", "second one 2")

    async def test_locked_account_neither_logs_in_nor_refreshes(self, here):
        made = await here.accounts.create(new("locked"), "pass word 1")
        tokens = await here.log_in("locked", "pass word 1")
        await here.accounts.set_active(made, active=False)
        with pytest.raises(Failure):
            await here.log_in("locked", "pass word 1")
        with pytest.raises(Unauthenticated):
            await here.identity.refresh(tokens.refresh_token)
        await here.accounts.set_active(made, active=True)
        await here.log_in_after_refusal("locked", "pass word 1")

    async def test_invited_person_sets_a_password_by_the_mailed_link(self, here, smtp):
        assert here.accounts.invites
        made = await here.accounts.create(new("invited"), None)
        with pytest.raises(Failure):
            await here.log_in("invited", "")
        await here.accounts.invite(made)
        mail = next(m for m in reversed(smtp.mails()) if m.recipients == ("invited@example.org",))
        link = unescape(re.search(r"https?://\S+action-token\S+", _text(mail))[0])
        assert link.startswith(here.realm.address)
        await asyncio.to_thread(SetPassword("invited", "my own 123").agree, link)
        await here.log_in_after_refusal("invited", "my own 123")

    async def test_invitation_that_cannot_be_mailed_is_unavailable(self, here, smtp):
        made = await here.accounts.create(new("unreached"), None)
        with smtp.answering("451 4.3.0 later"), pytest.raises(Unavailable):
            await here.accounts.invite(made)

    @pytest.mark.usefixtures("grace")
    async def test_new_secret_is_taken_up_without_a_restart(self, here, realm):
        assert await here.accounts.find("grace")
        assert realm.set_up("--rotate-secret").returncode == 0
        # The service account's token is still good; a login made anew needs the new secret.
        await here.server.close()
        assert await here.accounts.find("grace")

    async def test_refusals_and_silence_are_told_apart(self, realm):
        async def wrong() -> str:
            return "wrong"

        there = {"realm": realm.name, "client_id": CLIENT, "secret": wrong}
        for url, sentence in (
            (realm.address, "refuses our client"),
            ("http://127.0.0.1:1", "does not answer"),
        ):
            server = KeycloakServer(url=url, **there)
            with pytest.raises(Unavailable, match=sentence):
                await server.users()
            await server.close()

    async def test_no_name_is_logged(self, here, caplog):
        with caplog.at_level(logging.INFO):
            await here.accounts.find("whispered")
            with pytest.raises(Invalid):
                await here.accounts.create(new("whispered", email="whispered"), None)
        assert "whispered" not in caplog.text


class TestTokens:
    async def test_token_of_a_login_names_us_alone_and_no_rights_elsewhere(self, here, grace):
        claims = said((await here.log_in("grace", grace)).access_token)
        assert claims["aud"] in (CLIENT, [CLIENT])
        assert claims["azp"] == CLIENT
        assert not {"realm_access", "resource_access"} & set(claims)

    async def test_login_is_exchanged_for_one_that_only_the_target_takes(self, here, realm, grace):
        realm.admin().create_client({"clientId": OTHER, "publicClient": False}, skip_exists=True)
        assert realm.set_up("--target", OTHER).returncode == 0
        token = (await here.log_in("grace", grace)).access_token
        given = await here.identity.exchange_for(token, OTHER)
        claims = said(given.access_token)
        assert claims["aud"] in (OTHER, [OTHER])
        assert claims["sub"] == said(token)["sub"]
        # Whoever got it must not be able to come back with it.
        with pytest.raises(Unauthenticated, match="another service"):
            await here.identity.verify(given.access_token)
        # An ordinary login still names us alone.
        assert OTHER not in str(said((await here.log_in("grace", grace)).access_token)["aud"])

    async def test_target_that_nobody_set_up_says_what_to_do(self, here, grace):
        token = (await here.log_in("grace", grace)).access_token
        with pytest.raises(Unavailable, match="--target somewhere"):
            await here.identity.exchange_for(token, "somewhere")

    async def test_bad_token_is_exchanged_for_nothing(self, here, realm):
        realm.admin().create_client({"clientId": OTHER, "publicClient": False}, skip_exists=True)
        assert realm.set_up("--target", OTHER).returncode == 0
        with pytest.raises(Unauthenticated):
            await here.identity.exchange_for("none", OTHER)


class TestRotatedKeys:
    async def test_no_request_fails_and_a_removed_key_opens_nothing(self, process, realm, grace):
        one, two = process(), process()
        admin = realm.admin()
        realm_id = admin.get_realm(realm.name)["id"]
        old = (await one.log_in("grace", grace)).access_token
        for each in (one, two):
            await each.identity.verify(old)
        before = {
            c["id"]: c for c in admin.get_components({"type": "org.keycloak.keys.KeyProvider"})
        }
        admin.create_component(
            {
                "name": "rsa-new",
                "providerId": "rsa-generated",
                "providerType": "org.keycloak.keys.KeyProvider",
                "parentId": realm_id,
                "config": {
                    "priority": ["200"],
                    "enabled": ["true"],
                    "active": ["true"],
                    "keySize": ["2048"],
                    "algorithm": ["RS256"],
                },
            }
        )
        # The process that gets a login hears of the new key with it; the other one from a request.
        fresh = (await one.log_in("grace", grace)).access_token
        assert fresh.split(".")[0] != old.split(".")[0]
        for each in (one, two):
            for token in (fresh, old):
                assert await each.identity.verify(token)

        for component in before.values():
            if component["providerId"] == "rsa-generated":
                component["config"] |= {"active": ["false"], "enabled": ["false"]}
                admin.update_component(component["id"], component)
        one.watch.ahead = timedelta(minutes=4)
        assert await one.identity.verify(fresh)
        two.watch.ahead = timedelta(minutes=10, seconds=1)
        with pytest.raises(Unauthenticated, match="nobody published"):
            await two.identity.verify(old)

    async def test_thousand_bogus_keys_ask_once(self, here, grace):
        token = (await here.log_in("grace", grace)).access_token
        await here.identity.verify(token)
        here.watch.ahead = timedelta(seconds=11)
        asked = here.http.asked_for_keys
        _, body, signature = token.split(".")

        async def bogus(number):
            header = json.dumps({"alg": "RS256", "typ": "JWT", "kid": f"bogus-{number}"})
            head = base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode()
            with pytest.raises(Unauthenticated):
                await here.identity.verify(f"{head}.{body}.{signature}")

        await asyncio.gather(*(bogus(number) for number in range(1000)))
        assert here.http.asked_for_keys == asked + 1
        assert await here.identity.verify(token)


class SetPassword(Consent):
    """A person who follows the link of an invitation and types a password twice."""

    def _filled(self, form):
        fields = super()._filled(form)
        for name in ("password-new", "password-confirm"):
            if name in fields:
                fields[name] = self._password
        return fields


@pytest.fixture(scope="module")
async def served(realm, grace, mongo_url, redis_url):
    """A whole instance of full mode, on this realm, whose first administrator is Grace."""
    assert grace
    services = nodes.where(mongo_url, redis_url)
    config = realm.configure(**json.loads(realm.file.read_text()) | services)
    subject = realm.admin().get_user_id("grace")
    await install(config, username="grace", subject=subject, email="grace@example.org")
    async with nodes.served(config, "", None, realm.folder) as node:
        yield node


class TestInstall:
    async def test_first_administrator_is_found_or_made_and_invited(self, here, served, smtp):
        who = {"username": "chief", "email": "chief@example.org"}
        with smtp.answering("451 4.3.0 later"), pytest.raises(Unavailable):
            await install(served.config, **who)
        assert await here.accounts.find("chief") is None
        for _ in range(2):
            await install(served.config, **who)
        made = await here.accounts.find("chief")
        texts = [_text(mail) for mail in smtp.mails() if "chief@example.org" in mail.recipients]
        # One invitation in this realm, although it was done twice.
        assert sum(here.realm.name in text for text in texts) == 1
        await here.accounts.delete(made)


def _text(mail):
    return mail.message.get_body(("plain",)).get_content()


class TestInstance:
    async def test_anyone_learns_where_to_log_in(self, served, realm):
        told = (await served.call("GET", "/config/keycloak", None)).json
        assert told["url"] == realm.address
        assert (told["realm"], told["client_id"]) == (realm.name, CLIENT)
        assert told["deviceAuthorizationEndpoint"].startswith(f"{realm.issuer}/")

    async def test_code_is_taken_only_where_logins_may_return_to(self, served, realm, here, grace):
        real = Real(
            issuer=realm.issuer,
            client_id=CLIENT,
            client_secret="",
            username="grace",
            password=grace,
        )
        walked = await real.log_in((await here.identity.provider()).authorization_endpoint)
        sent = {
            "grant_type": "authorization_code",
            "code": walked["code"],
            "code_verifier": walked["verifier"],
        }
        elsewhere = {**sent, "redirect_uri": "https://evil.example.org/"}
        refused = await served.call("POST", "/auth/token", None, json=elsewhere)
        assert (refused.status, refused.json["path"]) == (400, "$.redirect_uri")
        sent["redirect_uri"] = REDIRECT
        tokens = (await served.call("POST", "/auth/token", None, json=sent)).json
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        who = await served.call("GET", "/auth/user-info", None, headers=headers)
        assert (who.json["username"], who.json["role"]) == ("grace", "developer")

    async def test_command_line_logs_in_by_device_code_and_slows_down(self, served, grace):
        told, waits, loop = [], [], asyncio.get_running_loop()

        def wait(seconds):
            waits.append(seconds)
            if len(waits) == 3:
                link = told[1].removeprefix("Or open ")
                Consent("grace", grace).agree(link)
                asyncio.run_coroutine_threadsafe(asyncio.sleep(6), loop).result()

        session = await asyncio.to_thread(log_in_by_device, served.address, told.append, wait)
        # Asked twice without a pause: the first time nobody has agreed, the second is too soon.
        assert waits == [5, 5, 10]
        headers = {"Authorization": f"Bearer {session.access_token}"}
        who = await served.call("GET", "/auth/user-info", None, headers=headers)
        assert who.json["username"] == "grace"
        assert session.refresh_token

    async def test_device_login_that_is_denied_ends(self, served, grace):
        told = []

        def wait(_seconds):
            Denial("grace", grace).agree(told[1].removeprefix("Or open "))

        with pytest.raises(Failure, match="denied"):
            await asyncio.to_thread(log_in_by_device, served.address, told.append, wait)


class Denial(Consent):
    """A person who says no."""

    agrees = ("cancel",)
