"""A whole node on a real Vault: what goes on while it is sealed, and how it comes back."""

from collections.abc import AsyncIterator

import pytest

from cvf_app.backends.vault_session import DOWN_PAUSE
from cvf_app.users.service import _REMEMBERED_FOR
from tests.support import nodes, servers, services
from tests.support.nodes import Node
from tests.support.vaults import Share, share

AWAY = 503
CAT = {"username": "cat", "email": "cat@example.org", "role": "user"}


@pytest.fixture(scope="module")
def sealable() -> AsyncIterator[servers.Vault]:
    try:
        with servers.running("vault", own=True) as vault:
            yield vault
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def ours(sealable: servers.Vault, tmp_path_factory: pytest.TempPathFactory) -> Share:
    return share(sealable, tmp_path_factory.mktemp("vault"))


@pytest.fixture(scope="module")
async def sited(
    ours: Share,
    mongo_url: str,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Node]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VAULT_ROLE_ID", ours.login.role_id)
        environment.setenv("VAULT_SECRET_ID", ours.login.secret_id)
        folder = tmp_path_factory.mktemp("node")
        async with nodes.node(folder, mongo_url, redis_url, vault=ours) as made:
            yield made


async def until(node: Node, path: str, status: int, who: str | None = "admin") -> nodes.Answer:
    """Ask until an answer has this status."""
    async with nodes.asyncio.timeout(30):
        while True:
            answer = await node.call("GET", path, who)
            if answer.status == status:
                return answer
            await nodes.asyncio.sleep(0.2)


class TestSealed:
    async def test_sessions_go_on_logins_do_not_and_it_comes_back(
        self, sited: Node, sealable: servers.Vault
    ) -> None:
        await sited.person("ann")
        assert (await sited.call("GET", "/auth/user-info", "ann")).status == 200
        async with nodes.beside(sited) as another:
            sealable.seal()
            try:
                await self.while_sealed(sited, another)
            finally:
                sealable.unseal()
            ready = await until(sited, "/health/ready", 200, None)
            assert ready.json["services"]["secrets"]["detail"].startswith("Vault 1.")
            for node in (sited, another):
                await until(node, "/auth/user-info", 200, "ann")
            assert (await sited.call("POST", "/users/", json=CAT)).status == 200

    @staticmethod
    async def while_sealed(sited: Node, another: Node) -> None:
        # Longer than people are remembered without a question, so each has to be asked for.
        await nodes.asyncio.sleep(_REMEMBERED_FOR.total_seconds() + DOWN_PAUSE)
        for path in ("/auth/user-info", "/sources/"):
            assert (await sited.call("GET", path, "ann")).status == 200
        assert (await sited.call("GET", "/jobs/", "admin")).status == 200
        assert await sited.ask({}, "ann") == []
        never_seen = await another.call("GET", "/auth/user-info", "ann")
        made = await sited.call("POST", "/users/", json=CAT)
        code = {
            "grant_type": "authorization_code",
            "code": "x",
            "code_verifier": "y",
            "redirect_uri": "http://127.0.0.1/",
        }
        login = await sited.call("POST", "/auth/token", None, json=code)
        rotated = await sited.call("POST", "/keys/rotation")
        for answer in (never_seen, made, login, rotated):
            assert (answer.status, answer.json["code"]) == (AWAY, "vault_unavailable")
            assert "Vault" in answer.json["error"]
            assert answer.headers["Retry-After"]
        ready = await until(sited, "/health/ready", AWAY, None)
        assert "sealed" in ready.json["services"]["secrets"]["detail"]
        assert (await sited.call("GET", "/health/live", None)).status == 200

    async def test_key_taken_away_shuts_out_within_the_minute(
        self, sited: Node, ours: Share
    ) -> None:
        user_id = await sited.person("dan")
        assert (await sited.call("GET", "/auth/user-info", "dan")).status == 200
        keys = ours.open()
        await keys.delete_user_key(user_id)
        await until(sited, "/auth/user-info", 401, "dan")
        await keys.create_user_key(user_id)
        await until(sited, "/auth/user-info", 200, "dan")
        await keys.close()
