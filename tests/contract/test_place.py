"""What every form of a place promises: `FORMS` has one way of making each."""

import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from cvf_app.errors import NotFound, StorageFull, TooLarge
from cvf_app.files.folder import Folder
from cvf_app.files.formats import HEAD
from cvf_app.files.place import Place

FORMS: dict[str, Callable[[Path], Place]] = {"folder": lambda root: Folder(root, 1000)}
CONTENT = bytes(range(256)) * 400
DIGEST = sha256(CONTENT).hexdigest()
LIMIT = 10**9


async def pieces(content: bytes = CONTENT, size: int = 777) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def broken(content: bytes) -> AsyncIterator[bytes]:
    async for piece in pieces(content):
        yield piece
    raise ConnectionError


async def all_of(content: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in content])


async def put(place: Place, content: bytes = CONTENT) -> str:
    staged = await place.stage(pieces(content), LIMIT)
    await place.keep(staged)
    await place.discard(staged)
    return staged.sha256


async def put_piece(place: Place, name: str, content: bytes, upload: str = "u") -> None:
    await place.keep_piece(await place.stage(pieces(content), LIMIT), upload, name)


async def listed(place: Place) -> list[str]:
    return sorted([kept.sha256 async for kept in place.contents()])


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


@pytest.fixture(params=FORMS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return FORMS[request.param](tmp_path / "data")


class TestContents:
    async def test_what_is_kept_is_there_under_its_digest(self, place: Place) -> None:
        assert await put(place) == DIGEST
        assert await place.exists(DIGEST)
        assert await place.size(DIGEST) == len(CONTENT)
        assert await all_of(place.stream(DIGEST)) == CONTENT
        assert place.path(DIGEST).read_bytes() == CONTENT

    @pytest.mark.parametrize(("first", "last"), [(0, 0), (5, 4999), (10239, 10239), (9000, None)])
    async def test_a_part_of_a_content_is_read_alone(
        self, place: Place, first: int, last: int | None
    ) -> None:
        await put(place)
        wanted = CONTENT[first : None if last is None else last + 1]
        assert await all_of(place.stream(DIGEST, first, last)) == wanted

    async def test_what_is_staged_tells_its_size_digest_and_head(self, place: Place) -> None:
        staged = await place.stage(pieces(), LIMIT)
        assert (staged.size, staged.sha256) == (len(CONTENT), DIGEST)
        assert CONTENT.startswith(staged.head)
        assert len(staged.head) == HEAD
        assert await place.inspect(staged, lambda file: file.read()) == CONTENT
        assert await listed(place) == []
        assert not await place.exists(DIGEST)

    async def test_nothing_is_a_content_too(self, place: Place) -> None:
        empty = await put(place, b"")
        assert await all_of(place.stream(empty)) == b""

    async def test_equal_content_is_kept_once(self, place: Place) -> None:
        await put(place)
        await put(place)
        await put(place, b"other")
        assert await listed(place) == sorted([DIGEST, sha256(b"other").hexdigest()])

    async def test_kept_again_it_is_young_again(self, place: Place) -> None:
        await put(place)
        os.utime(place.path(DIGEST), (1, 1))
        assert [kept.age > 10**6 async for kept in place.contents()] == [True]
        await put(place)
        assert [kept.age < 10**6 async for kept in place.contents()] == [True]

    async def test_what_is_not_there_is_not_found(self, place: Place) -> None:
        assert not await place.exists(DIGEST)
        with pytest.raises(NotFound):
            await place.size(DIGEST)
        with pytest.raises(NotFound):
            await all_of(place.stream(DIGEST))
        with pytest.raises(NotFound):
            place.path(DIGEST)

    @pytest.mark.parametrize("name", ["", "../secret", "A" * 64, "0" * 63, "/etc/passwd"])
    async def test_a_name_that_is_no_digest_is_refused(self, place: Place, name: str) -> None:
        with pytest.raises(ValueError, match="64"):
            await place.exists(name)

    async def test_what_breaks_off_leaves_nothing(self, place: Place) -> None:
        with pytest.raises(ConnectionError):
            await place.stage(broken(CONTENT), LIMIT)
        await place.tidy(0)
        assert await listed(place) == []

    async def test_what_is_too_large_leaves_nothing(self, place: Place) -> None:
        with pytest.raises(TooLarge):
            await place.stage(pieces(), len(CONTENT) - 1)
        assert (await place.stage(pieces(), len(CONTENT))).size == len(CONTENT)


class TestRemoval:
    async def test_what_nobody_wants_goes_and_twice_is_once(self, place: Place) -> None:
        await put(place)
        await place.remove(DIGEST, no)
        await place.remove(DIGEST, no)
        assert not await place.exists(DIGEST)
        assert await listed(place) == []

    async def test_what_is_wanted_after_all_comes_back(self, place: Place) -> None:
        await put(place)
        await place.remove(DIGEST, yes)
        assert await all_of(place.stream(DIGEST)) == CONTENT

    async def test_while_somebody_is_asked_it_is_not_there(self, place: Place) -> None:
        await put(place)
        seen = []

        async def wanted() -> bool:
            seen.append(await place.exists(DIGEST))
            return True

        await place.remove(DIGEST, wanted)
        assert seen == [False]

    async def test_a_reader_reads_to_the_end_what_is_removed_meanwhile(self, place: Place) -> None:
        await put(place)
        reading = place.stream(DIGEST)
        begun = await anext(reading)
        await place.remove(DIGEST, no)
        assert begun + await all_of(reading) == CONTENT


class TestPieces:
    async def test_pieces_are_listed_joined_and_dropped(self, place: Place) -> None:
        await put_piece(place, "b", b"second")
        await put_piece(place, "a", b"first ")
        await place.mark("u", "sign")
        assert await place.pieces("u") == {"a", "b", "sign"}
        staged = await place.join("u", ["a", "b"], 12)
        await place.keep(staged)
        assert staged.head == b"first second"
        assert await all_of(place.stream(sha256(b"first second").hexdigest())) == b"first second"
        await place.drop_piece("u", "a")
        await place.drop_piece("u", "a")
        assert await place.pieces("u") == {"b", "sign"}

    async def test_pieces_are_no_contents(self, place: Place) -> None:
        await put_piece(place, "a", CONTENT)
        assert await listed(place) == []

    async def test_uploads_are_apart_and_dropped_whole(self, place: Place) -> None:
        await put_piece(place, "a", b"1", "one")
        await put_piece(place, "a", b"2", "two")
        assert set(await place.uploads()) == {"one", "two"}
        await place.drop("one")
        await place.drop("one")
        assert await place.pieces("one") == frozenset()
        assert await place.pieces("two") == {"a"}

    async def test_a_piece_that_is_gone_fails_the_join_and_nothing_stays(
        self, place: Place
    ) -> None:
        await put_piece(place, "a", b"1")
        with pytest.raises(NotFound):
            await place.join("u", ["a", "b"], LIMIT)
        with pytest.raises(TooLarge):
            await place.join("u", ["a"], 0)
        assert await listed(place) == []

    async def test_the_same_piece_again_is_one(self, place: Place) -> None:
        await put_piece(place, "a", b"1")
        await put_piece(place, "a", b"1")
        assert await place.pieces("u") == {"a"}


class TestLeftovers:
    async def test_what_is_staged_and_forgotten_goes_when_it_is_old(self, place: Place) -> None:
        staged = await place.stage(pieces(), LIMIT)
        await place.tidy(3600)
        await place.keep(staged)
        left = await place.stage(pieces(), LIMIT)
        await place.tidy(0)
        with pytest.raises(NotFound):
            await place.keep(left)
        assert await listed(place) == [DIGEST]

    async def test_a_removal_that_was_cut_off_is_called_off(self, place: Place) -> None:
        await put(place)

        class Killed(BaseException):
            pass

        async def killed() -> bool:
            raise Killed

        with pytest.raises(Killed):
            await place.remove(DIGEST, killed)
        await place.tidy(0)
        assert await all_of(place.stream(DIGEST)) == CONTENT

    async def test_a_place_that_was_never_written_to_is_out_of_reach(self, place: Place) -> None:
        assert not await place.reachable()
        await place.tidy(0)
        await put(place)
        assert await place.reachable()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own with 1 MB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small file system to fill")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class TestFullDisk:
    """For forms that write to a disk of this machine."""

    async def test_nothing_partial_stays_and_the_rest_is_whole(self, small: Path) -> None:
        place = Folder(small, 1000)
        await put(place)
        await put_piece(place, "a", bytes(600_000))
        before = files_in(small)
        with pytest.raises(StorageFull):
            await place.stage(pieces(bytes(600_000), 5000), LIMIT)
        with pytest.raises(StorageFull):
            await place.join("u", ["a"], LIMIT)
        assert files_in(small) == before
        assert await all_of(place.stream(DIGEST)) == CONTENT


class TestThreads:
    async def test_the_event_loop_opens_no_file_of_the_place(self, tmp_path: Path) -> None:
        opened: list[int] = []
        watching = True

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if watching and event == "open" and str(arguments[0]).startswith(str(tmp_path)):
                opened.append(threading.get_ident())

        # A hook stays for ever, so it is told when to look away.
        sys.addaudithook(hook)
        try:
            place = Folder(tmp_path / "data", 1000)
            await put(place)
            await put_piece(place, "a", CONTENT)
            await place.discard(await place.join("u", ["a"], LIMIT))
            await all_of(place.stream(DIGEST))
        finally:
            watching = False
        assert len(opened) > 3
        assert threading.get_ident() not in opened
