"""A zip that is made while it is read."""

import io
import zipfile
from collections.abc import AsyncIterator

from cvf_app.files.bundle import bundle


async def content(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class TestBundle:
    async def test_what_goes_in_comes_out_byte_for_byte(self) -> None:
        binary = bytes(range(256)) * 1000
        files = [("a.csv", content(b"1,2\n", b"3,4\n")), ("b/ü.bin", content(binary)),
                 ("empty.csv", content())]  # fmt: skip
        made = b"".join([piece async for piece in bundle(files)])
        with zipfile.ZipFile(io.BytesIO(made)) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == ["a.csv", "b/ü.bin", "empty.csv"]
            assert archive.read("a.csv") == b"1,2\n3,4\n"
            assert archive.read("b/ü.bin") == binary

    async def test_equal_names_get_a_number(self) -> None:
        files = [(name, content(b"x")) for name in ("a.csv", "a.csv", "f/a.csv", "a.csv")]
        made = b"".join([piece async for piece in bundle(files)])
        with zipfile.ZipFile(io.BytesIO(made)) as archive:
            assert archive.namelist() == ["a.csv", "a (2).csv", "f/a.csv", "a (3).csv"]

    async def test_each_piece_leaves_before_the_next_is_read(self) -> None:
        held = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal held
            for _ in range(50):
                held += 1000
                yield bytes(1000)

        most = 0
        async for piece in bundle([("zeros", counted())]):
            held -= len(piece)
            most = max(most, held)
        assert most <= 1000
