"""Keys rotated as a job: everything renewed, nothing lost, whatever happens in the middle."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cvf_app.backends.keystore import FileKeyStore, KeyStore, version_of
from cvf_app.backends.mongo import Mongo
from cvf_app.backends.sealed_documents import SealedDocuments
from cvf_app.errors import Conflict, Unavailable
from cvf_app.ids import new_id
from cvf_app.jobs.worker import Worker
from cvf_app.migrations.lock import locked
from cvf_app.migrations.state import States
from cvf_app.principal import Role, UserId
from cvf_app.upkeep.rewrap import Rotate, Rotation, Vessel, handlers
from cvf_app.users.store import COLLECTION, KeptUser, UserStore
from tests.support import rail, services
from tests.support.vaults import share

ROOT = Path(__file__).parents[2]
KEY = "users"
PEOPLE = 230


@dataclass
class Told:
    """The `Steps` of a job that nobody runs: what it reports is kept."""

    reports: list[tuple[str, float]] = field(default_factory=list)
    on_report: Callable[[str], Awaitable[None]] | None = None
    attempt = 1
    cores = 1
    job_id = "job"

    async def report(self, stage: str, fraction: float) -> None:
        self.reports.append((stage, fraction))
        if self.on_report is not None:
            await self.on_report(stage)

    async def run(self, *_: object) -> None:
        raise AssertionError("this job has no work of its own")


@dataclass
class Place:
    """People in a database, sealed by a key store."""

    mongo: Mongo
    database: str
    keys: KeyStore
    store: UserStore

    @property
    def vessels(self) -> tuple[Vessel, ...]:
        return (Vessel("people", KEY, self.store.sealed),)

    def rotation(self, *more: Vessel) -> Rotation:
        return Rotation(self.keys, None, (*self.vessels, *more), quiet=0.0)

    async def fill(self, count: int = PEOPLE) -> list[UserId]:
        return [await self.add(f"{number:04d}-{new_id()[:8]}") for number in range(count)]

    async def add(self, user_id: str) -> UserId:
        sealed = await self.keys.encrypt(KEY, f"person {user_id}".encode(), user_id.encode())
        await self.store.add(kept(user_id, sealed))
        return UserId(user_id)

    async def versions(self) -> set[int]:
        return {version_of(each.sealed) for each in await self.store.list_users()}

    async def read(self) -> dict[str, str]:
        found = await self.store.list_users()
        return {
            each.user_id: (
                await self.keys.decrypt(KEY, each.sealed, each.user_id.encode())
            ).decode()
            for each in found
        }


def kept(user_id: str, sealed: str, **more: object) -> KeptUser:
    fields = {
        "user_id": UserId(user_id),
        "sealed": sealed,
        "username_index": f"name {user_id}",
        "subject_index": f"subject {user_id}",
        "role": Role.USER,
        "active": True,
        "registered": True,
        "own_account": False,
        "attempt": 1,
        "budget": 100,
    }
    return KeptUser(**(fields | more))


@pytest.fixture(params=["file", "vault"])
async def keys(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyStore]:
    if request.param == "vault":
        opened: KeyStore = share(request.getfixturevalue("vault"), tmp_path).open()
    else:
        opened = FileKeyStore.open(tmp_path / "keys", create=True)
    yield opened
    await opened.close()


@pytest.fixture
async def place(keys: KeyStore, mongo_uri: str) -> AsyncIterator[Place]:
    database = f"rewrap_{new_id()[:8]}"
    mongo = Mongo.open(mongo_uri, database, 10)
    store = UserStore(mongo.collection(COLLECTION))
    await store.prepare()
    yield Place(mongo, database, keys, store)
    await mongo.drop()
    mongo.close()


class TestRotation:
    async def test_everything_is_renewed_and_the_old_version_opens_nothing(
        self, place: Place
    ) -> None:
        await place.fill()
        before = await place.store.list_users()
        people, steps = await place.read(), Told()
        done = await place.rotation().rotate(Rotate(before={KEY: 1}), steps)
        assert done == {"renewed": PEOPLE, "versions": {KEY: 2}}
        assert await place.versions() == {2}
        assert await place.read() == people
        with pytest.raises(Unavailable):
            await place.keys.decrypt(KEY, before[0].sealed, before[0].user_id.encode())
        shares = [share for stage, share in steps.reports if stage == "renewing people"]
        assert shares[:3] == sorted(shares[:3])
        assert shares[2] == pytest.approx(0.9)

    async def test_done_again_it_changes_nothing_and_does_not_rotate_again(
        self, place: Place
    ) -> None:
        await place.fill(5)
        job = Rotate(before={KEY: 1})
        await place.rotation().rotate(job, Told())
        texts = [each.sealed for each in await place.store.list_users()]
        assert (await place.rotation().rotate(job, Told()))["renewed"] == 0
        assert [each.sealed for each in await place.store.list_users()] == texts
        assert await place.keys.newest_version(KEY) == 2

    async def test_nothing_to_renew_is_fine(self, place: Place) -> None:
        done = await place.rotation().rotate(Rotate(before={KEY: 1}), Told())
        assert done == {"renewed": 0, "versions": {KEY: 2}}

    async def test_broken_off_it_goes_on_and_old_texts_open_until_its_end(
        self, place: Place
    ) -> None:
        await place.fill()
        people, job = await place.read(), Rotate(before={KEY: 1})

        class Killed(BaseException):
            pass

        async def kill(stage: str) -> None:
            if stage.startswith("renewing"):
                raise Killed

        with pytest.raises(Killed):
            await place.rotation().rotate(job, Told(on_report=kill))
        assert await place.versions() == {1, 2}
        assert await place.read() == people
        done = await place.rotation().rotate(job, Told())
        assert done["renewed"] == PEOPLE - 100
        assert await place.versions() == {2}
        assert await place.read() == people
        assert await place.keys.newest_version(KEY) == 2

    async def test_what_is_changed_meanwhile_is_kept_and_what_is_written_back_is_found(
        self, place: Place
    ) -> None:
        ids = await place.fill(150)
        stale = await place.store.find(ids[0])
        assert stale is not None
        waiting = asyncio.Event()

        async def meddle(stage: str) -> None:
            if stage.startswith("waiting"):
                # A request that had read a person before writes it back with the old text.
                changed = kept(ids[0], stale.sealed, attempt=2, budget=7)
                assert await place.store.replace_attempt(changed, 1)
                waiting.set()

        done = await place.rotation().rotate(Rotate(before={KEY: 1}), Told(on_report=meddle))
        assert waiting.is_set()
        assert done["renewed"] == 151
        found = await place.store.find(ids[0])
        assert found is not None
        assert (version_of(found.sealed), found.budget) == (2, 7)
        assert len(await place.read()) == 150

    async def test_old_version_stays_while_old_texts_keep_coming(self, place: Place) -> None:
        await place.fill(3)
        old = [each.sealed for each in await place.store.list_users()]

        class Haunted(SealedDocuments):
            async def replace_sealed(self, *_: str) -> bool:
                return False

        haunted = Vessel("people", KEY, Haunted(place.mongo.collection(COLLECTION)))
        with pytest.raises(Conflict, match="old version"):
            await Rotation(place.keys, None, (haunted,), quiet=0.0).rotate(
                Rotate(before={KEY: 1}), Told()
            )
        assert [each.sealed for each in await place.store.list_users()] == old
        assert len(await place.read()) == 3

    async def test_old_version_stays_while_a_backup_is_being_made(self, place: Place) -> None:
        """Its documents are of before, and its copy of the key store comes last."""
        people = await place.fill(2)
        old = [each.sealed for each in await place.store.list_users()]
        schema = States(place.mongo).collection
        rotation = Rotation(
            place.keys, None, place.vessels, quiet=0.0, alone=lambda: locked(schema)
        )
        async with locked(schema):
            with pytest.raises(Conflict, match="Another command"):
                await rotation.rotate(Rotate(before={KEY: 1}), Told())
        for user_id, text in zip(people, old, strict=True):
            assert await place.keys.decrypt(KEY, text, user_id.encode())
        await rotation.rotate(Rotate(before={KEY: 1}), Told())
        with pytest.raises(Unavailable):
            await place.keys.decrypt(KEY, old[0], people[0].encode())

    async def test_documents_that_hold_no_text_are_passed_over(self, place: Place) -> None:
        await place.fill(3)
        await place.store.add(kept("0001-empty", ""))
        done = await place.rotation().rotate(Rotate(before={KEY: 1}), Told())
        assert done["renewed"] == 3
        assert await place.versions() == {0, 2}

    async def test_keys_of_other_documents_are_left_to_their_own_rotation(
        self, place: Place
    ) -> None:
        await place.fill(2)
        letters = UserStore(place.mongo.collection("letters"))
        sealed = await place.keys.encrypt("letters", b"x", b"a")
        await letters.add(kept("a", sealed))
        done = await place.rotation(Vessel("letters", "letters", letters.sealed)).rotate(
            Rotate(before={KEY: 1}), Told()
        )
        assert done["versions"] == {KEY: 2}
        found = await letters.find("a")
        assert found is not None
        assert version_of(found.sealed) == 1


# The rail is the same for both stores, and the child opens files.
@pytest.mark.parametrize("keys", ["file"], indirect=True)
class TestOnTheRail:
    async def test_worker_killed_in_the_middle_another_one_ends_it(
        self, place: Place, redis_program: services.Program, mongo_uri: str, tmp_path: Path
    ) -> None:
        await place.fill(600)
        people = await place.read()
        async with rail.opened(mongo_uri, redis_program.url, tmp_path) as line:
            job = await Rotation(place.keys, line.jobs, place.vessels).begin(UserId("ada"))
            again = await Rotation(place.keys, line.jobs, place.vessels).begin(UserId("ada"))
            assert again.job_id == job.job_id
            arguments = (mongo_uri, line.database, redis_program.url)
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.support.rewrap_process",
                *arguments,
                str(tmp_path / "keys"),
                place.database,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            )
            try:
                async with asyncio.timeout(120):
                    while True:
                        if await place.versions() == {1, 2}:
                            break
                        await asyncio.sleep(0.01)
            finally:
                child.send_signal(signal.SIGKILL)
                await child.wait()
            assert await place.versions() == {1, 2}
            rotation = Rotation(place.keys, line.jobs, place.vessels, quiet=0.0)
            working = asyncio.create_task(Worker(line.jobs, line.queue, handlers(rotation)).run())
            try:
                ended = await line.until(job, 120)
            finally:
                working.cancel()
                await asyncio.wait({working})
        assert ended.state.value == "complete"
        assert ended.attempts == 2
        assert 0 < ended.result["renewed"] < 600
        assert await place.versions() == {2}
        assert await place.read() == people
