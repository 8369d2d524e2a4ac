"""What was said while Vault was there is said again for a while when it is away."""

from datetime import timedelta

import pytest

from cvf_app.backends.bridge import BRIDGE, Bridge
from cvf_app.backends.keystore import FileKeyStore, SealedText
from cvf_app.clock import now
from cvf_app.errors import Unavailable, VaultUnavailable


class KeysThatGoAway(FileKeyStore):
    """A key store that can be away, as Vault can; it counts what it is asked."""

    away = False
    asked = 0

    async def _on_files(self, work):
        self.asked += 1
        if self.away:
            raise VaultUnavailable("Vault is sealed.")
        return await super()._on_files(work)

    async def _named_key(self, name, *, fresh=False):
        self.asked += 1
        if self.away:
            raise VaultUnavailable("Vault is sealed.")
        return await super()._named_key(name, fresh=fresh)


class Bridged:
    """A bridge on a clock that tests move."""

    def __init__(self, folder):
        self.keys = KeysThatGoAway.open(folder / "keys", create=True)
        self.ahead = timedelta()
        self.bridge = Bridge(self.keys, lambda: now() + self.ahead)

    async def person(self, user_id="ann"):
        record = self.keys.has_user_key
        if not await record(user_id):
            await self.keys.create_user_key(user_id)
        return user_id


@pytest.fixture(scope="module")
async def made(tmp_path_factory):
    bridged = Bridged(tmp_path_factory.mktemp("bridge"))
    await bridged.person()
    yield bridged
    await bridged.keys.close()


@pytest.fixture
def bridged(made):
    """The one key pair takes a second to make, so the store is shared and the bridge is new."""
    made.keys.away = False
    made.ahead = timedelta()
    made.bridge = Bridge(made.keys, lambda: now() + made.ahead)
    return made


class TestBridge:
    async def test_all_that_a_session_asks_is_answered_for_a_quarter_of_an_hour(self, bridged):
        bridge = bridged.bridge
        sealed = await bridge.encrypt("users", b"Ann", b"ann")
        texts = (SealedText(sealed, b"ann"),)

        async def answers():
            return (
                await bridge.hmac("users", b"subject"),
                await bridge.has_user_key("ann"),
                await bridge.has_user_keys(["ann"]),
                await bridge.decrypt("users", sealed, b"ann"),
                await bridge.decrypt_many("users", texts),
            )

        before = await answers()
        assert before[1:] == (True, {"ann"}, b"Ann", (b"Ann",))
        bridged.keys.away = True
        bridged.ahead = BRIDGE - timedelta(seconds=10)
        assert await answers() == before
        bridged.ahead = BRIDGE + timedelta(seconds=10)
        for ask in (
            bridge.hmac("users", b"subject"),
            bridge.has_user_key("ann"),
            bridge.decrypt("users", sealed, b"ann"),
        ):
            with pytest.raises(VaultUnavailable):
                await ask

    async def test_store_is_asked_each_time_it_is_there(self, bridged):
        await bridged.bridge.has_user_key("ann")
        before = bridged.keys.asked
        await bridged.bridge.has_user_key("ann")
        assert bridged.keys.asked == before + 1

    async def test_what_was_never_asked_is_not_known(self, bridged):
        sealed = await bridged.bridge.encrypt("users", b"Ann", b"ann")
        bridged.keys.away = True
        for ask in (
            bridged.bridge.has_user_key("ann"),
            bridged.bridge.hmac("users", b"subject"),
            bridged.bridge.decrypt("users", sealed, b"ann"),
        ):
            with pytest.raises(VaultUnavailable):
                await ask

    async def test_that_somebody_has_no_key_is_not_remembered(self, bridged):
        assert not await bridged.bridge.has_user_key("bob")
        bridged.keys.away = True
        with pytest.raises(VaultUnavailable):
            await bridged.bridge.has_user_key("bob")
        with pytest.raises(VaultUnavailable):
            await bridged.bridge.has_user_keys(["ann", "bob"])

    async def test_who_was_shut_out_is_not_bridged(self, bridged):
        assert await bridged.bridge.has_user_key("ann")
        await bridged.bridge.delete_user_key("ann")
        bridged.keys.away = True
        with pytest.raises(VaultUnavailable):
            await bridged.bridge.has_user_key("ann")
        bridged.keys.away = False
        await bridged.person()

    async def test_each_answer_lives_from_when_it_was_last_given(self, bridged):
        for _ in range(3):
            assert await bridged.bridge.has_user_key("ann")
            bridged.ahead += BRIDGE - timedelta(seconds=10)
        bridged.keys.away = True
        assert await bridged.bridge.has_user_key("ann")

    async def test_only_vault_being_away_is_bridged(self, bridged):
        sealed = await bridged.bridge.encrypt("users", b"Ann", b"ann")
        await bridged.bridge.decrypt("users", sealed, b"ann")
        with pytest.raises(Unavailable):
            await bridged.bridge.decrypt("users", sealed, b"bob")

    async def test_nothing_is_changed_while_it_is_away(self, bridged):
        bridged.keys.away = True
        for ask in (
            bridged.bridge.create_user_key("bob"),
            bridged.bridge.delete_user_key("ann"),
            bridged.bridge.encrypt("users", b"x"),
            bridged.bridge.rotate("users"),
            bridged.bridge.retire("users", 1),
            bridged.bridge.rewrap("users", ()),
            bridged.bridge.newest_version("users"),
            bridged.bridge.public_key("ann"),
            bridged.bridge.write_secret("a", {}),
            bridged.bridge.read_secret("a"),
            bridged.bridge.delete_secret("a"),
            bridged.bridge.state(),
        ):
            with pytest.raises(VaultUnavailable):
                await ask

    async def test_closed_it_knows_nothing(self, bridged):
        assert await bridged.bridge.has_user_key("ann")
        await bridged.bridge.close()
        bridged.keys.away = True
        with pytest.raises(VaultUnavailable):
            await bridged.bridge.has_user_key("ann")
