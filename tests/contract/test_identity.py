"""What we ask of any OpenID provider, held against real ones.

Keycloak with its own powers, the same Keycloak taken as a plain provider, npm oidc-provider, and
Canaille. They are reached through a gate (but for Canaille, which is stopped and started), so that
one can be down for us alone; its issuer stays the address that people see.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from cvf_app.backends.http import Http
from cvf_app.backends.keycloak import KeycloakServer
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.clock import now
from cvf_app.console.login import challenge
from cvf_app.errors import Invalid, Unauthenticated, Unavailable
from cvf_app.users.identity import Identity
from cvf_app.users.identity.device import Pending, SlowDown
from cvf_app.users.identity.keycloak import Keycloak
from cvf_app.users.identity.oidc import CLIENT_SECRET, Oidc
from tests.support.canaille import ADMINISTRATOR, Canaille, canaille_python
from tests.support.gate import Gate
from tests.support.providers import REDIRECT, Real
from tests.support.realm import CLIENT

PROVIDERS = ("keycloak", "keycloak as a plain provider", "oidc-provider", "canaille")


class Watch:
    """A clock that tests can put forward."""

    ahead = timedelta()

    def __call__(self):
        return now() + self.ahead


@dataclass
class Subject:
    """An identity over a real provider, and what tests turn."""

    real: Real
    identity: Identity
    make: Callable[..., Identity]
    down: Callable[[], Awaitable[None]]
    up: Callable[[], Awaitable[None]]
    http: Http
    keys: FileKeyStore
    watch: Watch

    async def code(self) -> dict[str, str]:
        return await self.real.log_in((await self.identity.provider()).authorization_endpoint)

    async def log_in(self):
        return await self.identity.exchange_code(**await self.code())


@pytest.fixture(scope="module")
def at_keycloak(realm):
    return Real(
        issuer=realm.issuer,
        client_id=CLIENT,
        client_secret=realm.client_secret(),
        username="ada",
        password=realm.person("ada"),
    )


@pytest.fixture(scope="module")
def at_oidc_provider(oidc_provider):
    return Real(
        issuer=oidc_provider.address,
        client_id=oidc_provider.client_id,
        client_secret=oidc_provider.client_secret,
        username="ada",
        password="any",
    )


@pytest.fixture(scope="module")
def canaille(tmp_path_factory):
    python = canaille_python()
    if python is None:
        pytest.skip("Canaille is not installed and CV3_TEST_CANAILLE_PYTHON is not set")
    running = Canaille(tmp_path_factory.mktemp("canaille"), python)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def at_canaille(canaille):
    return Real(
        issuer=canaille.issuer,
        client_id=canaille.client_id,
        client_secret=canaille.client_secret,
        username=ADMINISTRATOR,
        password=canaille.password,
        has_device=False,
    )


@pytest.fixture(scope="module", params=PROVIDERS)
async def subject(request, tmp_path_factory):
    name = request.param
    real: Real = request.getfixturevalue(f"at_{name.partition(' ')[0].replace('-', '_')}")
    keys = FileKeyStore.open(tmp_path_factory.mktemp("keys") / "keys", create=True)
    await keys.write_secret(CLIENT_SECRET, {"client_secret": real.client_secret})
    async with _gate(real.issuer) as gate:
        http = Http.open(frozenset({gate.address, real.issuer}))
        watch = Watch()
        reached = real.issuer.replace(_origin(real.issuer), gate.address)
        down, up = gate.shut, gate.open
        if name == "canaille":
            # It writes its addresses, the issuer too, as it is asked: it must be met directly.
            reached, running = "", request.getfixturevalue("canaille")
            down, up = (
                partial(asyncio.to_thread, running.stop),
                partial(asyncio.to_thread, running.start),
            )

        def make(**other) -> Identity:
            where = {"issuer": real.issuer, "client_id": real.client_id, "backend_url": reached}
            if name == "keycloak":
                realm = real.issuer.rpartition("/")[2]
                server = KeycloakServer(
                    url=gate.address, realm=realm, client_id=real.client_id, secret=_never
                )
                return Keycloak(http, keys, watch, server, **where | other)
            return Oidc(http, keys, watch, **where | other)

        yield Subject(real, make(), make, down, up, http, keys, watch)
        await http.close()
        await keys.close()


async def _never() -> str:
    raise AssertionError("nothing here looks after accounts")


@asynccontextmanager
async def _gate(issuer: str) -> AsyncIterator[Gate]:
    gate = Gate(_origin(issuer))
    await gate.open()
    try:
        yield gate
    finally:
        await gate.shut()


def _origin(address: str) -> str:
    return "/".join(address.split("/")[:3])


class TestLogin:
    async def test_people_are_sent_to_the_address_that_they_can_reach(self, subject):
        found = await subject.identity.provider()
        assert (found.issuer, found.client_id) == (subject.real.issuer, subject.real.client_id)
        for endpoint in (found.authorization_endpoint, found.device_authorization_endpoint):
            assert endpoint is None or endpoint.startswith(_origin(subject.real.issuer))
        assert (found.device_authorization_endpoint is not None) is subject.real.has_device

    async def test_code_with_its_verifier_becomes_a_token_of_the_person(self, subject):
        first, second = [await subject.log_in() for _ in range(2)]
        claims = [await subject.identity.verify(each.access_token) for each in (first, second)]
        assert claims[0].subject == claims[1].subject
        assert claims[0].expires_at > now()
        assert first.token_type.lower() == "bearer"

    async def test_code_is_good_once(self, subject):
        code = await subject.code()
        await subject.identity.exchange_code(**code)
        with pytest.raises(Unauthenticated):
            await subject.identity.exchange_code(**code)

    @pytest.mark.parametrize(
        "wrong", [{"code": "none"}, {"verifier": "x" * 64}, {"redirect_uri": f"{REDIRECT}/else"}]
    )
    async def test_wrong_part_is_refused(self, subject, wrong):
        code = await subject.code()
        with pytest.raises(Unauthenticated):
            await subject.identity.exchange_code(**{**code, **wrong})

    async def test_redirect_outside_the_configured_list_is_invalid(self, subject):
        listed = subject.make(redirects=["https://discover.example.org/"])
        code = await subject.code()
        for other in ("https://discover.example.org", "https://discover.example.org/x", ""):
            with pytest.raises(Invalid) as refused:
                await listed.exchange_code(**{**code, "redirect_uri": other})
            assert refused.value.path == "$.redirect_uri"
        await listed.exchange_code(**code)

    async def test_refresh_token_gives_new_tokens(self, subject):
        tokens = await subject.log_in()
        fresh = await subject.identity.refresh(tokens.refresh_token)
        assert fresh.refresh_token
        before = await subject.identity.verify(tokens.access_token)
        assert (await subject.identity.verify(fresh.access_token)).subject == before.subject
        with pytest.raises(Unauthenticated):
            await subject.identity.refresh("none")

    async def test_wrong_secret_of_ours_is_our_fault_not_the_persons(self, subject):
        code = await subject.code()
        await subject.keys.write_secret(CLIENT_SECRET, {"client_secret": "wrong"})
        try:
            with pytest.raises(Unavailable, match="identity provider"):
                await subject.identity.exchange_code(**code)
        finally:
            await subject.keys.write_secret(
                CLIENT_SECRET, {"client_secret": subject.real.client_secret}
            )

    async def test_plain_provider_exchanges_for_nobody(self, subject):
        if isinstance(subject.identity, Keycloak):
            plain = Oidc.exchange_for
            asked = plain(subject.identity, "token", "elsewhere")
        else:
            asked = subject.identity.exchange_for("token", "elsewhere")
        with pytest.raises(Unavailable, match="elsewhere"):
            await asked


class TestVerify:
    async def test_id_token_is_no_access_token(self, subject):
        code = await subject.code()
        endpoint = await _endpoint(subject, "token_endpoint")
        given = await subject.real.ask(
            subject.http,
            endpoint,
            grant_type="authorization_code",
            code=code["code"],
            code_verifier=code["verifier"],
            redirect_uri=code["redirect_uri"],
        )
        await subject.identity.verify(str(given["access_token"]))
        for name in ("id_token", "refresh_token"):
            with pytest.raises(Unauthenticated):
                await subject.identity.verify(str(given[name]))

    async def test_token_for_another_audience_is_refused(self, subject):
        token = (await subject.log_in()).access_token
        with pytest.raises(Unauthenticated, match="another service"):
            await subject.make(client_id="somebody-else").verify(token)

    async def test_expired_token_says_so(self, subject):
        token = (await subject.log_in()).access_token
        lasts = (await subject.identity.verify(token)).expires_at - now()
        subject.watch.ahead = lasts + timedelta(seconds=31)
        try:
            with pytest.raises(Unauthenticated, match="expired"):
                await subject.identity.verify(token)
        finally:
            subject.watch.ahead = timedelta()

    async def test_forged_and_changed_tokens_are_refused(self, subject):
        token = (await subject.log_in()).access_token
        head, body, signature = token.split(".")
        said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        forged = jwt.encode(
            {"alg": "RS256", "typ": "at+jwt", "kid": "mine"},
            {**said, "exp": int(time.time()) + 60},
            RSAKey.generate_key(2048),
        )
        changed = base64.urlsafe_b64encode(json.dumps(said | {"sub": "eve"}).encode()).rstrip(b"=")
        unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode()
        for bad in (
            forged,
            f"{head}.{changed.decode()}.{signature}",
            f"{head}.{body}.{'A' * len(signature)}",
            f"{unsigned}.{body}.",
            "x",
            "x" * 20_000,
        ):
            with pytest.raises(Unauthenticated):
                await subject.identity.verify(bad)


class TestDevice:
    async def test_login_by_device_code(self, subject):
        verifier = "v" * 64
        bound = challenge(verifier)
        if not subject.real.has_device:
            with pytest.raises(Invalid, match="device code"):
                await subject.identity.start_device(bound)
            return
        device = await subject.identity.start_device(bound)
        assert device.verification_uri.startswith(_origin(subject.real.issuer))
        with pytest.raises(Pending):
            await subject.identity.poll_device(device.device_code, verifier)
        await subject.real.confirm(device.verification_uri_complete)
        tokens = await _polled(subject, device, verifier)
        assert (await subject.identity.verify(tokens.access_token)).subject
        with pytest.raises(Unauthenticated):
            await subject.identity.poll_device("none", verifier)


class TestProviderDown:
    async def test_known_keys_go_on_and_logins_are_unavailable(self, subject):
        token = (await subject.log_in()).access_token
        code = await subject.code()
        await subject.identity.verify(token)
        await subject.down()
        try:
            assert (await subject.identity.verify(token)).subject
            for asked in (
                subject.identity.exchange_code(**code),
                subject.identity.refresh("any"),
            ):
                with pytest.raises(Unavailable, match="The identity provider"):
                    await asked
            with pytest.raises(Unavailable, match="identity provider"):
                await subject.make().verify(token)
        finally:
            await subject.up()
        assert (await subject.identity.exchange_code(**code)).access_token


async def _polled(subject, device, verifier):
    """Ask as RFC 8628, 3.5, has it: five seconds less often each time we are told to slow down."""
    interval = device.interval
    while True:
        await asyncio.sleep(interval)
        try:
            return await subject.identity.poll_device(device.device_code, verifier)
        except SlowDown:
            interval += 5


async def _endpoint(subject, name):
    address = f"{subject.real.issuer}/.well-known/openid-configuration"
    return str((await subject.http.get_json(address))[name])
