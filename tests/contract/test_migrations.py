"""Migrations lead a filled database both ways, on every server there is, and lose nothing."""

import asyncio
import contextlib
import random
import time
from dataclasses import replace

import pytest

from cvf_app.backends.mongo import Index, Mongo
from cvf_app.errors import Conflict, Invalid, Unavailable
from cvf_app.ids import new_id
from cvf_app.migrations import numbers
from cvf_app.migrations.catalogue import Catalogue
from cvf_app.migrations.difference import difference, write
from cvf_app.migrations.lock import locked
from cvf_app.migrations.model import OWN, TEXT, Declared
from cvf_app.migrations.runner import Runner
from cvf_app.migrations.state import States, check
from cvf_app.schema import declared
from tests.support.documents import NOW, OF_BEFORE

MIGRATIONS = numbers.load()
NEWEST = len(MIGRATIONS)


class Killed(BaseException):
    """The process is gone at this step."""


def runner(mongo: Mongo, said: list[str] | None = None, **more) -> Runner:
    return Runner(mongo, MIGRATIONS, (said if said is not None else []).append, **more)


def dying(mongo: Mongo, steps: int) -> Runner:
    """Give a runner that is killed when it says its n-th step."""
    left = iter(range(steps))

    def say(_: str) -> None:
        if next(left, None) is None:
            raise Killed

    return Runner(mongo, MIGRATIONS, say)


async def everything(mongo: Mongo) -> dict[str, dict[str, dict]]:
    names = sorted(await Catalogue(mongo).names() - OWN)
    found = {name: await mongo.collection(name).find({}) for name in names}
    return {name: {each["_id"]: each for each in of} for name, of in found.items() if of}


async def fill(mongo: Mongo, documents: dict[str, list[dict]]) -> None:
    for name, of in documents.items():
        await mongo.collection(name).insert_many(of)


@pytest.fixture
async def sound(uri: str) -> None:
    """Skip on a server that loses indices: mongo-java-server 1.47 drops by name, everywhere."""
    mongo = Mongo.open(uri, f"cv3_probe_{new_id()[:8]}", 2)
    index = Index((("same", 1),))
    for name in ("one", "other"):
        await Catalogue(mongo).make(name, None)
        await Catalogue(mongo).make_indices(name, (index,))
    await Catalogue(mongo).drop_indices("one", (index,))
    left = (await Catalogue(mongo).read())["other"].indices
    mongo.close()
    if not left:
        pytest.skip("this server drops the indices of other collections too")


class TestCreate:
    async def test_a_new_database_is_as_declared(self, mongo):
        assert await runner(mongo).create() == NEWEST
        state = await States(mongo).read()
        there = await Catalogue(mongo).read()
        assert difference(there, await declared(), validates=state.validates) == ()
        assert await check(mongo, NEWEST) == NEWEST

    async def test_what_stores_write_is_of_the_declared_shape(self, mongo):
        await runner(mongo).create()
        await fill(mongo, NOW)
        assert set(NOW) == set(await declared())

    async def test_a_second_creation_is_refused(self, mongo):
        await runner(mongo).create()
        with pytest.raises(Conflict, match="cvf db upgrade"):
            await runner(mongo).create()

    async def test_a_malformed_insert_is_refused(self, mongo):
        await runner(mongo).create()
        if not (await States(mongo).read()).validates:
            pytest.skip("this MongoDB server takes no validators")
        for name in NOW:
            answer = await mongo.command({"insert": name, "documents": [{"_id": "malformed"}]})
            assert [each["code"] for each in answer["writeErrors"]] == [121], name


class TestStart:
    async def test_a_database_of_another_number_is_refused_with_the_command(self, mongo):
        with pytest.raises(Conflict, match="cvf db create"):
            await check(mongo, NEWEST)
        assert await Catalogue(mongo).names() == set()
        await mongo.collection("jobs").insert({"_id": "1"})
        with pytest.raises(Conflict, match="cvf db upgrade"):
            await check(mongo, NEWEST)
        await mongo.collection("jobs").delete_one({"_id": "1"})
        await runner(mongo).upgrade()
        with pytest.raises(Conflict, match=f"cvf db downgrade --to {NEWEST - 1}"):
            await check(mongo, NEWEST - 1)
        with pytest.raises(Conflict, match="cvf db upgrade"):
            await check(mongo, NEWEST + 1)

    async def test_an_older_program_changes_nothing_of_a_newer_database(self, mongo):
        await runner(mongo).create()
        older = Runner(mongo, MIGRATIONS[:-1], [].append)
        for attempt in (older.upgrade(), older.downgrade(0), older.create()):
            with pytest.raises(Conflict):
                await attempt
        assert await check(mongo, NEWEST) == NEWEST


@pytest.mark.usefixtures("sound")
class TestWalks:
    async def test_a_database_of_before_gets_what_it_lacks(self, mongo):
        await fill(mongo, OF_BEFORE)
        assert await runner(mongo).upgrade() == NEWEST
        found = await everything(mongo)
        assert {each["once"] for each in found["jobs"].values()} == {"job/old-1", "job/old-2"}
        held, free = found["files"]["file-1"], found["files"]["file-2"]
        assert (held["holders"], held["user"], held["ready"]) == (["source/s1"], "u1", True)
        assert (free["holders"], free["type"], "userId" in free) == ([], "csv", False)
        await runner(mongo).downgrade(1)
        for name in ("jobs", "files"):
            expected = {each["_id"]: each for each in OF_BEFORE[name]}
            assert (await everything(mongo))[name] == expected

    @pytest.mark.parametrize("seed", range(4))
    async def test_random_walks_with_kills_keep_everything(self, mongo, seed):
        chance = random.Random(seed)
        await runner(mongo).create()
        await fill(mongo, NOW)
        at, expected = {}, await everything(mongo)
        at[NEWEST] = expected
        number = NEWEST
        for _ in range(12):
            to = chance.randrange(NEWEST + 1)
            if chance.random() < 0.5:
                killed = dying(mongo, chance.randrange(8))
                with contextlib.suppress(Killed):
                    await (killed.upgrade(to) if to > number else killed.downgrade(to))
                state = await States(mongo).read()
                assert (state.doing is None) == (state.number == to)
                number = state.number
                if state.doing is not None and chance.random() < 0.5:
                    number = await runner(mongo).downgrade(min(number, to))
                elif state.doing is not None:
                    number = await runner(mongo).upgrade()
                assert (await States(mongo).read()).doing is None
            else:
                way = runner(mongo)
                number = await (way.upgrade(to) if to > number else way.downgrade(to))
                assert number == to
            found = await everything(mongo)
            assert found == at.setdefault(number, found)
        assert await runner(mongo).upgrade() == NEWEST
        assert await everything(mongo) == expected
        assert await mongo.collection("schema_aside").count({}) == 0
        state = await States(mongo).read()
        there = await Catalogue(mongo).read()
        assert difference(there, await declared(), validates=state.validates) == ()

    async def test_a_dry_run_tells_and_writes_nothing(self, mongo):
        await fill(mongo, OF_BEFORE)
        before, names, said = await everything(mongo), await Catalogue(mongo).names(), []
        await runner(mongo, said).upgrade(dry=True)
        assert await everything(mongo) == before
        assert await Catalogue(mongo).names() == names
        assert "  change 2 documents of jobs" in said

    async def test_numbers_that_there_are_not_are_refused(self, mongo):
        await runner(mongo).create()
        with pytest.raises(Invalid):
            await runner(mongo).upgrade(NEWEST + 1)
        with pytest.raises(Invalid):
            await runner(mongo).downgrade(-1)
        with pytest.raises(Conflict):
            await runner(mongo).upgrade(NEWEST - 1)


class TestLock:
    async def test_of_many_that_begin_together_one_goes_on(self, mongo):
        await fill(mongo, OF_BEFORE)
        ends = await asyncio.gather(
            *(runner(mongo).upgrade() for _ in range(6)), return_exceptions=True
        )
        refused = [end for end in ends if isinstance(end, Conflict)]
        assert NEWEST in ends
        assert len(refused) + ends.count(NEWEST) == 6
        assert refused
        assert await check(mongo, NEWEST) == NEWEST

    async def test_a_lock_of_a_killed_holder_lapses(self, mongo):
        schema = States(mongo).collection
        await schema.insert({"_id": "lock", "holder": "dead", "until": time.time() + 60})
        with pytest.raises(Conflict, match="try again"):
            await runner(mongo).create()
        await schema.update_one({"_id": "lock"}, {"$set": {"until": time.time() - 1}})
        assert await runner(mongo).create() == NEWEST
        assert await schema.find_one({"_id": "lock"}) is None

    async def test_whoever_lost_the_lock_stops(self, mongo):
        schema = States(mongo).collection
        reached = []

        async def work():
            async with locked(schema, 0.3):
                await schema.update_one({"_id": "lock"}, {"$set": {"holder": "another"}})
                await asyncio.sleep(5)
                reached.append("the end")

        with pytest.raises(Conflict, match="was lost"):
            await work()
        assert reached == []
        assert (await schema.find_one({"_id": "lock"}))["holder"] == "another"


@pytest.mark.usefixtures("sound")
class TestRevise:
    async def test_what_is_written_makes_the_difference_and_takes_it_back(self, mongo, tmp_path):
        for path in numbers.FOLDER.glob("m*.py"):
            (tmp_path / path.name).write_text(path.read_text())
        await runner(mongo).create()
        state, before = await States(mongo).read(), await Catalogue(mongo).read()
        wanted = dict(await declared())
        named = Index((("name", 1),), unique=True)
        wanted["letters"] = Declared(frozenset({named}), {"name": TEXT})
        users = wanted["users"]
        dropped = next(iter(users.indices))
        more = {Index((("role", 1), ("active", -1)))}
        wanted["users"] = replace(
            users, indices=users.indices - {dropped} | more, shape={**users.shape, "extra": TEXT}
        )
        steps = difference(before, wanted, validates=state.validates)
        path = write(tmp_path, NEWEST + 1, "Letters have names: 'new' ones.", steps)
        assert path.name == f"m{NEWEST + 1:04d}_letters_have_names_new_ones.py"
        revised = Runner(mongo, numbers.load(tmp_path), [].append)
        assert await revised.upgrade() == NEWEST + 1
        there = await Catalogue(mongo).read()
        assert difference(there, wanted, validates=state.validates) == ()
        assert await revised.downgrade(NEWEST) == NEWEST
        assert await Catalogue(mongo).read() == before


class TestAddress:
    async def test_options_of_an_address_hold(self, uri):
        from cvf_app.migrations.address import open_at  # noqa: PLC0415 - one test alone

        url = f"{uri.split('?')[0].rstrip('/')}/cv3_{new_id()[:8]}"
        mongo = open_at(f"{url}?w=1&journal=false&readPreference=secondaryPreferred")
        await runner(mongo).create()
        assert await check(mongo, NEWEST) == NEWEST
        await mongo.drop()
        mongo.close()

    async def test_nobody_there_is_said(self):
        from cvf_app.migrations.address import open_at  # noqa: PLC0415 - one test alone

        mongo = open_at("mongodb://127.0.0.1:1/x?serverSelectionTimeoutMS=200")
        with pytest.raises(Unavailable):
            await check(mongo, NEWEST)
        mongo.close()
