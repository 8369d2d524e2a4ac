"""Every route as every kind of asker: 401, 403 and the rest stand apart as declared."""

import asyncio
import time
from uuid import uuid4

import pytest

from cvf_app.principal import Role
from cvf_app.web.access import who_may_call
from tests.support import nodes

ENDLESS = {"/updates"}  # no answer to read to its end
KEYED = {"/metrics", "/config/maintenance"}  # for no person: behind a secret of their own
ASKERS = ("nobody", "bad token", "no account", *(role.value for role in Role))


def routes(app):
    """Yield each method and address with the roles that its handler lets in."""
    for rule in app.url_map.iter_rules():
        if rule.websocket:
            continue  # no request: `test_updates.py` opens it as every kind of asker
        roles = who_may_call(app.view_functions[rule.endpoint])
        path = rule.build({name: str(uuid4()) for name in rule.arguments})[1]
        for method in sorted(rule.methods - {"OPTIONS"}):
            yield method, path, roles


def expected(status, roles, asker, path):
    """Say whether this status is what the declaration promises to this asker."""
    if not roles:
        return (status == 401) if path in KEYED else status not in {401, 403}
    if asker in {"nobody", "bad token"}:
        return status == 401
    if asker == "no account" or Role(asker) not in roles:
        return status == 403
    return status not in {401, 403, 500}


@pytest.fixture(scope="module")
async def headers(node):
    """The Authorization header of each kind of asker."""
    made = {"nobody": {}, "bad token": bearer("nonsense")}
    made["no account"] = bearer(node.issuer.token("rolesnobody"))
    for role in Role:
        name = f"roles{role.value}"
        await node.person(name, role.value)
        # The peer's accounts have no other subject than the user name.
        made[role.value] = bearer(node.issuer.token(name))
    return made


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def send(node, method, path, headers):
    sent = {} if method in {"GET", "HEAD", "DELETE"} else {"json": {}}
    async with asyncio.timeout(20):
        if path in ENDLESS:
            address = node.address + path
            async with node.client.request(method, address, headers=headers) as response:
                body = b"" if response.status == 200 else await response.read()
                return nodes.Answer(response.status, response.headers, body)
        return await node.call(method, path, None, headers=headers, **sent)


class TestRoles:
    @pytest.mark.parametrize("asker", ASKERS)
    async def test_each_route_lets_in_whom_it_declares(self, app, node, headers, asker):
        wrong = []
        for method, path, roles in routes(app):
            answer = await send(node, method, path, headers[asker])
            if not expected(answer.status, roles, asker, path):
                wrong.append((method, path, answer.status))
            if answer.status == 401 and answer.headers.get("WWW-Authenticate") != "Bearer":
                wrong.append((method, path, "no WWW-Authenticate"))
        assert wrong == []

    async def test_the_matrix_covers_public_and_guarded_routes(self, app):
        kinds = {roles for _, _, roles in routes(app)}
        assert frozenset() in kinds
        assert frozenset(Role) in kinds
        assert len(kinds) >= 4

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": int(time.time()) - 600},
            {"aud": "another-client"},
            {"iss": "http://127.0.0.1:1"},
            {"sub": ""},
        ],
        ids=lambda claims: next(iter(claims)),
    )
    async def test_a_signed_token_that_is_not_for_us_or_not_now_is_401(self, node, claims):
        answer = await node.call(
            "GET", "/sources/", None, headers=bearer(node.issuer.token("admin", **claims))
        )
        assert answer.status == 401
        assert answer.json.keys() == {"error", "code", "traceId"}
