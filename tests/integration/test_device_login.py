"""The device flow on both sides, held against peers that answer what real providers do.

What an answer means stands in its `error` (the provider's) or `code` (ours), never in the status:
by RFC 8628 pending is 400, at one well-known provider it is 403.
"""

import asyncio
import contextlib

import pytest
from aiohttp import web

from cvf_app.backends.http import Http
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.clock import now
from cvf_app.console.device import log_in_by_device
from cvf_app.console.failures import Failure, NotReached
from cvf_app.errors import Unauthenticated, Unavailable
from cvf_app.users.identity.device import DeviceDenied, DeviceExpired, Pending, SlowDown
from cvf_app.users.identity.oidc import Oidc

STARTED = {
    "device_code": "long",
    "user_code": "SHORT",
    "verification_uri": "https://id.example.org/device",
    "expires_in": 600,
}
DEAD = "no answer"


class Peer:
    """Answers to each asking for tokens what was written down for it."""

    def __init__(self, *answers, device=None, offers=True):
        self.answers = list(answers)
        self.device = STARTED if device is None else device
        self.offers = offers
        self.asked = []
        self.address = ""

    @contextlib.asynccontextmanager
    async def run(self):
        app = web.Application()
        app.add_routes(
            [
                web.get("/config/keycloak", self.describe),
                web.get("/.well-known/openid-configuration", self.discover),
                web.post("/auth/device", self.start),
                web.post("/auth/token", self.token),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def describe(self, _request):
        told = {"client_id": "us", "authorizationEndpoint": f"{self.address}/authorize"}
        if self.offers:
            told["deviceAuthorizationEndpoint"] = f"{self.address}/device"
        return web.json_response(told)

    async def discover(self, _request):
        return web.json_response(
            {
                "issuer": self.address,
                "authorization_endpoint": f"{self.address}/authorize",
                "token_endpoint": f"{self.address}/auth/token",
                "device_authorization_endpoint": f"{self.address}/auth/device",
                "jwks_uri": f"{self.address}/jwks",
            }
        )

    async def start(self, request):
        self.asked.append(dict(await _fields(request)))
        return web.json_response(self.device)

    async def token(self, request):
        self.asked.append(dict(await _fields(request)))
        answer = self.answers.pop(0)
        if answer == DEAD:
            request.transport.abort()
            return web.Response()
        status, body = answer
        return web.json_response(body, status=status)


async def _fields(request):
    return await (request.json() if request.content_type == "application/json" else request.post())


def ours(status, code):
    return status, {"error": "A sentence.", "code": code, "traceId": "t"}


GIVEN = (200, {"access_token": "a", "refresh_token": "r", "expires_in": 60})


async def command(peer):
    """Log in as `cvf login --device` does; return the session, what was said, the waits."""
    said, waits = [], []
    async with peer.run():
        session = await asyncio.to_thread(log_in_by_device, peer.address, said.append, waits.append)
    return session, said, waits


class TestCommand:
    async def test_it_waits_as_it_is_told_and_judges_by_the_code(self):
        peer = Peer(
            ours(400, "authorization_pending"),
            ours(403, "authorization_pending"),
            ours(400, "slow_down"),
            ours(503, "unavailable"),
            DEAD,
            ours(400, "authorization_pending"),
            GIVEN,
        )
        session, said, waits = await command(peer)
        assert (session.access_token, session.refresh_token) == ("a", "r")
        assert waits == [5, 5, 5, 10, 15, 20, 20]
        assert "https://id.example.org/device" in said[0]
        assert "SHORT" in said[0]
        started, *polls = peer.asked
        assert len(started["code_challenge"]) == 43
        assert {each["device_code"] for each in polls} == {"long"}
        assert len({each["code_verifier"] for each in polls}) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            ours(401, "access_denied"),
            ours(401, "expired_token"),
            ours(403, "forbidden"),
            ours(400, "invalid"),
            (502, None),
        ],
    )
    async def test_anything_else_ends_it(self, answer):
        with pytest.raises(Failure):
            await command(Peer(ours(400, "authorization_pending"), answer))

    async def test_it_gives_up_when_the_code_has_run_out(self):
        device = STARTED | {"expires_in": 12, "interval": 4}
        pending = [ours(400, "authorization_pending")] * 3
        with pytest.raises(Failure, match="in time"):
            await command(Peer(*pending, device=device))

    async def test_provider_without_it_says_how_else(self):
        with pytest.raises(Failure, match="no login by device code"):
            await command(Peer(offers=False))

    async def test_no_instance_is_told_as_such(self):
        with pytest.raises(NotReached):
            await asyncio.to_thread(log_in_by_device, "http://127.0.0.1:1", print, print)


class TestProvider:
    @pytest.mark.parametrize("status", [400, 401, 403, 428, 429])
    @pytest.mark.parametrize(
        ("error", "meaning"),
        [
            ("authorization_pending", Pending),
            ("slow_down", SlowDown),
            ("expired_token", DeviceExpired),
            ("access_denied", DeviceDenied),
        ],
    )
    async def test_refusals_are_told_from_the_error_field(self, tmp_path, status, error, meaning):
        async with _identity(tmp_path, Peer((status, {"error": error}))) as identity:
            with pytest.raises(meaning) as refused:
                await identity.poll_device("long", "v" * 43)
            assert refused.value.code == error

    @pytest.mark.parametrize(
        ("answer", "meaning"),
        [
            ((400, {"error": "invalid_grant"}), Unauthenticated),
            ((401, {"error": "invalid_client"}), Unavailable),
            ((429, {"error": "rate_limited"}), Unavailable),
            ((500, {"error": "authorization_pending"}), Unavailable),
            ((400, ["no object"]), Unavailable),
            ((200, {"no": "token"}), Unavailable),
        ],
    )
    async def test_other_answers_are_what_they_are(self, tmp_path, answer, meaning):
        async with _identity(tmp_path, Peer(answer)) as identity:
            with pytest.raises(meaning):
                await identity.poll_device("long", "v" * 43)


@contextlib.asynccontextmanager
async def _identity(folder, peer):
    keys = FileKeyStore.open(folder / "keys", create=True)
    async with peer.run():
        http = Http.open(frozenset({peer.address}))
        yield Oidc(http, keys, now, issuer=peer.address, client_id="us")
        await http.close()
    await keys.close()
