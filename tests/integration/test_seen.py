"""What services tell of themselves: answers as the real ones give them, from a peer on loopback."""

from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from cvf_app.backends import seen
from cvf_app.backends.http import Http
from cvf_app.errors import Unavailable

PAGE = (
    '<html><head><link rel="stylesheet" '
    'href="/resources/9oc1n/login/keycloak.v2/css/styles.css"></head></html>'
)
# Seen at Vault 1.20; `type`, `t`, `n` and others are left out.
SEALED = {"sealed": True, "initialized": True, "version": "1.20.0", "storage_type": "file"}


@asynccontextmanager
async def peer(*routes):
    app = web.Application()
    app.add_routes([web.get(path, handler) for path, handler in routes])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    http = Http.open(frozenset({address}))
    try:
        yield http, address
    finally:
        await http.close()
        await runner.cleanup()


def says(content, status=200, **headers):
    async def handler(_):
        if isinstance(content, str):
            return web.Response(
                text=content, status=status, headers=headers, content_type="text/html"
            )
        return web.json_response(content, status=status, headers=headers)

    return handler


class TestVault:
    @pytest.mark.parametrize(
        ("storage", "mode"), [("file", "production"), ("inmem", "development")]
    )
    async def test_its_version_and_mode(self, storage, mode):
        told = SEALED | {"sealed": False, "storage_type": storage}
        async with peer(("/v1/sys/seal-status", says(told))) as (http, address):
            found = await seen.vault(http, address)
        assert (found.name, found.version, found.mode) == ("Vault", "1.20.0", mode)
        assert bool(found.warning) == (mode == "development")

    async def test_a_sealed_one_says_who_has_to_act(self):
        async with peer(("/v1/sys/seal-status", says(SEALED))) as (http, address):
            with pytest.raises(Unavailable) as down:
                await seen.vault(http, address)
        assert "sealed" in down.value.sentence


class TestKeycloak:
    # Seen at Keycloak 26.7: a page for a request without parameters has status 400.
    @pytest.mark.parametrize(
        ("kept", "mode"),
        [("max-age=2592000", "production"), ("no-cache", "development"), ("", "development")],
    )
    async def test_its_mode_is_told_by_how_long_its_pages_may_be_kept(self, kept, mode):
        routes = [
            ("/realms/r/.well-known/openid-configuration", says({"issuer": "x", "other": 1})),
            ("/realms/r/protocol/openid-connect/auth", says(PAGE, 400)),
            (
                "/resources/9oc1n/login/keycloak.v2/css/styles.css",
                says("a{}", **{"Cache-Control": kept}),
            ),
        ]
        async with peer(*routes) as (http, address):
            found = await seen.provider(http, f"{address}/realms/r", "", is_keycloak=True)
        assert (found.name, found.mode, bool(found.warning)) == (
            "Keycloak",
            mode,
            mode == "development",
        )

    async def test_what_a_proxy_hides_is_left_out(self):
        discovery = ("/realms/r/.well-known/openid-configuration", says({"issuer": "x"}))
        async with peer(discovery) as (http, address):
            found = await seen.provider(http, f"{address}/realms/r", "", is_keycloak=True)
        assert (found.mode, found.warning) == ("", "")

    async def test_one_that_gives_no_document_is_down(self):
        async with peer() as (http, address):
            with pytest.raises(Unavailable):
                await seen.provider(http, address, "", is_keycloak=False)
