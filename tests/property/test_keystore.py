"""Whatever is encrypted opens again, and nothing that was changed does."""

import asyncio
import base64
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvf_app.backends.keystore import FileKeyStore
from cvf_app.errors import Unavailable


def with_store(work):
    async def run():
        with tempfile.TemporaryDirectory() as folder:
            keys = FileKeyStore.open(Path(folder) / "keys", create=True)
            try:
                await work(keys)
            finally:
                await keys.close()

    asyncio.run(run())


class TestFileKeyStore:
    @given(st.binary(max_size=2000), st.binary(max_size=50), st.integers(0, 3))
    def test_text_opens_after_any_number_of_rotations(self, plaintext, context, rotations):
        async def work(keys):
            sealed = await keys.encrypt("k", plaintext, context)
            for _ in range(rotations):
                await keys.rotate("k")
            await keys.rotate_master()
            assert await keys.decrypt("k", sealed, context) == plaintext

        with_store(work)

    @given(st.binary(max_size=200), st.integers(min_value=0), st.integers(0, 7))
    def test_one_changed_bit_is_found(self, plaintext, place, bit):
        async def work(keys):
            sealed = await keys.encrypt("k", plaintext)
            head, _, text = sealed.rpartition(":")
            raw = bytearray(base64.b64decode(text))
            raw[place % len(raw)] ^= 1 << bit
            with pytest.raises(Unavailable):
                await keys.decrypt("k", f"{head}:{base64.b64encode(raw).decode()}")

        with_store(work)

    @given(st.text(max_size=100))
    def test_no_text_but_our_own_opens(self, text):
        async def work(keys):
            with pytest.raises(Unavailable):
                await keys.decrypt("k", text)

        with_store(work)

    @given(st.text(min_size=1, max_size=60), st.dictionaries(st.text(), st.text(), max_size=5))
    def test_any_path_and_fields_are_kept_inside_the_folder(self, path, data):
        async def work(keys):
            await keys.write_secret(path, data)
            assert (await keys.read_secret(path)).data == data

        with_store(work)
