"""The file key store: secrets, named keys, people's keys, and files that were touched."""

import asyncio

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cvf_app.backends.keystore import FileKeyStore
from cvf_app.errors import Conflict, NotFound, Unavailable


@pytest.fixture
async def keys(tmp_path):
    store = FileKeyStore.open(tmp_path / "keys", create=True)
    yield store
    await store.close()


def records(tmp_path, kind):
    return sorted((tmp_path / "keys" / "records").glob(f"{kind}-*"))


class TestSecrets:
    async def test_newest_version_is_read_and_older_ones_stay(self, keys):
        assert await keys.write_secret("identity/client", {"secret": "one"}) == 1
        assert await keys.write_secret("identity/client", {"secret": "two"}) == 2
        assert (await keys.read_secret("identity/client")).data == {"secret": "two"}
        assert (await keys.read_secret("identity/client", 1)).data == {"secret": "one"}

    async def test_ten_versions_are_kept(self, keys):
        for number in range(1, 13):
            await keys.write_secret("a", {"n": str(number)})
        with pytest.raises(NotFound):
            await keys.read_secret("a", 2)
        assert (await keys.read_secret("a", 3)).data == {"n": "3"}

    async def test_check_and_set_lets_one_of_many_win(self, tmp_path, keys):
        other = FileKeyStore.open(tmp_path / "keys")
        await keys.write_secret("a", {}, check_and_set=0)
        tries = [store.write_secret("a", {}, check_and_set=1) for store in (keys, other) * 5]
        done = await asyncio.gather(*tries, return_exceptions=True)
        await other.close()
        assert sorted(isinstance(each, Conflict) for each in done) == [False] + [True] * 9

    async def test_missing_secret_is_not_found(self, keys):
        with pytest.raises(NotFound):
            await keys.read_secret("../../etc/passwd")

    async def test_deleted_secret_is_gone(self, keys):
        await keys.write_secret("a", {"x": "y"})
        await keys.delete_secret("a")
        await keys.delete_secret("a")
        with pytest.raises(NotFound):
            await keys.read_secret("a")


class TestNamedKeys:
    async def test_text_opens_only_with_its_own_key_and_context(self, keys):
        sealed = await keys.encrypt("users", b"secret", b"person 1")
        assert sealed.startswith("cv1:1:")
        assert await keys.decrypt("users", sealed, b"person 1") == b"secret"
        for key, context in (("users", b"person 2"), ("others", b"person 1")):
            with pytest.raises(Unavailable):
                await keys.decrypt(key, sealed, context)

    async def test_rotation_keeps_old_texts_and_blind_indices(self, keys):
        before, index = await keys.encrypt("users", b"old"), await keys.hmac("users", b"ada")
        assert await keys.rotate("users") == 2
        assert (await keys.encrypt("users", b"new")).startswith("cv1:2:")
        assert await keys.decrypt("users", before) == b"old"
        assert await keys.hmac("users", b"ada") == index
        assert await keys.hmac("others", b"ada") != index

    async def test_other_process_sees_a_rotation(self, tmp_path, keys):
        sealed = await keys.encrypt("users", b"old")
        other = FileKeyStore.open(tmp_path / "keys")
        assert await other.decrypt("users", sealed) == b"old"
        await keys.rotate("users")
        assert await other.decrypt("users", await keys.encrypt("users", b"new")) == b"new"
        await other.close()


class TestUserKeys:
    async def test_key_is_made_once_and_destroyed(self, keys):
        assert not await keys.has_user_key("u1")
        await asyncio.gather(keys.create_user_key("u1"), keys.create_user_key("u1"))
        public = await keys.public_key("u1")
        assert load_pem_public_key(public).key_size == 4096
        await keys.create_user_key("u1")
        assert await keys.public_key("u1") == public
        await keys.delete_user_key("u1")
        assert not await keys.has_user_key("u1")
        with pytest.raises(NotFound):
            await keys.public_key("u1")


class TestFiles:
    async def test_everything_survives_a_restart_and_a_new_master_key(self, tmp_path, keys):
        await keys.write_secret("a", {"x": "y"})
        sealed = await keys.encrypt("users", b"secret")
        before = (tmp_path / "keys" / "master.key").read_bytes()
        await keys.rotate_master()
        assert (tmp_path / "keys" / "master.key").read_bytes() != before
        again = FileKeyStore.open(tmp_path / "keys")
        assert (await again.read_secret("a")).data == {"x": "y"}
        assert await again.decrypt("users", sealed) == b"secret"
        await again.close()

    async def test_rotation_that_was_cut_off_is_finished(self, tmp_path, keys):
        await keys.write_secret("a", {"x": "y"})
        master = tmp_path / "keys" / "master.key"
        old = master.read_text()
        with master.open("a") as file:
            file.write("2 " + "A" * 43 + "=\n")
        (tmp_path / "keys" / "records" / "secret-x.tmp").touch(0o600)
        again = FileKeyStore.open(tmp_path / "keys")
        assert (await again.read_secret("a")).data == {"x": "y"}
        assert old not in master.read_text()
        assert not list((tmp_path / "keys").rglob("*.tmp"))
        await again.close()

    async def test_nothing_readable_stands_in_the_files(self, tmp_path, keys):
        await keys.write_secret("a-name", {"x": "canary-value"})
        for file in records(tmp_path, "secret"):
            assert b"canary" not in file.read_bytes()
            assert file.stat().st_mode & 0o777 == 0o600

    async def test_files_that_others_may_read_are_refused(self, tmp_path, keys):
        await keys.write_secret("a", {"x": "y"})
        for place in (*records(tmp_path, "secret"), tmp_path / "keys" / "master.key"):
            place.chmod(0o640)
            with pytest.raises(Unavailable, match="Others may read"):
                await keys.read_secret("a")
            place.chmod(0o600)
        (tmp_path / "keys").chmod(0o755)
        with pytest.raises(Unavailable, match="Others may read"):
            FileKeyStore.open(tmp_path / "keys")

    async def test_changed_and_swapped_files_are_refused(self, tmp_path, keys):
        await keys.write_secret("a", {"x": "1"})
        (first,) = records(tmp_path, "secret")
        await keys.write_secret("b", {"x": "2"})
        (second,) = set(records(tmp_path, "secret")) - {first}
        whole = first.read_bytes()
        second.replace(first)
        with pytest.raises(Unavailable):
            await keys.read_secret("a")
        first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(Unavailable):
            await keys.read_secret("a")
        first.write_bytes(b"")
        with pytest.raises(Unavailable):
            await keys.read_secret("a")

    async def test_lost_master_key_is_never_replaced(self, tmp_path, keys):
        await keys.write_secret("a", {"x": "1"})
        (tmp_path / "keys" / "master.key").unlink()
        with pytest.raises(Unavailable, match="no master key"):
            FileKeyStore.open(tmp_path / "keys", create=True)

    def test_missing_store_is_said(self, tmp_path):
        with pytest.raises(Unavailable, match="no key store"):
            FileKeyStore.open(tmp_path / "nowhere")
