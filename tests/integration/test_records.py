"""Groups and record queries on a real database; the sources are real and still empty."""

import asyncio
from dataclasses import replace

import pytest

from cvf_app.backends.mongo import Mongo
from cvf_app.backends.stream import Stream
from cvf_app.errors import Invalid, NotFound
from cvf_app.groups.model import Depth, NewDiscoveryGroup
from cvf_app.groups.service import Groups
from cvf_app.groups.store import GroupStore
from cvf_app.ids import new_id
from cvf_app.networks.service import Networks
from cvf_app.networks.store import NetworkStore
from cvf_app.principal import Principal, Role
from cvf_app.records.model import Done, QueryStatus
from cvf_app.records.service import Records
from cvf_app.records.signals import Signals
from cvf_app.records.spelling import read_query
from cvf_app.records.store import RecordStore
from cvf_app.sources.model import InternalSource
from cvf_app.sources.service import Sources
from cvf_app.sources.store import SourceStore
from tests.support import services

OWNER = Principal(user_id="ann", username="ann", role=Role.USER)
STRANGER = Principal(user_id="bob", username="bob", role=Role.USER)
QUESTION = read_query(b'{"hpo": [{"terms": ["HP:0001250"]}]}')


class House:
    """The services of one instance on a database of its own, as assembly makes them."""

    def __init__(self, mongo, redis_url):
        self.mongo = mongo
        self._redis_url = redis_url
        self.lines = []
        self.networks = Networks(NetworkStore(mongo))
        self.source_store = SourceStore(mongo)
        self.group_store = GroupStore(mongo)
        self.groups = Groups(self.group_store, self.networks, self._users, self.source_store.known)
        self.store = RecordStore(mongo)

    async def open(self):
        for store in (self.source_store, self.group_store, self.store):
            await store.prepare()
        network = (await self.networks.own()).network_id
        # Files and jobs are for taking data in; a query reaches neither.
        self.sources = Sources(self.source_store, None, None, self.groups, network)
        for name in ("seen", "hidden"):
            await self.source_store.insert(
                InternalSource(source_id=name, source_name=name, display_name=name, online=True)
            )
        for name, depth in (("seen", Depth.LIST), ("hidden", Depth.NO_ACCESS)):
            await self.groups.create(
                NewDiscoveryGroup(
                    group_name=name,
                    discovery_policy=depth,
                    assigned_users=("ann",),
                    assigned_sources=(name,),
                )
            )

    def records(self, **options):
        reach = (self.sources, self.groups, self.networks, self.signals())
        return Records(self.store, *reach, **options)

    def signals(self):
        self.lines.append(Stream.open(self._redis_url, f"questions:{id(self)}"))
        return Signals(self.lines[-1])

    async def close(self):
        for line in self.lines:
            await line.close()
        await self.mongo.drop()
        self.mongo.close()

    async def _users(self, ids):
        return frozenset(ids) & {"ann", "bob"}


@pytest.fixture(scope="module")
def database():
    try:
        with services.mongodb() as uri:
            yield uri
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def house(database, redis_url):
    made = House(Mongo.open(database, f"records{new_id()[:8]}", 8), redis_url)
    await made.open()
    yield made
    await made.close()


async def answered(records, asker=OWNER, question=QUESTION):
    working = asyncio.ensure_future(records.work())
    query_id = await records.submit(asker, question)
    item = await records.wait(asker, query_id, 10)
    working.cancel()
    return query_id, item


class TestRecords:
    async def test_only_sources_above_no_access_answer(self, house):
        _, item = await answered(house.records())
        assert item.status is QueryStatus.COMPLETE
        assert [each.source_id for each in item.responses[0].message_data] == ["seen"]
        answer = item.responses[0].message_data[0]
        assert (answer.exist, answer.record_count) == (False, 0)
        assert answer.result_details.subjects == ()

    async def test_a_hidden_and_an_unknown_source_id_answer_alike(self, house):
        for name in (b"hidden", b"nosuch"):
            question = read_query(b'{"sources": {"sources": ["%s"]}}' % name)
            _, item = await answered(house.records(), question=question)
            assert item.status is QueryStatus.COMPLETE
            assert item.responses[0].message_data == ()

    async def test_anothers_query_is_not_found(self, house):
        records = house.records()
        query_id, _ = await answered(records)
        for ask in (records.get, records.answer):
            with pytest.raises(NotFound):
                await ask(STRANGER, query_id)
        assert await records.history(STRANGER, 10, 0) == ()
        assert len(await records.history(OWNER, 10, 0)) == 1

    async def test_a_query_of_a_process_that_died_is_taken_up_by_another(self, house):
        dead = house.records()  # its work loop never runs: it claims and dies
        query_id = await dead.submit(OWNER, QUESTION)
        kept = await house.store.list_lapsed(2**40, 10)
        assert [each.query_id for each in kept] == [query_id]
        assert await house.store.claim(query_id, "x", 2**40, 1.0)
        other = house.records()
        working = asyncio.ensure_future(other.work())
        await other.recover()
        item = await other.wait(OWNER, query_id, 10)
        working.cancel()
        assert item.status is QueryStatus.COMPLETE

    async def test_a_query_asked_here_and_answered_there_needs_no_timer(self, house):
        there = house.records()
        asking = house.records(answers_here=False)
        heard = asyncio.Queue()
        loops = [there.work(), there.listen(), asking.listen()]
        loops.append(house.signals().listen(lambda word, query: heard.put((word, query))))
        running = [asyncio.ensure_future(each) for each in loops]
        # A listener hears what comes after its first look at the line.
        await asyncio.sleep(0.2)
        query_id = await asking.submit(OWNER, QUESTION)
        item = await asking.wait(OWNER, query_id, 10)
        words = [await asyncio.wait_for(heard.get(), 10) for _ in range(3)]
        for each in running:
            each.cancel()
        assert words == [(word, query_id) for word in ("asked", "answered", "ended")]
        assert item.status is QueryStatus.COMPLETE

    async def test_events_can_be_resumed(self, house):
        records = house.records()
        query_id, _ = await answered(records)
        events = [each async for each in records.events(OWNER, query_id, 0)]
        assert [each.number for each in events[:-1]] == [1]
        assert events[-1] == Done(query_id=query_id, status=QueryStatus.COMPLETE)
        assert [each async for each in records.events(OWNER, query_id, 1)] == events[-1:]

    async def test_range_and_a_strange_network_are_refused(self, house):
        records = house.records()
        with pytest.raises(Invalid) as refused:
            await records.submit(OWNER, read_query(b'{"advanced": {"granularity": "range"}}'))
        assert refused.value.path == "$.advanced.granularity"
        with pytest.raises(NotFound):
            await records.submit(OWNER, QUESTION, "elsewhere")

    async def test_answers_are_numbered_without_gaps_and_stand(self, house):
        _, item = await answered(house.records())
        answer = item.responses[0].message_data[0]
        query_id = new_id()
        assert await house.store.add_answer(query_id, answer, 1) == 2
        assert await house.store.add_answer(query_id, answer, 2) == 2
        (kept,) = await house.store.list_answers(query_id)
        assert replace(kept) == kept
        assert kept.answer == answer


class TestGroups:
    async def test_a_change_is_merged_and_ids_cannot_change(self, house):
        group = (await house.groups.list_groups())[0]
        changed = await house.groups.update(group.group_id, {"assignedUsers": []})
        assert changed.assigned_users == ()
        assert changed.group_name == group.group_name
        assert await house.groups.get(group.group_id) == changed
        for name in ("groupId", "networkId"):
            with pytest.raises(Invalid) as refused:
                await house.groups.update(group.group_id, {name: "other"})
            assert refused.value.path == f"$.{name}"

    async def test_unknown_ids_are_refused_with_their_path(self, house):
        new = NewDiscoveryGroup(
            group_name="x", discovery_policy=Depth.LIST, assigned_users=("ann", "eve")
        )
        with pytest.raises(Invalid) as refused:
            await house.groups.create(new)
        assert refused.value.path == "$.assignedUsers[1]"

    async def test_a_deleted_source_is_forgotten(self, house):
        await house.groups.forget_source("seen")
        network = (await house.networks.own()).network_id
        assert await house.groups.depth_of("ann", network) == {}
