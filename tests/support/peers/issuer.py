"""A small OpenID provider with SCIM, for tests that need many people and no login pages.

It speaks the real protocol for the calls we make: discovery, JWKS, the SCIM client's token, and
accounts. The login itself is tested against a real provider (`tests/integration/test_login.py`).
"""

import time
from dataclasses import dataclass, field
from uuid import uuid4

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.support import table

CLIENT = "cafe-variome"


@dataclass
class Issuer:
    """The provider; `token` signs what a person's login would have given."""

    key: RSAKey = field(
        default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
    )
    address: str = ""
    accounts: dict = field(default_factory=dict)
    runner: web.AppRunner | None = None
    # Faults: no account is made; or one is made, and the answer is lost.
    refusing: bool = False
    losing: bool = False

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self.discovery),
                web.get("/jwks", self.jwks),
                web.post("/oauth/token", self.client_token),
                web.get("/scim/v2/Users", self.list_accounts),
                web.post("/scim/v2/Users", self.create_account),
                web.patch("/scim/v2/Users/{id}", self.change_account),
                web.delete("/scim/v2/Users/{id}", self.delete_account),
            ]
        )
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        table.stand_in("identity", "our own issuer (the login itself: a real provider)")

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    def token(self, subject: str, **other) -> str:
        now = int(time.time())
        claims = {
            "iss": self.address,
            "aud": CLIENT,
            "sub": subject,
            "iat": now,
            "exp": now + 600,
            "typ": "Bearer",
        } | other
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)

    async def discovery(self, _request):
        return web.json_response(
            {
                "issuer": self.address,
                "authorization_endpoint": f"{self.address}/authorize",
                "token_endpoint": f"{self.address}/oauth/token",
                "jwks_uri": f"{self.address}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def jwks(self, _request):
        return web.json_response({"keys": [self.key.as_dict(private=False)]})

    async def client_token(self, _request):
        return web.json_response(
            {"access_token": "scim", "expires_in": 600, "token_type": "Bearer"}
        )

    async def list_accounts(self, _request):
        found = list(self.accounts.values())
        return web.json_response({"totalResults": len(found), "Resources": found})

    async def create_account(self, request):
        sent = await request.json()
        if self.refusing:
            return web.json_response({}, status=500)
        account = {"id": str(uuid4()), "userName": sent["userName"], "active": True}
        self.accounts[sent["userName"]] = account
        if self.losing:
            return web.json_response({}, status=500)
        return web.json_response(account, status=201)

    async def change_account(self, request):
        account = self._account(request)
        for change in (await request.json())["Operations"]:
            account[change["path"]] = change["value"]
        return web.json_response(account)

    async def delete_account(self, request):
        del self.accounts[self._account(request)["userName"]]
        return web.Response(status=204)

    def _account(self, request):
        wanted = request.match_info["id"]
        for account in self.accounts.values():
            if account["id"] == wanted:
                return account
        raise web.HTTPNotFound
