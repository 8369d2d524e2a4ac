"""A real Vault: its states, our login, least privilege, and the script that prepares it."""

import io
import json
import logging
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import hvac
import pytest
from aiohttp import web
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest

from cvf_app.backends import log
from cvf_app.backends.vault import SECRET_BRIDGE_SECONDS, SECRET_FRESH_SECONDS, VaultKeyStore
from cvf_app.backends.vault_session import DOWN_PAUSE, LOGIN_PAUSE, AppRole
from cvf_app.errors import Invalid, NotFound, Unavailable, VaultUnavailable
from scripts.services import running
from scripts.services.cache import Cache, default_cache
from scripts.services.vault import Vault as VaultProgram
from tests.support import servers, services
from tests.support.peers.vault_front import front
from tests.support.vaults import Share, Watch, share

LEASE = 3600.0


class Untouched(VaultProgram):
    """A Vault that nobody initialises."""

    name = "vault-untouched"

    def settle(self, _: Any) -> None:
        """Leave it as it is."""


@pytest.fixture(scope="module")
def broken() -> Iterator[servers.Vault]:
    """A Vault of this file alone, which may be sealed and stopped."""
    try:
        with servers.running("vault", own=True) as own:
            yield own
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def ours(vault: servers.Vault, tmp_path: Path) -> Share:
    return share(vault, tmp_path)


@asynccontextmanager
async def opened(
    of: Share, watch: Watch | None = None, **more: str
) -> AsyncIterator[VaultKeyStore]:
    keys = of.open(watch, **more)
    try:
        yield keys
    finally:
        await keys.close()


async def refused(keys: VaultKeyStore) -> str:
    """Ask something and return the sentence of the refusal."""
    with pytest.raises(VaultUnavailable) as caught:
        await keys.has_user_key("ann")
    assert caught.value.code == "vault_unavailable"
    # The exception goes to logs with what led to it: nothing of the driver may be there.
    assert caught.value.__cause__ is None
    assert "Vault" in caught.value.sentence
    return caught.value.sentence


class TestStates:
    async def test_sealed_is_said_and_over_when_it_is_unsealed(
        self, broken: servers.Vault, tmp_path: Path
    ) -> None:
        watch = Watch()
        async with opened(share(broken, tmp_path), watch) as keys:
            sealed = await keys.encrypt("people", b"x")
            broken.seal()
            assert "unseal" in await refused(keys)
            with pytest.raises(VaultUnavailable, match="unseal"):
                await keys.create_user_key("ann")
            with pytest.raises(VaultUnavailable, match="unseal"):
                await keys.state()
            await keys.tend()
            broken.unseal()
            watch.forward(DOWN_PAUSE)
            assert await keys.decrypt("people", sealed) == b"x"
            assert (await keys.state()).startswith("Vault 1.")

    async def test_stopped_is_said_and_over_when_it_is_back(
        self, broken: servers.Vault, tmp_path: Path
    ) -> None:
        watch = Watch()
        async with opened(share(broken, tmp_path), watch) as keys:
            sealed = await keys.encrypt("people", b"x")
            broken.kill()
            assert "does not answer" in await refused(keys)
            broken.start()
            watch.forward(DOWN_PAUSE)
            assert await keys.decrypt("people", sealed) == b"x"

    async def test_not_there_when_we_start_is_no_fault_of_the_start(
        self, broken: servers.Vault, tmp_path: Path
    ) -> None:
        ours, watch = share(broken, tmp_path), Watch()
        broken.stop()
        async with opened(ours, watch) as keys:
            await keys.tend()
            assert "does not answer" in await refused(keys)
            broken.start()
            watch.forward(DOWN_PAUSE)
            assert not await keys.has_user_key("ann")

    async def test_not_initialised_is_said(self, ours: Share, tmp_path: Path) -> None:
        program = Untouched()
        facts = running.up(program, Cache(default_cache()), tmp_path)
        try:
            async with opened(ours, at=facts["address"]) as keys:
                assert "not initialised" in await refused(keys)
        finally:
            running.down(program, tmp_path)

    @pytest.mark.parametrize("status", [429, 472, 473])
    async def test_standby_is_said_and_its_redirect_not_followed(
        self, ours: Share, status: int
    ) -> None:
        async with front(ours.vault.address) as trap, front(ours.vault.address) as standby:
            watch = Watch()
            async with opened(ours, watch, at=standby.address) as keys:
                await keys.tend()

                def redirect(request: web.Request) -> web.Response:
                    if request.path == "/v1/sys/health":
                        return web.json_response({}, status=status)
                    place = {"Location": trap.address + request.path}
                    return web.Response(status=307, headers=place)

                standby.instead = redirect
                assert "standby" in await refused(keys)
                standby.instead = lambda _: None
                watch.forward(DOWN_PAUSE)
                assert not await keys.has_user_key("ann")
            assert trap.seen == []

    async def test_what_is_no_vault_is_not_believed(self, ours: Share) -> None:
        async with front(ours.vault.address) as door:
            watch = Watch()
            async with opened(ours, watch, at=door.address) as keys:
                await keys.tend()
                for status in (200, 500):
                    door.answers(status)
                    assert "fails inside" in await refused(keys)

    async def test_silent_one_is_not_waited_for_by_everybody(self, ours: Share) -> None:
        async with front(ours.vault.address) as silent:
            watch = Watch()
            async with opened(ours, watch, at=silent.address) as keys:
                await keys.tend()
                silent.hangs = True
                assert "does not answer" in await refused(keys)
                asked = len(silent.seen)
                for _ in range(50):
                    assert "does not answer" in await refused(keys)
                assert len(silent.seen) == asked
                silent.hangs = False
                watch.forward(DOWN_PAUSE)
                assert not await keys.has_user_key("ann")

    async def test_while_it_is_away_it_is_not_asked_by_everybody(self, ours: Share) -> None:
        async with front(ours.vault.address) as away:
            watch = Watch()
            async with opened(ours, watch, at=away.address) as keys:
                await keys.tend()
                away.answers(503)
                await refused(keys)
                asked = len(away.seen)
                for _ in range(50):
                    assert "sealed" in await refused(keys)
                assert len(away.seen) == asked
                # Who asks in between does not put off the next look.
                for _ in range(4):
                    watch.forward(DOWN_PAUSE / 3)
                    await refused(keys)
                assert len(away.seen) > asked

    async def test_engine_that_is_not_mounted_is_not_a_key_that_is_not_there(
        self, ours: Share, tmp_path: Path
    ) -> None:
        other = share(ours.vault, tmp_path, transit=f"t{uuid4().hex[:6]}")
        other.root.sys.disable_secrets_engine(other.transit)
        async with opened(other) as keys:
            assert "no engine" in await refused(keys)


class TestLogin:
    async def test_wrong_secret_id_is_said_and_tried_once_in_ten_seconds(self, ours: Share) -> None:
        async with front(ours.vault.address) as door:
            watch = Watch()
            async with opened(ours, watch, at=door.address, secret_id=str(uuid4())) as keys:
                for _ in range(20):
                    assert "VAULT_SECRET_ID" in await refused(keys)
                assert door.logins() == 1
                watch.forward(LOGIN_PAUSE)
                await keys.tend()
                await refused(keys)
                assert door.logins() == 2

    async def test_token_taken_back_is_replaced_by_one_login(self, ours: Share) -> None:
        async with front(ours.vault.address) as door:
            watch = Watch()
            async with opened(ours, watch, at=door.address) as keys:
                assert not await keys.has_user_key("ann")
                watch.forward(LOGIN_PAUSE)
                self.revoke_all(ours)
                assert not await keys.has_user_key("ann")
                assert door.logins() == 2
                self.revoke_all(ours)
                for _ in range(20):
                    await refused(keys)
                assert door.logins() == 2
                watch.forward(LOGIN_PAUSE)
                assert not await keys.has_user_key("ann")
                assert door.logins() == 3

    async def test_many_callers_at_the_start_log_in_once(self, ours: Share) -> None:
        async with front(ours.vault.address) as door, opened(ours, at=door.address) as keys:
            people = [str(uuid4()) for _ in range(40)]
            assert await keys.has_user_keys(people) == frozenset()
            assert door.logins() == 1

    async def test_token_is_prolonged_at_two_thirds_and_replaced_when_over(
        self, ours: Share
    ) -> None:
        async with front(ours.vault.address) as door:
            watch = Watch()
            async with opened(ours, watch, at=door.address) as keys:
                await keys.tend()
                watch.forward(LEASE * 0.66)
                await keys.tend()
                assert self.renewals(door.seen) == 0
                watch.forward(LEASE * 0.01)
                await keys.tend()
                await keys.tend()
                assert (self.renewals(door.seen), door.logins()) == (1, 1)
                watch.forward(LEASE * 1.01)
                assert not await keys.has_user_key("ann")
                assert (self.renewals(door.seen), door.logins()) == (1, 2)

    async def test_what_cannot_be_prolonged_is_replaced(self, ours: Share) -> None:
        async with front(ours.vault.address) as door:
            watch = Watch()
            async with opened(ours, watch, at=door.address) as keys:
                await keys.tend()
                self.revoke_all(ours)
                watch.forward(LEASE * 0.7)
                await keys.tend()
                assert not await keys.has_user_key("ann")
                assert door.logins() == 2

    async def test_token_is_given_back_at_the_end(self, ours: Share) -> None:
        async with opened(ours) as keys:
            await keys.tend()
            assert len(self.tokens(ours)) == 1
        assert self.tokens(ours) == []

    async def test_missing_login_or_address_is_said_at_the_start(self, ours: Share) -> None:
        for role, secret in (("", "x"), ("x", "")):
            with pytest.raises(Invalid, match="VAULT_ROLE_ID"):
                VaultKeyStore.open(ours.place, AppRole(role, secret))
        with pytest.raises(Invalid, match="address") as caught:
            ours.open(at="vault.example.org:8200")
        assert caught.value.path == "$.Vault.Host"

    @staticmethod
    def renewals(seen: list[tuple[str, str]]) -> int:
        return sum(path.endswith("/renew-self") for _, path in seen)

    @staticmethod
    def tokens(ours: Share) -> list[str]:
        """Return the accessors of all tokens that our role has."""
        tokens = ours.root.auth.token
        found = []
        for accessor in tokens.list_accessors()["data"]["keys"]:
            try:
                told = tokens.lookup_accessor(accessor)["data"]
            except (InvalidPath, Forbidden, InvalidRequest):
                continue
            if (told.get("meta") or {}).get("role_name") == ours.prefix.replace("/", "-"):
                found.append(accessor)
        return found

    @classmethod
    def revoke_all(cls, ours: Share) -> None:
        for accessor in cls.tokens(ours):
            ours.root.auth.token.revoke_accessor(accessor)


class TestRemembering:
    async def test_secret_is_read_once_and_bridges_a_quarter_of_an_hour(self, ours: Share) -> None:
        async with front(ours.vault.address) as door:
            watch = Watch()
            async with opened(ours, watch, at=door.address) as keys:
                await keys.write_secret("client", {"secret": "one"})
                for _ in range(5):
                    await keys.read_secret("client")
                assert sum("/data/" in path and how == "GET" for how, path in door.seen) == 1
                door.answers(503)
                watch.forward(SECRET_BRIDGE_SECONDS - 1)
                assert (await keys.read_secret("client")).data["secret"] == "one"
                watch.forward(2)
                with pytest.raises(VaultUnavailable):
                    await keys.read_secret("client")

    async def test_what_another_process_wrote_is_seen_in_half_a_minute(self, ours: Share) -> None:
        watch = Watch()
        async with opened(ours, watch) as keys, opened(ours) as other:
            await keys.write_secret("client", {"secret": "one"})
            await keys.read_secret("client")
            await other.write_secret("client", {"secret": "two"})
            watch.forward(SECRET_FRESH_SECONDS)
            assert (await keys.read_secret("client")).data["secret"] == "two"
            await other.delete_secret("client")
            watch.forward(SECRET_FRESH_SECONDS)
            with pytest.raises(NotFound):
                await keys.read_secret("client")


class TestSharing:
    async def test_two_instances_with_one_vault_know_nothing_of_each_other(
        self, vault: servers.Vault, tmp_path: Path
    ) -> None:
        # One begins as the other does, which a prefix in a name must not confuse.
        first = share(vault, tmp_path, prefix="site")
        second = share(vault, tmp_path, prefix="site-2/node.a")
        async with opened(first) as one, opened(second) as two:
            for keys, word in ((one, "one"), (two, "two")):
                await keys.write_secret("client", {"secret": word})
            sealed = await one.encrypt("people", b"x")
            await one.create_user_key("ann")
            assert (await one.read_secret("client")).data["secret"] == "one"
            assert (await two.read_secret("client")).data["secret"] == "two"
            assert not await two.has_user_key("ann")
            assert await one.hmac("people", b"x") != await two.hmac("people", b"x")
            with pytest.raises(Unavailable):
                await two.decrypt("people", sealed)

    async def test_every_path_is_below_the_mounts_and_the_prefix(
        self, vault: servers.Vault, tmp_path: Path
    ) -> None:
        mark = uuid4().hex[:6]
        ours = share(
            vault, tmp_path, prefix=f"a/{mark}", transit=f"cv3/transit-{mark}", kv2=f"kv-{mark}"
        )
        async with front(vault.address) as door, opened(ours, at=door.address) as keys:
            await keys.write_secret("identity/client", {"x": "y"})
            await keys.read_secret("identity/client")
            await keys.delete_secret("identity/client")
            await keys.decrypt("people", await keys.encrypt("people", b"x"))
            await keys.hmac("people", b"x")
            await keys.rotate("people")
            await keys.retire("people", 2)
            await keys.create_user_key("ann")
            await keys.delete_user_key("ann")
            own = (
                f"/v1/kv-{mark}/data/a/{mark}/",
                f"/v1/kv-{mark}/metadata/a/{mark}/",
                *(f"/v1/cv3/transit-{mark}/{word}/a.-{mark}--"
                  for word in ("keys", "encrypt", "decrypt", "hmac")),
                "/v1/auth/approle/login",
                "/v1/sys/health",
            )  # fmt: skip
            assert {path for _, path in door.seen if not path.startswith(own)} == set()
            assert len(door.seen) > 12


class TestDigests:
    async def test_people_are_found_although_somebody_rotated_the_key_by_hand(
        self, ours: Share
    ) -> None:
        async with opened(ours) as keys:
            before = await keys.hmac("people", b"ann")
            name = f"{ours.prefix.replace('/', '.-')}--index-people"
            ours.root.secrets.transit.rotate_key(name)
            assert ours.root.secrets.transit.read_key(name)["data"]["latest_version"] == 2
            assert await keys.hmac("people", b"ann") == before


def attempts(client: hvac.Client, ours: Share, other: Share) -> dict[str, Any]:
    """Return what our role must not be able to do, by name."""
    transit, kv, our = client.secrets.transit, client.secrets.kv.v2, ours.prefix.replace("/", ".-")
    key, index, person = f"{our}--key-people", f"{our}--index-people", f"{our}--user-ann"
    their = other.prefix.replace("/", ".-")
    write, read, remove = client.write_data, client.read, client.delete
    return {
        "read a secret of others": lambda: kv.read_secret_version(
            f"{other.prefix}/client", raise_on_deleted_version=True
        ),
        "write a secret of others": lambda: kv.create_or_update_secret(
            f"{other.prefix}/client", {"x": "y"}
        ),
        "delete a secret of others": lambda: kv.delete_metadata_and_all_versions(
            f"{other.prefix}/client"
        ),
        "list secrets of everybody": lambda: kv.list_secrets(""),
        "list our own secrets": lambda: kv.list_secrets(ours.prefix),
        "read metadata": lambda: kv.read_secret_metadata(f"{ours.prefix}/client"),
        "configure the secrets' engine": lambda: kv.configure(max_versions=1),
        "list keys of everybody": transit.list_keys,
        "read a key of others": lambda: transit.read_key(f"{their}--key-people"),
        "see who of others has a key": lambda: transit.read_key(f"{their}--user-ann"),
        "seal with a key of others": lambda: transit.encrypt_data(f"{their}--key-people", "eA=="),
        "open with a key of others": lambda: transit.decrypt_data(
            f"{their}--key-people", "vault:v1:x"
        ),
        "digest with a key of others": lambda: transit.generate_hmac(
            f"{their}--index-people", "eA=="
        ),
        "delete a key of others": lambda: transit.delete_key(f"{their}--user-ann"),
        "export a key": lambda: transit.export_key(key, "encryption-key"),
        "export a person's key": lambda: transit.export_key(person, "encryption-key"),
        "export a key of digests": lambda: transit.export_key(index, "hmac-key"),
        "back a key up": lambda: transit.backup_key(key),
        "put a key back": lambda: write(f"transit/restore/{key}", data={"backup": "x"}),
        "import a key": lambda: write(
            f"transit/keys/{our}--key-new/import", data={"ciphertext": "x"}
        ),
        "make a key exportable": lambda: transit.update_key_configuration(key, exportable=True),
        "let a key be backed up": lambda: transit.update_key_configuration(
            key, allow_plaintext_backup=True
        ),
        "make a person's key exportable": lambda: transit.update_key_configuration(
            person, exportable=True
        ),
        "make an exportable key": lambda: transit.create_key(f"{our}--key-new", exportable=True),
        "make an exportable key pair": lambda: transit.create_key(
            f"{our}--user-new", key_type="rsa-4096", exportable=True
        ),
        "make a derived key": lambda: transit.create_key(f"{our}--key-new", derived=True),
        "make a key of another type": lambda: transit.create_key(
            f"{our}--key-new", key_type="rsa-2048"
        ),
        "make a key of no kind of ours": lambda: transit.create_key(f"{our}--other"),
        "destroy old versions": lambda: write(
            f"transit/keys/{key}/trim", data={"min_available_version": 1}
        ),
        "let a key be deleted": lambda: transit.update_key_configuration(
            key, deletion_allowed=True
        ),
        "delete a key that seals": lambda: transit.delete_key(key),
        "delete a key of digests": lambda: transit.delete_key(index),
        "retire a key of digests": lambda: transit.update_key_configuration(
            index, min_decryption_version=1
        ),
        "open with a person's key": lambda: transit.decrypt_data(person, "vault:v1:x"),
        "sign with a person's key": lambda: transit.sign_data(person, "eA=="),
        "digest with a key that seals": lambda: transit.generate_hmac(key, "eA=="),
        "see the mounts": lambda: read("sys/mounts"),
        "mount an engine": lambda: write("sys/mounts/x", data={"type": "kv"}),
        "see a policy": lambda: read(f"sys/policies/acl/{ours.prefix.replace('/', '-')}"),
        "write a policy": lambda: write("sys/policies/acl/x", data={"policy": ""}),
        "see our role": lambda: read(f"auth/approle/role/{ours.prefix.replace('/', '-')}"),
        "make a secret id": lambda: write(
            f"auth/approle/role/{ours.prefix.replace('/', '-')}/secret-id", data={}
        ),
        "make a token": client.auth.token.create,
        "list tokens": client.auth.token.list_accessors,
        "seal the Vault": client.sys.seal,
        "write into a cubbyhole": lambda: write("cubbyhole/x", data={"x": "y"}),
        "delete a role": lambda: remove(f"auth/approle/role/{ours.prefix.replace('/', '-')}"),
    }


class TestLeastPrivilege:
    async def test_everything_more_is_denied(self, vault: servers.Vault, tmp_path: Path) -> None:
        ours, other = share(vault, tmp_path), share(vault, tmp_path)
        for each in (ours, other):
            await fill(each)
        client = logged_in(ours)
        done = [word for word, act in attempts(client, ours, other).items() if not denied(act)]
        assert done == []

    async def test_role_of_queries_changes_nothing(
        self, vault: servers.Vault, tmp_path: Path
    ) -> None:
        ours, other = share(vault, tmp_path), share(vault, tmp_path)
        for each in (ours, other):
            await fill(each)
        asking = Share(vault, tmp_path / "query", ours.prefix, role="query")
        client, our = logged_in(asking), ours.prefix.replace("/", ".-")
        transit, kv = client.secrets.transit, client.secrets.kv.v2
        more = attempts(client, ours, other) | {
            "write a secret": lambda: kv.create_or_update_secret(
                f"{ours.prefix}/client", {"x": "y"}
            ),
            "delete a secret": lambda: kv.delete_metadata_and_all_versions(f"{ours.prefix}/client"),
            "rotate a key": lambda: transit.rotate_key(f"{our}--key-people"),
            "make a key": lambda: transit.create_key(f"{our}--key-new"),
            "retire a version": lambda: transit.update_key_configuration(
                f"{our}--key-people", min_decryption_version=1
            ),
            "let somebody in": lambda: transit.create_key(f"{our}--user-x", key_type="rsa-4096"),
            "shut somebody out": lambda: transit.delete_key(f"{our}--user-ann"),
        }
        assert [word for word, act in more.items() if not denied(act)] == []

    async def test_role_of_queries_can_do_its_work(
        self, vault: servers.Vault, tmp_path: Path
    ) -> None:
        ours = share(vault, tmp_path)
        await fill(ours)
        asking = Share(vault, tmp_path / "query", ours.prefix, role="query")
        async with opened(asking) as keys, opened(ours) as whole:
            assert await keys.has_user_key("ann")
            assert (await keys.read_secret("client")).data["secret"] == "x"
            assert await keys.hmac("people", b"x") == await whole.hmac("people", b"x")
            assert await whole.decrypt("people", await keys.encrypt("people", b"x")) == b"x"
            with pytest.raises(VaultUnavailable, match="policy"):
                await keys.create_user_key("bob")
            # A denial is no reason to log in anew.
            assert await keys.has_user_key("ann")


async def fill(each: Share) -> None:
    """Let there be one of everything, so that a denial is never for want of a thing."""
    async with opened(each) as keys:
        await keys.write_secret("client", {"secret": "x"})
        await keys.encrypt("people", b"x")
        await keys.hmac("people", b"x")
        await keys.create_user_key("ann")


def logged_in(of: Share) -> hvac.Client:
    client = hvac.Client(url=of.vault.address, token="")
    client.auth.approle.login(role_id=of.login.role_id, secret_id=of.login.secret_id)
    return client


def denied(act: Any) -> bool:
    try:
        act()
    except Forbidden:
        return True
    except (InvalidPath, InvalidRequest):
        # Looked at, and refused for another reason: it was allowed.
        return False
    return False


class TestScript:
    def test_run_again_changes_nothing(self, ours: Share) -> None:
        role = ours.prefix.replace("/", "-")
        before = ours.root.auth.approle.read_role(role)["data"]
        told = ours.run()
        assert "mounted" not in told.stderr
        assert json.loads(told.stdout)["VAULT_ROLE_ID"] == ours.login.role_id
        after = ours.root.auth.approle.read_role(role)["data"]
        assert after == before
        assert (after["token_num_uses"], after["token_period"]) == (0, LEASE)
        assert after["token_policies"] == [role]
        assert logged_in(ours).is_authenticated()

    def test_secret_id_is_written_for_its_owner_alone_and_printed_nowhere(
        self, ours: Share
    ) -> None:
        kept = ours.env_file
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        kept.write_text("VAULT_ROLE_ID=kept\nVAULT_SECRET_ID=old\n")
        issued = ours.run("--issue")
        done = ours.run("--unwrap", str(kept), token=json.loads(issued.stdout)["wrappingToken"])
        lines = kept.read_text().splitlines()
        assert lines[0] == "VAULT_ROLE_ID=kept"
        secret_id = lines[1].removeprefix("VAULT_SECRET_ID=")
        assert len(secret_id) > 30
        assert secret_id not in issued.stdout + issued.stderr + done.stdout + done.stderr
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    def test_wrapping_token_is_good_once(self, ours: Share) -> None:
        wrapped = json.loads(ours.run("--issue").stdout)["wrappingToken"]
        ours.run("--unwrap", str(ours.env_file), token=wrapped)
        again = ours.run("--unwrap", str(ours.env_file), token=wrapped, check=False)
        assert again.returncode == 1
        assert "somebody else has" in again.stderr

    def test_engine_of_another_kind_is_left_alone(self, ours: Share) -> None:
        path = f"kv1-{uuid4().hex[:6]}"
        ours.root.sys.enable_secrets_engine("kv", path=path, options={"version": "1"})
        ours.kv2 = path
        ours.config_file.write_text(json.dumps({"Vault": ours.block}))
        told = ours.run(check=False)
        assert told.returncode == 1
        assert path in told.stderr

    def test_without_a_token_or_with_one_that_may_not_it_says_so(self, ours: Share) -> None:
        told = ours.run(token="s.nobody", check=False)
        assert (told.returncode, "403" in told.stderr) == (1, True)
        assert "s.nobody" not in told.stderr + told.stdout
        empty = ours.run(token=" ", check=False)
        assert "VAULT_TOKEN" in empty.stderr


class TestNothingIsTold:
    async def test_no_secret_in_log_error_or_text_of_an_object(self, ours: Share) -> None:
        lines = io.StringIO()
        log.configure("cv3", "DEBUG")
        handler = logging.StreamHandler(lines)
        everything = logging.getLogger()
        level = everything.level
        everything.setLevel(logging.DEBUG)
        loggers = (everything, logging.getLogger("cv3"))
        for each in loggers:
            each.addHandler(handler)
        said: list[str] = []
        wrong = str(uuid4())
        try:
            async with front(ours.vault.address) as door:
                for secret_id in (ours.login.secret_id, wrong):
                    async with opened(ours, at=door.address, secret_id=secret_id) as keys:
                        said += [repr(keys), repr(vars(keys)), str(vars(vars(keys)["_session"]))]
                        for work in (
                            lambda keys=keys: keys.write_secret("client", {"a": "hidden-value"}),
                            lambda keys=keys: keys.encrypt("people", b"hidden-value"),
                            lambda keys=keys: keys.decrypt("people", "vault:v1:hidden-value"),
                            lambda keys=keys: keys.rotate("people"),
                        ):
                            try:
                                await work()
                            except Unavailable as fault:
                                said += [repr(fault), str(fault), fault.sentence]
                                logging.getLogger("cv3").exception("it failed")
                        said.append(str(vars(vars(keys)["_session"])))
                        door.answers(500)
                        said.append(await refused(keys))
                        door.instead = lambda _: None
        finally:
            for each in loggers:
                each.removeHandler(handler)
            everything.setLevel(level)
        told = lines.getvalue() + "".join(said)
        assert "it failed" in told
        assert "vault_logged_in" in told
        for secret in (ours.login.secret_id, ours.login.role_id, wrong, "hidden-value", "hvs."):
            assert secret not in told
        assert os.environ.get("VAULT_TOKEN") is None
