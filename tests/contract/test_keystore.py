"""What every key store promises: one in files, and one in a real Vault."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cvf_app.backends.keystore import FileKeyStore, KeyStore, SealedText, version_of
from cvf_app.errors import Conflict, NotFound, Unavailable
from tests.support import servers, services
from tests.support.vaults import share

Open = Callable[[], KeyStore]


@pytest.fixture(scope="module", params=["file", "vault"])
async def another(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Open]:
    """Open the one store again, as another process of the instance would."""
    folder = tmp_path_factory.mktemp("keystore")
    opened: list[KeyStore] = []
    if request.param == "file":
        FileKeyStore.open(folder / "keys", create=True)
        yield lambda: opened.append(FileKeyStore.open(folder / "keys")) or opened[-1]
    else:
        try:
            with servers.running("vault") as vault:
                ours = share(vault, folder)
                yield lambda: opened.append(ours.open()) or opened[-1]
                for each in opened:
                    await each.close()
                opened.clear()
        except services.Missing as missing:
            pytest.skip(str(missing))
    for each in opened:
        await each.close()


@pytest.fixture(scope="module")
def keys(another: Open) -> KeyStore:
    return another()


@pytest.fixture
def name() -> str:
    """A name that nobody else uses, of a secret, a key or a person."""
    return str(uuid4())


class TestSecrets:
    async def test_what_is_written_is_read_by_every_process(
        self, keys: KeyStore, another: Open, name: str
    ) -> None:
        assert await keys.write_secret(name, {"client": "ä", "empty": ""}) == 1
        for each in (keys, another()):
            found = await each.read_secret(name)
            assert (dict(found.data), found.version) == ({"client": "ä", "empty": ""}, 1)

    async def test_each_write_is_a_version_and_replaces_all_fields(
        self, keys: KeyStore, name: str
    ) -> None:
        assert [await keys.write_secret(name, {f"f{n}": str(n)}) for n in range(3)] == [1, 2, 3]
        assert dict((await keys.read_secret(name)).data) == {"f2": "2"}
        assert dict((await keys.read_secret(name, 1)).data) == {"f0": "0"}
        with pytest.raises(NotFound):
            await keys.read_secret(name, 4)

    async def test_ten_versions_are_kept(self, keys: KeyStore, name: str) -> None:
        for number in range(12):
            await keys.write_secret(name, {"n": str(number)})
        assert dict((await keys.read_secret(name, 3)).data) == {"n": "2"}
        with pytest.raises(NotFound):
            await keys.read_secret(name, 2)

    async def test_what_is_not_there_is_not_found(self, keys: KeyStore, name: str) -> None:
        with pytest.raises(NotFound):
            await keys.read_secret(name)
        await keys.delete_secret(name)

    async def test_check_and_set_lets_one_of_many_win(self, keys: KeyStore, name: str) -> None:
        assert await keys.write_secret(name, {"n": "1"}, check_and_set=0) == 1
        with pytest.raises(Conflict):
            await keys.write_secret(name, {"n": "x"}, check_and_set=0)
        tries = [keys.write_secret(name, {"n": str(n)}, check_and_set=1) for n in range(8)]
        done = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(map(str, done)).count("2") == 1
        assert sum(isinstance(each, Conflict) for each in done) == 7
        assert (await keys.read_secret(name)).version == 2

    async def test_deleted_with_all_versions(self, keys: KeyStore, name: str) -> None:
        await keys.write_secret(name, {"n": "1"})
        await keys.write_secret(name, {"n": "2"})
        await keys.delete_secret(name)
        for version in (None, 1, 2):
            with pytest.raises(NotFound):
                await keys.read_secret(name, version)
        assert await keys.write_secret(name, {"n": "3"}, check_and_set=0) == 1

    async def test_paths_are_apart(self, keys: KeyStore, name: str) -> None:
        paths = (name, f"{name}/a", f"{name}/a/b", f"{name}/ä b%2f")
        for path in paths:
            await keys.write_secret(path, {"path": path})
        for path in paths:
            assert (await keys.read_secret(path)).data["path"] == path

    async def test_no_secret_shows_when_it_is_printed(self, keys: KeyStore, name: str) -> None:
        await keys.write_secret(name, {"client_secret": "hidden-value"})
        assert "hidden-value" not in repr(await keys.read_secret(name))
        assert "hidden-value" not in repr(keys)


class TestSealing:
    @pytest.mark.parametrize("plaintext", [b"", b"x", "Ärztin".encode(), bytes(range(256)) * 400])
    async def test_what_is_sealed_opens_in_every_process(
        self, keys: KeyStore, another: Open, plaintext: bytes
    ) -> None:
        sealed = await keys.encrypt("people", plaintext, b"ann")
        assert await keys.decrypt("people", sealed, b"ann") == plaintext
        assert await another().decrypt("people", sealed, b"ann") == plaintext
        assert sealed.isascii()

    async def test_nobody_sees_that_two_texts_are_equal(self, keys: KeyStore) -> None:
        assert await keys.encrypt("people", b"same") != await keys.encrypt("people", b"same")

    async def test_opens_under_its_own_key_and_context_only(self, keys: KeyStore) -> None:
        sealed = await keys.encrypt("people", b"plain", b"ann")
        await keys.encrypt("letters", b"so that there is this key")
        for key, context in (("people", b"bob"), ("people", b""), ("letters", b"ann")):
            with pytest.raises(Unavailable):
                await keys.decrypt(key, sealed, context)

    async def test_what_was_changed_does_not_open(self, keys: KeyStore) -> None:
        sealed = await keys.encrypt("people", b"plain" * 9)
        place = len(sealed) - 20
        other = "A" if sealed[place] != "A" else "B"
        changed = (sealed[:place] + other + sealed[place + 1 :], sealed[:-8], "", "x", "cv1:1:")
        for text in (*changed, "vault:v1:", "vault:v9:" + sealed.rpartition(":")[2]):
            with pytest.raises(Unavailable):
                await keys.decrypt("people", text)

    async def test_many_open_in_their_order(self, keys: KeyStore) -> None:
        plain = [f"person {number}".encode() for number in range(450)]
        contexts = [str(number % 3).encode() if number % 3 else b"" for number in range(450)]
        sealed = await asyncio.gather(
            *(keys.encrypt("people", *each) for each in zip(plain, contexts, strict=True))
        )
        texts = [SealedText(*each) for each in zip(sealed, contexts, strict=True)]
        assert await keys.decrypt_many("people", texts) == tuple(plain)
        assert await keys.decrypt_many("people", ()) == ()
        with pytest.raises(Unavailable):
            await keys.decrypt_many("people", [*texts[:5], SealedText(sealed[7], b"other")])


class TestDigests:
    async def test_same_for_every_process_and_after_a_rotation(
        self, keys: KeyStore, another: Open
    ) -> None:
        before = await keys.hmac("indexed", b"ann@example.org")
        await keys.rotate("indexed")
        assert await keys.hmac("indexed", b"ann@example.org") == before
        assert await another().hmac("indexed", b"ann@example.org") == before

    async def test_tells_key_and_text_apart_and_is_64_hex_digits(self, keys: KeyStore) -> None:
        asked = [("indexed", b"a"), ("indexed", b"b"), ("indexed", b""), ("people", b"a")]
        found = [await keys.hmac(*each) for each in asked]
        assert len(set(found)) == 4
        assert all(len(each) == 64 and int(each, 16) for each in found)


class TestRotation:
    async def test_new_version_seals_and_old_texts_open(
        self, keys: KeyStore, another: Open, name: str
    ) -> None:
        old = await keys.encrypt(name, b"old", b"c")
        assert await keys.newest_version(name) == version_of(old) == 1
        assert await keys.rotate(name) == await another().newest_version(name) == 2
        new = await keys.encrypt(name, b"new", b"c")
        assert version_of(new) == 2
        assert await another().decrypt(name, old, b"c") == b"old"
        assert await another().decrypt(name, new, b"c") == b"new"

    async def test_rewrapped_text_is_of_the_newest_version_and_keeps_its_context(
        self, keys: KeyStore, another: Open, name: str
    ) -> None:
        contexts = [b"a", b"b", b""]
        old = [SealedText(await keys.encrypt(name, b"p" + each, each), each) for each in contexts]
        await another().rotate(name)
        new = await keys.rewrap(name, old)
        assert [version_of(each) for each in new] == [2, 2, 2]
        for text, context in zip(new, contexts, strict=True):
            assert await keys.decrypt(name, text, context) == b"p" + context
            with pytest.raises(Unavailable):
                await keys.decrypt(name, text, b"other")
        assert await keys.rewrap(name, ()) == ()

    async def test_retired_version_opens_nothing_and_newer_ones_do(
        self, keys: KeyStore, another: Open, name: str
    ) -> None:
        texts = [await keys.encrypt(name, b"1")]
        for number in (2, 3):
            assert await keys.rotate(name) == number
            texts.append(await keys.encrypt(name, str(number).encode()))
        await keys.retire(name, 2)
        for each in (keys, another()):
            with pytest.raises(Unavailable):
                await each.decrypt(name, texts[0])
            assert [await each.decrypt(name, text) for text in texts[1:]] == [b"2", b"3"]
        await keys.retire(name, 2)
        assert await keys.rotate(name) == 4

    async def test_version_that_is_not_there_cannot_be_all_that_is_left(
        self, keys: KeyStore, name: str
    ) -> None:
        sealed = await keys.encrypt(name, b"x")
        with pytest.raises(Conflict):
            await keys.retire(name, 2)
        assert await keys.decrypt(name, sealed) == b"x"

    def test_version_of_a_text_that_is_none_is_zero(self) -> None:
        for text in ("", "x", "vault:v1", "vault:vx:y", "cv1::y", "a:b:c", "vault:v²:y"):
            assert version_of(text) == 0


class TestPeople:
    async def test_key_pair_is_made_once_shown_and_destroyed(
        self, keys: KeyStore, another: Open, name: str
    ) -> None:
        assert not await keys.has_user_key(name)
        with pytest.raises(NotFound):
            await keys.public_key(name)
        await asyncio.gather(keys.create_user_key(name), another().create_user_key(name))
        shown = await keys.public_key(name)
        public = load_pem_public_key(shown)
        assert isinstance(public, RSAPublicKey)
        assert public.key_size == 4096
        await keys.create_user_key(name)
        assert await another().public_key(name) == shown
        other = str(uuid4())
        assert await keys.has_user_keys((name, other)) == {name}
        assert await keys.has_user_keys(()) == frozenset()
        await keys.delete_user_key(name)
        await another().delete_user_key(name)
        assert not await another().has_user_key(name)
        assert not await keys.has_user_key(name)


class TestState:
    async def test_says_what_it_is_and_is_tended_without_a_word(self, keys: KeyStore) -> None:
        assert await keys.state()
        await keys.tend()
