"""Every operation and operator that our stores use of MongoDB, each as a case against one server.

A case gets a `Mongo` and an empty `Collection` of its own. It states documented MongoDB behaviour,
so a real server and every stand-in must pass all of them; an operator that is not here is not used.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from cvf_app.backends.mongo import Collection, Index, Mongo
from cvf_app.errors import Conflict, TooLarge

Case = Callable[[Mongo, Collection], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


@case
async def values_come_back_as_they_went_in(_: Mongo, c: Collection) -> None:
    document = {
        "_id": "a/1",
        "text": "ü·'\"$.",
        "whole": 2**53,
        "part": 0.1,
        "yes": True,
        "nothing": None,
        "bytes": b"\x00\xff",
        "list": [{"a": [1, 2]}, []],
        "moment": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "empty": {},
    }
    await c.insert(document)
    assert await c.find_one({"_id": "a/1"}) == document


@case
async def an_id_is_given_once(_: Mongo, c: Collection) -> None:
    await c.insert({"_id": "1", "v": 1})
    with pytest.raises(Conflict):
        await c.insert({"_id": "1", "v": 2})
    with pytest.raises(Conflict):
        await c.insert_many([{"_id": "2"}, {"_id": "1"}, {"_id": "3"}])
    assert await c.distinct("_id", {}) == ["1", "2"]


@case
async def unique_indices_hold_for_insert_update_and_upsert(_: Mongo, c: Collection) -> None:
    await c.create_indices([Index((("k", 1),), unique=True), Index((("a", 1), ("b", -1)))])
    await c.create_indices([Index((("k", 1),), unique=True), Index((("a", 1), ("b", -1)))])
    await c.insert({"_id": "1", "k": "x"})
    await c.insert({"_id": "2", "k": "y"})
    for attempt in (
        c.insert({"_id": "3", "k": "x"}),
        c.update_one({"_id": "2"}, {"$set": {"k": "x"}}),
        c.update_one({"_id": "4"}, {"$set": {"k": "x"}}, upsert=True),
        c.replace({"_id": "2"}, {"_id": "2", "k": "x"}),
    ):
        with pytest.raises(Conflict):
            await attempt
    assert await c.count({}) == 2


@case
async def a_compound_unique_index_is_about_both_fields(_: Mongo, c: Collection) -> None:
    await c.create_indices([Index((("a", 1), ("b", 1)), unique=True)])
    await c.insert({"_id": "1", "a": 1, "b": 1})
    await c.insert({"_id": "2", "a": 1, "b": 2})
    with pytest.raises(Conflict):
        await c.insert({"_id": "3", "a": 1, "b": 2})


@case
async def replace_says_whether_one_was_there(_: Mongo, c: Collection) -> None:
    assert not await c.replace({"_id": "1"}, {"_id": "1", "v": 1})
    assert await c.count({}) == 0
    assert not await c.replace({"_id": "1"}, {"_id": "1", "v": 1}, upsert=True)
    assert await c.replace({"_id": "1", "v": 1}, {"_id": "1", "w": 2}, upsert=True)
    assert await c.find_one({}) == {"_id": "1", "w": 2}


@case
async def update_says_whether_it_changed(_: Mongo, c: Collection) -> None:
    assert await c.update_one({"_id": "1"}, {"$set": {"v": 1}}) == 0
    assert await c.update_one({"_id": "1"}, {"$set": {"v": 1}}, upsert=True) == 1
    assert await c.update_one({"_id": "1"}, {"$set": {"v": 1}}) == 0
    assert await c.update_one({"_id": "1", "v": 1}, {"$set": {"v": 2, "n.m": True}}) == 1
    assert await c.find_one({}) == {"_id": "1", "v": 2, "n": {"m": True}}


@case
async def only_one_of_many_wins_a_compare_and_set(_: Mongo, c: Collection) -> None:
    await c.insert({"_id": "1", "version": 0})
    for version in range(5):
        where = {"_id": "1", "version": version}
        tries = (
            c.update_one(where, {"$set": {"version": version + 1, "who": n}}) for n in range(20)
        )
        assert sum(await asyncio.gather(*tries)) == 1
    assert (await c.find_one({}) or {})["version"] == 5


@case
async def counters_lose_nothing(_: Mongo, c: Collection) -> None:
    await c.insert({"_id": "1", "n": 0})
    await asyncio.gather(*(c.update_one({"_id": "1"}, {"$inc": {"n": 2}}) for _ in range(50)))
    assert await c.find_one({}) == {"_id": "1", "n": 100}


@case
async def an_empty_list_is_found_and_told_from_others(_: Mongo, c: Collection) -> None:
    await c.insert_many([{"_id": "1", "list": []}, {"_id": "2", "list": ["a"]}])
    assert [found["_id"] for found in await c.find({"list": []})] == ["1"]
    assert [found["_id"] for found in await c.find({"list": {"$ne": []}})] == ["2"]
    assert await c.delete_one({"_id": "2", "list": []}) == 0
    assert await c.delete_one({"_id": "1", "list": []}) == 1


@case
async def numbers_are_compared_with_numbers_alone(_: Mongo, c: Collection) -> None:
    await c.insert_many([{"_id": "1", "at": None}, {"_id": "2", "at": 5}, {"_id": "3", "at": 9}])
    assert [found["_id"] for found in await c.find({"at": {"$lte": 5, "$gt": 0}})] == ["2"]


@case
async def lists_are_pushed_cut_pulled_and_kept_as_sets(_: Mongo, c: Collection) -> None:
    await c.insert({"_id": "1", "log": [], "set": ["a"], "docs": [{"i": 1}, {"i": 2}]})
    for n in range(5):
        push = {"$push": {"log": {"$each": [{"n": n}], "$slice": -3}}}
        assert await c.update_one({"_id": "1"}, {"$set": {"last": n}, **push}) == 1
    assert await c.update_one({"_id": "1"}, {"$addToSet": {"set": "a"}}) == 0
    assert await c.update_one({"_id": "1"}, {"$addToSet": {"set": {"$each": ["a", "b"]}}}) == 1
    assert await c.update_one({"_id": "1"}, {"$pull": {"set": "a", "docs": {"i": 1}}}) == 1
    assert await c.update_one({"_id": "1"}, {"$push": {"set": "c"}}) == 1
    assert await c.update_one({"_id": "1"}, {"$pull": {"set": {"$in": ["c", "d"]}}}) == 1
    assert await c.find_one({}) == {
        "_id": "1",
        "log": [{"n": 2}, {"n": 3}, {"n": 4}],
        "set": ["b"],
        "docs": [{"i": 2}],
        "last": 4,
    }


@case
async def fields_are_unset_and_set_on_insert(_: Mongo, c: Collection) -> None:
    change = {"$set": {"a": 1}, "$setOnInsert": {"made": "once"}}
    await c.update_one({"_id": "1"}, change, upsert=True)
    await c.update_one({"_id": "1"}, {**change, "$unset": {"a": ""}, "$set": {"b": 1}}, upsert=True)
    assert await c.find_one({}) == {"_id": "1", "made": "once", "b": 1}


@case
async def update_many_and_deletions_count(_: Mongo, c: Collection) -> None:
    await c.insert_many({"_id": str(n), "even": n % 2 == 0} for n in range(10))
    assert await c.update_many({"even": True}, {"$set": {"seen": True}}) == 5
    assert await c.delete_one({"even": True}) == 1
    assert await c.delete_one({"_id": "none"}) == 0
    assert await c.delete_many({"even": False}) == 5
    assert await c.count({}) == await c.count({"seen": True}) == 4


@case
async def filters_find_what_they_say(_: Mongo, c: Collection) -> None:
    await c.insert_many(
        [
            {"_id": "1", "n": 1, "t": "a", "l": ["x", "y"], "d": {"k": "p"}, "m": [{"u": 1}]},
            {"_id": "2", "n": 2, "t": "b", "l": [], "d": {"k": "q"}, "m": [{"u": 2}, {"u": 3}]},
            {"_id": "3", "n": 3, "t": None, "l": ["y"], "m": []},
            {"_id": "share/4", "n": 4.5, "l": ["z"], "d": {"k": None}},
        ]
    )
    await c.create_indices([Index((("n", 1),)), Index((("l", 1),)), Index((("d.k", 1),))])
    expected = {
        "1": {"n": 1},
        "23": {"n": {"$gt": 1, "$lte": 3}},
        "12": {"t": {"$in": ["a", "b"]}},
        "34": {"t": None},
        "3": {"t": {"$exists": True, "$eq": None}},
        "4": {"t": {"$exists": False}},
        "234": {"t": {"$ne": "a"}},
        "134": {"n": {"$nin": [2, 99]}},
        "13": {"l": "y"},
        "24": {"l": {"$ne": "y"}},
        "134 ": {"l": {"$in": ["x", "y", "z"]}},
        "2": {"d.k": "q"},
        "2 ": {"m.u": 3},
        "1 ": {"m": {"$elemMatch": {"u": 1}}},
        "14": {"$or": [{"t": "a"}, {"n": {"$gte": 4}}]},
        "1  ": {"$and": [{"l": "x"}, {"l": "y"}]},
        "": {"n": {"$gt": 1}, "t": "a"},
        "4 ": {"_id": {"$regex": "^share/"}},
        "4  ": {"_id": {"$gte": "share/", "$lt": "share0"}},
    }
    for ids, where in expected.items():
        found = "".join(each["_id"][-1] for each in await c.find(where, sort=[("n", 1)]))
        assert found == ids.strip(), where
        assert await c.count(where) == len(found), where


@case
async def pages_are_sorted_skipped_and_cut(_: Mongo, c: Collection) -> None:
    await c.insert_many({"_id": str(n), "a": n % 3, "b": n, "big": "x"} for n in range(30))
    page = await c.find({}, sort=[("a", -1), ("b", 1)], skip=5, limit=3, fields={"b": 1, "_id": 0})
    assert page == [{"b": 17}, {"b": 20}, {"b": 23}]
    assert await c.find_one({"b": 3}, {"big": 0}) == {"_id": "3", "a": 0, "b": 3}
    assert await c.find({"b": 99}) == []
    assert sorted(await c.distinct("a", {"b": {"$lt": 2}})) == [0, 1]


@case
async def numbers_sort_as_numbers(_: Mongo, c: Collection) -> None:
    await c.insert_many({"_id": str(n), "n": n} for n in (10, 9, 100, -1, 2.5))
    assert [each["n"] for each in await c.find({}, sort=[("n", 1)])] == [-1, 2.5, 9, 10, 100]


@case
async def more_than_a_batch_streams_in_order(_: Mongo, c: Collection) -> None:
    await c.insert_many({"_id": f"{n:05}", "blob": bytes(200)} for n in range(2500))
    seen = [each["_id"] async for each in c.stream({}, sort=[("_id", 1)], batch=300)]
    assert seen == [f"{n:05}" for n in range(2500)]
    assert len(await c.find({})) == 2500


@case
async def large_documents_are_kept_and_too_large_ones_refused(_: Mongo, c: Collection) -> None:
    await c.insert({"_id": "1", "blob": bytes(12 * 2**20)})
    assert len((await c.find_one({"_id": "1"}) or {})["blob"]) == 12 * 2**20
    with pytest.raises(TooLarge):
        await c.insert({"_id": "2", "blob": bytes(17 * 2**20)})


@case
async def names_with_odd_letters_are_names(mongo: Mongo, c: Collection) -> None:
    other = mongo.collection("Odd_Order")
    await other.delete_many({})
    await other.insert({"_id": "1"})
    assert await mongo.collection("odd_order").count({}) == 0
    assert await c.count({}) == 0
    await other.delete_many({})
