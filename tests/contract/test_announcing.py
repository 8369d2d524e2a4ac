"""What a collection announces of its writes, on every server there is."""

import os

import pytest

from cvf_app.backends.mongo import Collection, Mongo
from cvf_app.errors import Conflict

GIVEN = os.environ.get("CV3_TEST_MONGODB")


class Noted:
    """An announcer that notes what it hears."""

    def __init__(self):
        self.heard = []
        self.asked = []

    def heeds(self, change):
        return any(field != "private" for fields in change.values() for field in fields)

    def inserted(self, ids):
        self.heard.append(("insert", *ids))

    def updated(self, ids):
        self.heard.append(("update", *ids))

    async def leaving(self, ids):
        self.asked.append(tuple(ids))

        def gone(went):
            self.heard.append(("delete", *went))

        return gone


@pytest.fixture
def noted():
    return Noted()


@pytest.fixture
def told(mongo: Mongo, noted: Noted) -> Collection:
    mongo.announce(lambda name: noted if name == "told" else None)
    return mongo.collection("told")


class TestAnnouncing:
    async def test_what_took_effect_is_announced(self, told, noted):
        await told.insert({"_id": "1", "v": 1})
        await told.insert_many([{"_id": "2", "v": 1}, {"_id": "3", "v": 2}])
        await told.update_one({"_id": "1", "v": 1}, {"$set": {"v": 2}})
        await told.replace({"_id": "2"}, {"_id": "2", "v": 3})
        await told.update_many({"_id": {"$in": ["1", "3"]}}, {"$inc": {"v": 1}})
        await told.delete_one({"_id": "1"})
        await told.delete_many({"_id": {"$in": ["2", "nobody"]}})
        assert noted.heard == [
            ("insert", "1"),
            ("insert", "2", "3"),
            ("update", "1"),
            ("update", "2"),
            ("update", "1", "3"),
            ("delete", "1"),
            ("delete", "2"),
        ]

    async def test_upserts_are_inserts_the_first_time(self, told, noted):
        for value in (1, 2):
            await told.replace({"_id": "1"}, {"_id": "1", "v": value}, upsert=True)
            await told.update_one({"_id": "2"}, {"$set": {"v": value}}, upsert=True)
        assert noted.heard == [("insert", "1"), ("insert", "2"), ("update", "1"), ("update", "2")]

    async def test_what_had_no_effect_is_not_announced(self, told, noted):
        await told.insert({"_id": "1", "v": 1})
        noted.heard.clear()
        with pytest.raises(Conflict):
            await told.insert({"_id": "1"})
        assert await told.update_one({"_id": "1"}, {"$set": {"v": 1}}) == 0
        assert await told.update_one({"_id": "1", "v": 9}, {"$set": {"v": 2}}) == 0
        assert await told.update_one({"_id": "1"}, {"$set": {"private": 1}}) == 1
        assert await told.update_one({"_id": "1", "v": 9}, {"$set": {"v": 2}}, hides=True) == 0
        assert not await told.replace({"_id": "2"}, {"_id": "2"})
        assert await told.update_many({"_id": {"$in": ["2"]}}, {"$set": {"v": 5}}) == 0
        assert await told.delete_one({"_id": "2"}) == 0
        assert await told.delete_many({"_id": {"$in": ["2"]}}) == 0
        assert noted.heard == []

    async def test_what_is_hidden_is_announced_as_gone(self, told, noted):
        await told.insert_many([{"_id": "1"}, {"_id": "2"}])
        await told.update_one({"_id": "1"}, {"$set": {"deleted": True}}, hides=True)
        await told.replace({"_id": "2"}, {"_id": "2", "deleted": True}, hides=True)
        await told.replace({"_id": "3"}, {"_id": "3"}, upsert=True, hides=True)
        assert noted.heard == [("insert", "1", "2"), ("delete", "1"), ("delete", "2")]
        assert noted.asked == [("1",), ("2",), ("3",)]

    async def test_a_filter_without_an_id_is_refused_unless_it_is_looked_up(self, told, noted):
        await told.insert_many([{"_id": str(n), "v": n % 2} for n in range(6)])
        for write in (
            told.update_one({"v": 1}, {"$set": {"v": 2}}),
            told.update_many({"v": 1}, {"$set": {"v": 2}}),
            told.replace({"v": 1}, {"_id": "1"}),
            told.delete_one({"v": 1}),
            told.delete_many({}),
            told.delete_many({"_id": {"$gt": "3"}}),
        ):
            with pytest.raises(TypeError):
                await write
        assert await told.count({}) == 6
        noted.heard.clear()
        assert await told.update_many({"v": 1}, {"$set": {"w": 2}}, look_up=True) == 3
        assert await told.delete_many({"v": 0}, look_up=True) == 3
        assert [(kind, *sorted(ids)) for kind, *ids in noted.heard] == [
            ("update", "1", "3", "5"),
            ("delete", "0", "2", "4"),
        ]
        assert await told.distinct("_id", {}) == ["1", "3", "5"]

    @pytest.mark.usefixtures("told")
    async def test_a_silent_collection_takes_any_filter(self, mongo, noted):
        silent = mongo.collection("silent")
        await silent.insert_many([{"_id": str(n), "v": 1} for n in range(3)])
        assert await silent.update_many({"v": 1}, {"$set": {"v": 2}}) == 3
        assert await silent.delete_many({"v": 2}) == 3
        assert noted.heard == []
        assert mongo.opened == {"told", "silent"}
