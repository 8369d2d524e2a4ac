"""Packed files: whole or refused, and never a bomb."""

import gzip
import io

import pytest

from cvf_app.pipelines import compressed
from cvf_app.pipelines.compressed import opened
from cvf_app.pipelines.model import Unreadable

CONTENT = b"".join(b"line %d\n" % number for number in range(200_000))


def read(content: bytes) -> bytes:
    return opened(io.BytesIO(content), lambda _: None).stream.read()


def test_progress_is_that_of_the_packed_file() -> None:
    packed = gzip.compress(CONTENT)
    told: list[int] = []
    stream, advance = opened(io.BytesIO(packed), told.append)
    advance(5)
    assert stream.read() == CONTENT
    assert sum(told) == len(packed)


def test_what_is_not_packed_stays() -> None:
    assert read(b"") == b""
    assert read(b"id,a\n") == b"id,a\n"


def test_all_members_are_read() -> None:
    # As bgzip does it: many members, and an empty one in the end.
    cut = [CONTENT[start : start + 65_280] for start in range(0, len(CONTENT), 65_280)]
    packed = b"".join(gzip.compress(piece) for piece in (*cut, b""))
    assert read(packed) == CONTENT
    assert read(packed + b"\0" * 1000) == CONTENT


@pytest.mark.parametrize("end", [-1, -9, 100, 12])
def test_a_file_that_is_cut_off_is_no_shorter_file(end: int) -> None:
    with pytest.raises(Unreadable, match="cut off"):
        read(gzip.compress(CONTENT)[:end])


def test_damage_is_found() -> None:
    packed = bytearray(gzip.compress(CONTENT))
    packed[-6] ^= 1
    with pytest.raises(Unreadable, match="damaged"):
        read(bytes(packed))
    with pytest.raises(Unreadable, match="damaged"):
        read(gzip.compress(CONTENT) + b"rubbish")


def test_a_bomb_is_stopped_while_it_unpacks() -> None:
    bomb = gzip.compress(bytes(compressed.HARMLESS + 2**22))
    stream = opened(io.BytesIO(bomb), lambda _: None).stream
    stream.read(compressed.HARMLESS - 2**20)
    with pytest.raises(Unreadable, match="bomb"):
        stream.read(2**22)
