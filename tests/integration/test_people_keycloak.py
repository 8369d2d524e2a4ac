"""People on an instance of full mode: asked for, approved and shut out with a real Keycloak."""

import asyncio
import json
import re
from html import unescape

import pytest

from cvf_app.assembly import install
from cvf_app.backends.http import Http
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.clock import now
from cvf_app.users.identity.configured import keycloak_server, people
from tests.support import nodes
from tests.support.providers import Consent, Real
from tests.support.realm import CLIENT


class SetPassword(Consent):
    """A person who follows the link of an invitation and types a password twice."""

    def _filled(self, form):
        fields = super()._filled(form)
        for name in ("password-new", "password-confirm"):
            if name in fields:
                fields[name] = self._password
        return fields


class Instance:
    """A served instance over the realm, and logins to it."""

    def __init__(self, node, realm, identity):
        self.node, self.realm, self.identity = node, realm, identity

    async def log_in(self, username, password):
        """Log in as a person does and return the headers of their requests."""
        real = Real(
            issuer=self.realm.issuer,
            client_id=CLIENT,
            client_secret="",
            username=username,
            password=password,
        )
        endpoint = (await self.identity.provider()).authorization_endpoint
        tokens = await self.identity.exchange_code(**await real.log_in(endpoint))
        return {"Authorization": f"Bearer {tokens.access_token}"}

    async def call(self, method, path, headers, **sent):
        return await self.node.call(method, path, None, headers=headers, **sent)

    async def account(self, username):
        """Return an account in the realm, or none."""

        def look():
            admin = self.realm.admin()
            found = admin.get_user_id(username)
            return found and admin.get_user(found)

        return await asyncio.to_thread(look)


@pytest.fixture(scope="module")
async def instance(realm, mongo_url, redis_url):
    password = realm.person("pia")
    services = nodes.where(mongo_url, redis_url)
    config = realm.configure(**json.loads(realm.file.read_text()) | services)
    subject = realm.admin().get_user_id("pia")
    await install(config, username="pia", subject=subject, email="pia@example.org")
    keys = FileKeyStore.open(realm.folder / "keys")
    http = Http.open(frozenset({realm.address}))
    server = keycloak_server(config, keys)
    identity, _ = people(config, http, keys, server, now)
    async with nodes.served(config, "", None, realm.folder) as node:
        made = Instance(node, realm, identity)
        made.admin = await made.log_in("pia", password)
        yield made
    await server.close()
    await http.close()
    await keys.close()


async def mailed(smtp, recipient, text):
    """Wait for a mail to somebody that says something, and return what it says."""
    async with asyncio.timeout(60):
        while True:
            for mail in smtp.mails():
                if mail.recipients == (recipient,):
                    body = mail.message.get_body(("plain",)).get_content()
                    if text in f"{mail.message['Subject']}\n{body}":
                        return body
            await asyncio.sleep(0.2)


class TestAccess:
    async def test_from_the_form_to_the_first_question_and_out_again(self, instance, smtp):
        address = "quinn@example.org"
        asked = {
            "firstName": "Quinn",
            "lastName": "Asker",
            "email": address,
            "affiliation": "Clinic",
            "justification": "Patients like mine",
        }
        answer = await instance.call("POST", "/access-requests/", {}, json=asked)
        assert answer.status == 200
        path = f"/access-requests/{answer.json['requestId']}"
        assert "Patients like mine" in await mailed(smtp, "pia@example.org", "Quinn")
        assert "Patients" not in await mailed(smtp, address, "")
        first, second = await asyncio.gather(
            instance.call("POST", f"{path}/approve", instance.admin, json={"username": "quinn"}),
            instance.call("POST", f"{path}/approve", instance.admin, json={"username": "quinn"}),
        )
        done = first if first.status == 200 else second
        assert done.status == 200
        assert "initialPassword" not in done.json
        link = unescape(
            re.search(r"https?://\S+action-token\S+", await mailed(smtp, address, "action-token"))[
                0
            ]
        )
        await asyncio.to_thread(SetPassword("quinn", "my own 123").agree, link)
        headers = await instance.log_in("quinn", "my own 123")
        who = await instance.call("GET", "/auth/user-info", headers)
        assert (who.json["userId"], who.json["role"]) == (done.json["userId"], "user")
        question = await instance.call("POST", "/record/", headers, json={})
        assert question.status in {200, 202}
        user = f"/users/{done.json['userId']}"
        assert (await instance.call("POST", f"{user}/revoke-login", instance.admin)).status == 200
        assert (await instance.call("GET", "/auth/user-info", headers)).status == 401
        # The realm knows people by their address; a name changed here is changed there.
        change = {"email": "quinn.new@example.org"}
        await instance.call("PATCH", user, instance.admin, json=change)
        account = await instance.account("quinn")
        assert account["email"] == "quinn.new@example.org"

    async def test_an_invitation_that_cannot_be_mailed_undoes_the_account(self, instance, smtp):
        new = {"username": "robin", "email": "robin@example.org"}
        with smtp.answering("451 4.3.0 later"):
            answer = await instance.call("POST", "/users/", instance.admin, json=new)
        assert answer.status == 503
        assert await instance.account("robin") is None
        listed = (await instance.call("GET", "/users/", instance.admin)).json
        assert "robin" not in {user["username"] for user in listed}
        answer = await instance.call("POST", "/users/", instance.admin, json=new)
        assert (answer.status, answer.json["username"]) == (200, "robin")
        assert await instance.account("robin") is not None

    async def test_an_address_that_keycloak_knows_undoes_and_takes_nothing(self, instance):
        new = {"username": "sam", "email": "pia@example.org"}
        answer = await instance.call("POST", "/users/", instance.admin, json=new)
        assert answer.status == 409
        assert await instance.account("sam") is None
        assert await instance.account("pia") is not None

    async def test_somebody_of_the_realm_arrives_by_name_and_waits(self, instance):
        password = await asyncio.to_thread(instance.realm.person, "toni")
        headers = await instance.log_in("toni", password)
        on = {"federationSettings": {"autoUserRegistration": True}}
        await instance.call("POST", "/config/global", instance.admin, json=on)
        assert (await instance.call("GET", "/sources/", headers)).status == 403
        listed = (await instance.call("GET", "/users/", instance.admin)).json
        (user,) = [user for user in listed if user["email"] == "toni@example.org"]
        assert (user["username"], user["firstName"]) == ("toni", "toni")
        assert (user["active"], user["allowLogin"]) == (False, False)
        for act in ("activate", "permit-login"):
            await instance.call("POST", f"/users/{user['userId']}/{act}", instance.admin)
        assert (await instance.call("GET", "/sources/", headers)).status == 200
        await instance.call(
            "POST", "/config/global", instance.admin, json={"federationSettings": {}}
        )
