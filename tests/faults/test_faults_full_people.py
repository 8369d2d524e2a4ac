"""Keycloak, the mail server and the log receiver die under load (security design, 5.1).

A node of full mode, logged in to with a real Keycloak, answers twenty requests a second while one
of them is gone. Nobody restarts the node, and nothing that was acknowledged is lost.
"""

import asyncio
import itertools
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

import aiohttp
import msgspec
import pytest
import structlog

from cvf_app import config as settings
from cvf_app.assembly import install
from cvf_app.backends import log
from cvf_app.backends.http import Http
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.clock import now
from cvf_app.users.identity.configured import keycloak_server, people
from tests.support import nodes, servers, services, table
from tests.support.nodes import Answer, Node
from tests.support.outages import outage
from tests.support.peers import loki, receivers
from tests.support.providers import Real
from tests.support.realm import CLIENT, Realm

# A letter that could not be sent is tried again after a minute.
MAIL_SECONDS = 150
LONG = pytest.mark.timeout(280)


@dataclass
class Stage:
    """A node, its servers, and who asks."""

    node: Node
    keycloak: servers.Keycloak
    smtp: servers.Smtp
    loki: loki.Loki
    realm: Realm
    password: str
    identity: object
    source: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    refresh: str = ""
    acknowledged: set[str] = field(default_factory=set)
    numbers: itertools.count = field(default_factory=itertools.count)

    async def log_in(self) -> None:
        """Log in as a person does; requests use the new token from now on."""
        real = Real(
            issuer=self.realm.issuer,
            client_id=CLIENT,
            client_secret="",
            username="pia",
            password=self.password,
        )
        endpoint = (await self.identity.provider()).authorization_endpoint
        tokens = await self.identity.exchange_code(**await real.log_in(endpoint))
        self.headers = {"Authorization": f"Bearer {tokens.access_token}"}
        self.refresh = tokens.refresh_token

    async def live(self, _: int) -> Answer:
        return await self.node.call("GET", "/health/live", None)

    async def read(self, _: int) -> Answer:
        path = f"/sources/{self.source}"
        return await self.node.call("GET", path, None, headers=self.headers)

    async def write(self, _: int) -> Answer:
        name = f"load{next(self.numbers)}"
        new = {"sourceType": "internal", "sourceName": name, "displayName": name}
        answer = await self.node.call("POST", "/sources/", None, headers=self.headers, json=new)
        if answer.status == 200:
            self.acknowledged.add(name)
        return answer

    async def nothing_is_lost(self) -> None:
        """See that everything that was acknowledged is there."""
        kept = await self.node.call("GET", "/sources/", None, headers=self.headers)
        assert self.acknowledged
        assert self.acknowledged <= {source["sourceName"] for source in kept.json}

    async def ask(self, _: int) -> Answer:
        headers = self.headers | {"Prefer": "wait=20"}
        return await self.node.call("POST", "/record/", None, headers=headers, json={})

    async def renew(self, _: int = 0) -> Answer:
        """Ask for a new token with a refresh token."""
        form = {"grant_type": "refresh_token", "refresh_token": self.refresh}
        return await self.node.call("POST", "/auth/token", None, data=form)

    @property
    def kinds(self):
        return [("live", self.live), ("read", self.read), ("write", self.write), ("ask", self.ask)]


@pytest.fixture(scope="module")
async def stage(tmp_path_factory, mongo_url, redis_url):
    before = structlog.get_config()
    try:
        with (
            servers.running("keycloak", own=True) as keycloak,
            servers.running("smtp", own=True) as smtp,
        ):
            table.stand_in("loki", "peer that checks the form of a push")
            async with loki.Loki() as receiver:
                realm = Realm(
                    address=keycloak.address,
                    name=f"cv3-{uuid4().hex[:8]}",
                    username=keycloak.username,
                    password=keycloak.password,
                    folder=tmp_path_factory.mktemp("realm"),
                )
                realm.configure()
                done = await asyncio.to_thread(realm.set_up)
                assert done.returncode == 0, done.stdout + done.stderr
                async with _served(realm, mongo_url, redis_url, smtp, receiver) as made:
                    yield replace(made, keycloak=keycloak)
    except services.Missing as reason:
        pytest.skip(str(reason))
    finally:
        log.configure("cv3", "INFO")
        structlog.configure(**before)


@asynccontextmanager
async def _served(realm, mongo_url, redis_url, smtp, receiver):
    """Serve an instance of the realm, whose log goes to a receiver and whose mail to a server."""
    password = realm.person("pia")
    config = realm.configure(
        **json.loads(realm.file.read_text()) | nodes.where(mongo_url, redis_url),
        Email={
            "From": {"Address": "cafe-variome@example.org", "Name": "Cafe Variome"},
            "SMTP": {"Host": smtp.host, "Port": smtp.plain_port, "Security": "none"},
        },
    )
    shipped = settings.Logging(loki=settings.Loki(enabled=True, endpoint=receiver.address))
    config = msgspec.structs.replace(config, logging=shipped)
    subject = realm.admin().get_user_id("pia")
    await install(config, username="pia", subject=subject, email="pia@example.org")
    keys = FileKeyStore.open(realm.folder / "keys")
    http = Http.open(frozenset({realm.address}))
    server = keycloak_server(config, keys)
    identity, _ = people(config, http, keys, server, now)
    # A kept connection may be closed by the server just when it is used again.
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        nodes.served(config, "", None, realm.folder) as node,
        aiohttp.ClientSession(connector=connector) as client,
    ):
        alone = replace(node, client=client)
        made = Stage(alone, None, smtp, receiver, realm, password, identity)
        await made.log_in()
        made.source = (await made.write(0)).json["sourceId"]
        yield made
    await server.close()
    await http.close()
    await keys.close()


@LONG
class TestKeycloak:
    async def test_killed_under_load_those_who_are_in_stay_in(self, stage):
        refused = []

        async def start():
            refused.append(await stage.renew())
            await asyncio.to_thread(stage.keycloak.start)

        parts = await outage(
            stage.node, stage.kinds, lambda: asyncio.to_thread(stage.keycloak.kill), start
        )
        for kind, _ in stage.kinds:
            assert {one.status for one in parts.during(kind)} == {200}, kind
            assert parts.after(kind) == {200}, kind
        (answer,) = refused
        assert answer.status == 503
        assert "Keycloak" in answer.json["error"] or "identity" in answer.json["error"]
        assert answer.headers["Retry-After"]
        await stage.log_in()
        assert (await stage.renew()).status == 200
        await stage.nothing_is_lost()

    async def test_rotated_keys_fail_no_request(self, stage):
        await stage.log_in()
        admin = stage.realm.admin()
        kind = {"type": "org.keycloak.keys.KeyProvider"}
        old = [one for one in admin.get_components(kind) if one["providerId"] == "rsa-generated"]

        async def rotate():
            await asyncio.to_thread(admin.create_component, _new_key(admin, stage.realm.name))
            before = stage.headers["Authorization"].partition(".")[0]
            await stage.log_in()
            assert stage.headers["Authorization"].partition(".")[0] != before

        async def retire():
            for each in old:
                each["config"] |= {"active": ["false"], "enabled": ["false"]}
                await asyncio.to_thread(admin.update_component, each["id"], each)

        parts = await outage(stage.node, stage.kinds, rotate, retire)
        assert {one.status for one in parts.load.came} == {200}
        assert len(parts.load.came) > 200


def _new_key(admin, realm):
    config = {"priority": ["200"], "enabled": ["true"], "active": ["true"]}
    return {
        "name": "rsa-new",
        "providerId": "rsa-generated",
        "providerType": "org.keycloak.keys.KeyProvider",
        "parentId": admin.get_realm(realm)["id"],
        "config": config | {"keySize": ["2048"], "algorithm": ["RS256"]},
    }


@LONG
class TestSmtp:
    async def test_stopped_under_load_every_letter_comes_once_in_the_end(self, stage):
        # Tokens live for five minutes, and this takes one or two.
        await stage.log_in()
        wanted = [f"asker{number}@example.org" for number in range(3)]
        asked = []

        async def stop():
            await asyncio.to_thread(stage.smtp.kill)
            for address in wanted:
                person = {
                    "firstName": "A",
                    "lastName": "Person",
                    "email": address,
                    "affiliation": "Clinic",
                    "justification": "Patients like mine",
                }
                asked.append(await stage.node.call("POST", "/access-requests/", None, json=person))

        parts = await outage(
            stage.node, stage.kinds, stop, lambda: asyncio.to_thread(stage.smtp.start)
        )
        assert {one.status for one in parts.load.came} == {200}
        assert {one.status for one in asked} == {200}
        async with asyncio.timeout(MAIL_SECONDS):
            while not set(wanted) <= set(_recipients(stage.smtp)):  # noqa: ASYNC110 - files have no event
                await asyncio.sleep(0.5)
        assert [_recipients(stage.smtp)[each] for each in wanted] == [1, 1, 1]
        await stage.nothing_is_lost()


def _recipients(smtp):
    return Counter(address for mail in smtp.mails() for address in mail.recipients)


class TestLoki:
    @pytest.mark.parametrize("mood", [receivers.DOWN, receivers.HANGING])
    async def test_gone_under_load_it_slows_nobody_and_gets_the_lines_later(self, stage, mood):
        mark = uuid4().hex
        await stage.log_in()

        async def leave():
            stage.loki.become(mood)
            structlog.get_logger("cv3.test").warning("line", mark=mark)

        async def come_back():
            assert not _with(stage.loki, mark)
            stage.loki.become(receivers.OK)

        parts = await outage(stage.node, stage.kinds, leave, come_back)
        assert {one.status for one in parts.load.came} == {200}
        async with asyncio.timeout(60):
            while not (found := _with(stage.loki, mark)):  # noqa: ASYNC110 - nor has the peer
                await asyncio.sleep(0.1)
        assert len(found) == 1
        await stage.nothing_is_lost()


def _with(receiver, mark):
    return [line for line in receiver.lines if mark in line]
