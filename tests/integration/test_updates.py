"""Live updates on a whole real node: who is told what, and how streams begin and end."""

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import msgspec
import pytest

from cvf_app.assembly import Parts, open_backends
from cvf_app.groups.model import DiscoveryGroup
from cvf_app.interfaces import COLLECTIONS
from cvf_app.jobs.model import JobDocument, JobState, StatusEntry
from cvf_app.jobs.store import JobStore
from cvf_app.pipelines.model import FilePipeline
from cvf_app.principal import Role
from cvf_app.records.model import RecordDataQuery
from cvf_app.sources.model import DataFile, InternalSource
from cvf_app.updates.model import Update
from cvf_app.users.model import User
from cvf_app.users.store import UserStore
from tests.support import nodes
from tests.support.elsewhere import elsewhere
from tests.support.listening import of_thing, socket, sse

EVERY_WAY = [sse, socket]
PACKETS = b'[{"id": "one", "subject": {"id": "one"}}]'
DETAILS = {"sourceType": "internal"}
PIPELINE = {
    "pipelineType": "filePipeline",
    "pipelineName": "reading",
    "subjectIdLocation": "attributeInFile",
    "attribute": "id",
}


@pytest.fixture(scope="module")
async def node(tmp_path_factory, mongo_url, redis_url):
    async with nodes.node(tmp_path_factory.mktemp("updates"), mongo_url, redis_url) as made:
        await made.person("manager", "dataAdmin")
        await made.person("server", "serverAdmin")
        for name in ("ann", "bob", "stranger"):
            await made.person(name)
        yield made


async def change_user(node, name, **fields):
    async with elsewhere(node) as (mongo, _, _):
        store = UserStore(mongo.collection("users"))
        kept = await store.find(node.people[name])
        assert await store.replace_attempt(msgspec.structs.replace(kept, **fields), kept.attempt)


async def rename(node, source, text):
    change = DETAILS | {"displayName": text}
    assert (await node.call("PATCH", f"/sources/{source}", json=change)).status == 200


def told_last(text):
    """Return a condition: somewhere in what was heard stands this text."""
    return lambda ear: any(text in json.dumps(said) for said in ear.heard)


class TestTheTable:
    async def test_every_collection_that_is_opened_stands_in_it(self, node):
        async with open_backends(node.config) as backends:
            Parts.build(node.config, backends, answers_here=True)
            opened = backends.mongo.opened | backends.heavy.opened
        # The migrations open theirs when the app starts.
        assert opened | {"schema", "schema_aside"} == set(COLLECTIONS)

    async def test_every_collection_is_told_or_silent_for_a_reason(self, node):
        source = await node.source("walked")
        await node.ingest(source, await node.upload(source, "one.json", PACKETS))
        await node.ask({})
        async with elsewhere(node) as (mongo, _, _):
            there = await mongo._database.list_collection_names()  # noqa: SLF001 - no store lists them
        assert {name for name in there if not name.startswith("system.")} <= set(COLLECTIONS)
        assert len(there) > 8
        assert all(len(getattr(kind, "reason", "told")) > 3 for kind in COLLECTIONS.values())

    async def test_no_data_travels_through_redis(self, node):
        async with sse(node, "admin") as ear:
            source = await node.source("Qzsecretname")
            await rename(node, source, "Qzsecretname")
            file = await node.upload(source, "Qzsecretname.json", PACKETS)
            await node.ingest(source, file)
            await ear.until(of_thing(file, "insert"))
            await ear.until(told_last("Qzsecretname"))
        async with elsewhere(node) as (_, _, stream):
            bodies = b"".join(body for _, body in await stream.newest(1000))
        assert source.encode() in bodies
        assert b"Qzsecretname" not in bodies

    async def test_bookkeeping_alone_is_not_told(self, node):
        async with sse(node, "admin", "?interface=jobs") as ear:
            async with elsewhere(node) as (mongo, _, _):
                store = JobStore(mongo.collection("jobs"))
                job = waiting_job("nobody")
                await store.add(job, key=None, once=None, at=time.time() + 3600)
                lease = {"$set": {"leaseUntil": 5.0, "lease": "x"}}
                await mongo.collection("jobs").update_one({"_id": job.job_id}, lease)
            source = await node.source("bookkeeping")
            await node.ingest(source, await node.upload(source, "one.json", PACKETS))
            await ear.until(told_last('"complete"'))
        mine = [said for said in ear.heard if said["data"]["jobId"] == job.job_id]
        assert [said["operation"] for said in mine] == ["insert"]


def waiting_job(user_id):
    return JobDocument(
        job_id=str(uuid4()),
        task="a kind that no worker has",
        args={},
        user_id=user_id,
        size="small",
        proc=1,
        mem=64,
        state=JobState.WAITING,
        progress=0.0,
        attempts=0,
        created_at=1,
        status=(StatusEntry(state=JobState.WAITING, stage="waiting", progress=0, timestamp=1),),
    )


class TestWhatIsTold:
    @pytest.mark.parametrize("way", EVERY_WAY)
    async def test_each_message_is_what_get_answers(self, node, way):
        name = f"told{way.__name__}"
        async with way(node, "admin") as ear:
            source = await node.source(name)
            file = await node.upload(source, "one.json", PACKETS)
            job = await node.ingest(source, file)
            group = await node.group("count", [node.people["ann"]], [source], name)
            person = await node.person(f"{name}person")
            made = await node.call("POST", "/pipelines/", json=PIPELINE)
            assert made.status == 200, made.body
            pipeline = made.json["pipelineId"]
            asked = await node.call("POST", "/record/", json={}, headers={"Prefer": "wait=30"})
            query = asked.json["query"]["messageAttributes"]["messageId"]
            await ear.until(told_last('"complete"'))
            cases = (
                ("sources", source, f"/sources/{source}", InternalSource, "sourceId"),
                ("jobs", job["jobId"], f"/jobs/{job['jobId']}", JobDocument, "jobId"),
                ("groups", group, f"/groups/{group}", DiscoveryGroup, "groupId"),
                ("users", person, f"/users/{person}", User, "userId"),
                ("pipelines", pipeline, f"/pipelines/{pipeline}", FilePipeline, "pipelineId"),
                ("records", query, f"/record/{query}", RecordDataQuery, "messageAttributes"),
            )
            for interface, thing, path, kind, key in cases:

                def last(ear, interface=interface, thing=thing, key=key):
                    of = [said["data"] for said in ear.heard if said["interface"] == interface]
                    mine = [each for each in of if thing in json.dumps(each.get(key))]
                    return mine[-1] if mine else None

                shown = (await node.call("GET", path)).json
                await ear.until(lambda ear, last=last, shown=shown: last(ear) == shown)
                msgspec.convert(last(ear), kind)
            listed = (await node.call("GET", f"/sources/{source}/datafiles")).json
            # Whether it is processed is told with its source.
            files = [
                data | {"isProcessed": True}
                for _, operation, data in ear.of("datafiles")
                if operation != "delete" and data["dataFileId"] == file
            ]
            assert files[-1] == listed[0]
            msgspec.convert(files[-1], DataFile)
            for said in ear.heard:
                msgspec.convert(said, Update)
            inserts = {said["interface"] for said in ear.heard if said["operation"] == "insert"}
            assert inserts == {
                "sources", "datafiles", "jobs", "groups", "users", "pipelines", "records"
            }  # fmt: skip
            for path in (f"/datafiles/{file}", f"/groups/{group}", f"/pipelines/{pipeline}"):
                assert (await node.call("DELETE", path)).status == 200
            for thing in (file, group, pipeline):
                await ear.until(of_thing(thing, "insert", "delete"))

    async def test_a_job_is_told_to_its_end_and_not_twenty_times_a_second(self, node):
        async with (
            sse(node, "admin", "?interface=jobs") as ear,
            elsewhere(node) as (mongo, outbox, _),
        ):
            draining = asyncio.create_task(outbox.drain())
            store = JobStore(mongo.collection("jobs"))
            job = waiting_job("nobody")
            began = time.monotonic()
            await store.add(job, key=None, once=None, at=time.time() + 3600)
            for step in range(100):
                await store._jobs.update_one(  # noqa: SLF001 - a bare write
                    {"_id": job.job_id}, {"$set": {"progress": step / 100}}
                )
                await asyncio.sleep(0.01)
            await ear.until(told_last('"progress": 0.99'))
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
        heard = [said for said in ear.heard if said["data"]["jobId"] == job.job_id]
        # The first at once, then two a second.
        assert 2 <= len(heard) <= 3 + 2 * (time.monotonic() - began)
        assert [said["operation"] for said in heard] == ["insert"] + ["update"] * (len(heard) - 1)

    async def test_a_filter_narrows(self, node):
        async with sse(node, "admin", "?interface=jobs,groups&interface=users") as ear:
            source = await node.source("narrowed")
            await node.group("count", [], [source], "narrowed")
            await ear.until(told_last("narrowed"))
        # Jobs of upkeep come when they come; the source that was made is not told.
        assert (
            {"groups"} <= {said["interface"] for said in ear.heard} <= {"jobs", "groups", "users"}
        )

    @pytest.mark.parametrize("name", ["subject_batches", "Jobs", "jobs,secrets", "%00"])
    async def test_an_unknown_interface_is_refused(self, node, name):
        answer = await node.call("GET", f"/updates?interface={name}")
        assert answer.status == 400
        assert answer.json["path"] == "$.interface"


class TestWhoIsTold:
    @pytest.mark.parametrize("way", EVERY_WAY)
    async def test_two_users_of_two_groups_are_told_only_of_theirs(self, node, way):
        name = way.__name__
        sources = [await node.source(f"{name}{number}") for number in range(3)]
        (mine, theirs, hidden) = sources
        await node.group("count", [node.people["ann"]], [mine], f"{name}ann")
        await node.group("boolean", [node.people["bob"]], [theirs], f"{name}bob")
        await node.group("noAccess", [node.people["ann"], node.people["bob"]], [hidden], name)
        listeners = ("ann", "bob", "stranger", "manager", "server")
        async with listening(node, way, *listeners) as ears:
            for source in sources:
                await rename(node, source, f"{name} shown")
            file = await node.upload(hidden, "one.json", PACKETS)
            job = await node.ingest(hidden, file)
            await node.ingest(mine, await node.upload(mine, "one.json", PACKETS))
            await ears["manager"].until(told_last('"recordCount": 1'))
            shown = (await node.call("GET", f"/sources/{mine}", "ann")).json
            assert shown["recordIndex"]["recordCount"] == 1
            await ears["ann"].until(lambda ear: bool(ear.heard) and ear.heard[-1]["data"] == shown)
            await ears["bob"].until(of_thing(theirs, "update"))
            for source in sources:
                assert (await node.call("DELETE", f"/sources/{source}")).status == 200
            for source in sources:
                await ears["manager"].until(of_thing(source, "update", "delete"))
            await ears["ann"].until(of_thing(mine, "update", "delete"))
            await ears["bob"].until(of_thing(theirs, "update", "delete"))
            # What everybody is told after all that: nothing is on its way any more.
            for who in listeners:
                await change_user(node, who, budget=50 + len(name))
                await ears[who].until(of_thing(node.people[who], "update"))
        known = {who: json.dumps(ear.heard) for who, ear in ears.items()}
        assert [source in known["ann"] for source in sources] == [True, False, False]
        assert [source in known["bob"] for source in sources] == [False, True, False]
        assert all(source not in known["stranger"] + known["server"] for source in sources)
        assert all(source in known["manager"] for source in sources)
        for who in ("ann", "bob", "stranger", "server"):
            assert job["jobId"] not in known[who]
            assert file not in known[who]
        assert "recordCount" not in known["bob"]
        assert "mappings" not in known["ann"]
        assert {said["interface"] for said in ears["server"].heard} == {"users"}
        assert {said["interface"] for said in ears["stranger"].heard} == {"users"}

    async def test_a_job_is_told_to_its_owner_and_to_those_who_see_all(self, node):
        async with listening(node, sse, "ann", "bob", "manager", "server") as ears:
            async with elsewhere(node) as (mongo, _, _):
                store = JobStore(mongo.collection("jobs"))
                job = waiting_job(node.people["ann"])
                await store.add(job, key=None, once=None, at=time.time() + 3600)
            answer = await node.call("PUT", f"/jobs/{job.job_id}/cancel", "ann")
            assert answer.status == 200
            for who in ("ann", "manager"):
                await ears[who].until(told_last('"cancelled"'))
            for who in ("bob", "server"):
                await change_user(node, who, budget=61)
                await ears[who].until(of_thing(node.people[who], "update"))
        assert all(job.job_id not in json.dumps(ears[who].heard) for who in ("bob", "server"))
        assert answer.json == ears["ann"].of("jobs")[-1][2]

    async def test_a_query_is_told_to_who_asks_alone(self, node):
        async with listening(node, sse, "ann", "manager", "admin") as ears:
            await node.ask({}, "ann")
            await ears["ann"].until(told_last('"complete"'))
            for who in ("manager", "admin"):
                await change_user(node, who if who != "admin" else "manager", budget=62)
                await ears[who].until(of_thing(node.people["manager"], "update"))
        assert not ears["manager"].of("records")
        assert not ears["admin"].of("records")

    async def test_a_change_of_groups_is_felt_by_open_streams(self, node):
        source = await node.source("regrouped")
        async with listening(node, sse, "ann", "bob") as ears:
            group = await node.group("count", [node.people["ann"]], [source], "regrouped")
            await ears["ann"].until(lambda ear: "reset" in ear.events())
            await rename(node, source, "before")
            await ears["ann"].until(told_last("before"))
            left = {"assignedUsers": [node.people["bob"]]}
            assert (await node.call("PATCH", f"/groups/{group}", json=left)).status == 200
            await ears["bob"].until(lambda ear: "reset" in ear.events())
            await ears["ann"].until(lambda ear: ear.events().count("reset") == 2)
            await rename(node, source, "after")
            await ears["bob"].until(told_last("after"))
            await change_user(node, "ann", budget=63)
            await ears["ann"].until(of_thing(node.people["ann"], "update"))
        assert "after" not in json.dumps(ears["ann"].heard)
        assert "before" not in json.dumps(ears["bob"].heard)

    @pytest.mark.parametrize("way", EVERY_WAY)
    async def test_who_is_given_another_role_or_none_is_closed(self, node, way):
        who = f"climber{way.__name__}"
        await node.person(who, "dataAdmin")
        source = await node.source(who)
        async with way(node, who) as ear:
            await rename(node, source, "seen")
            await ear.until(told_last("seen"))
            await change_user(node, who, role=Role.USER)
            await ear.until(lambda each: each.over)
            await rename(node, source, "unseen")
        assert "role" in ear.notices[-1]["reason"]
        assert ear.code in {None, 1008}
        async with way(node, who) as ear:
            await change_user(node, who, active=False)
            await ear.until(lambda each: each.over)
        assert "log in" in ear.notices[-1]["reason"]
        assert "unseen" not in json.dumps(ear.heard)

    @pytest.mark.parametrize("way", EVERY_WAY)
    async def test_a_stream_ends_with_its_token(self, node, way):
        token = node.issuer.token("ann", exp=int(time.time()) + 3)
        async with way(node, "ann", token=token) as ear:
            await ear.until(lambda each: each.over, 60)
        assert "expired" in ear.notices[-1]["reason"]


@asynccontextmanager
async def listening(node, way, *people, query=""):
    """Let several people listen at once."""

    async with AsyncExitStack() as stack:
        yield {who: await stack.enter_async_context(way(node, who, query)) for who in people}


class TestResume:
    @pytest.mark.parametrize("way", EVERY_WAY)
    async def test_who_comes_back_is_told_what_they_missed(self, node, way):
        source = await node.source(f"resumed{way.__name__}")
        gone = await node.source(f"gone{way.__name__}")
        async with way(node, "admin", "?interface=sources") as ear:
            await rename(node, source, "heard")
            await ear.until(told_last("heard"))
        await rename(node, source, "missed")
        new = await node.source(f"new{way.__name__}")
        await node.call("DELETE", f"/sources/{gone}")
        async with way(node, "admin", "?interface=sources") as other:
            # By now all of it has passed through the stream.
            await rename(node, new, "renamed")
            await other.until(told_last("renamed"))
        more = {"last_id": ear.last_id} if way is sse else {"hello": {"lastEventId": ear.last_id}}
        async with way(node, "admin", "?interface=sources", **more) as back:
            await back.until(lambda each: each.events() == ["ready"])
            assert of_thing(source, "update")(back)
            assert of_thing(new, "insert", "update")(back)
            assert of_thing(gone, "delete")(back)
            assert told_last("missed")(back)
            await rename(node, source, "again")
            await back.until(told_last("again"))
        ids = [said["id"] for said in back.heard]
        assert len(ids) == len(set(ids))

    async def test_nothing_is_missed_over_many_interruptions(self, node):
        sources = [await node.source(f"chain{number}") for number in range(40)]
        heard, rounds = [], 0
        # What was written before they were told to begin they would load, and not hear of.
        async with sse(node, "admin", "?interface=sources") as ear:
            first = last_id = ear.last_id

        async def write():
            for number, source in enumerate(sources):
                await rename(node, source, f"chain step {number}")
                await asyncio.sleep(0.03)

        writing = asyncio.create_task(write())
        while not writing.done() or not told_of(heard, 39):
            async with sse(node, "admin", "?interface=sources", last_id=last_id) as ear:
                await asyncio.sleep(0.1)
            heard += ear.heard
            last_id = ear.last_id or first
            rounds += 1
            assert "reset" not in ear.events()
            assert rounds < 200
        assert all(told_of(heard, number) for number in range(40))
        assert rounds > 3

    @pytest.mark.parametrize("way", EVERY_WAY)
    @pytest.mark.parametrize("last_id", ["1-0", "nonsense", "99999999999999-0", "0-1"])
    async def test_an_id_that_is_not_known_means_reset(self, node, way, last_id):
        async with (
            way(node, "admin", headers={"Last-Event-ID": last_id})
            if way is socket
            else sse(node, "admin", last_id=last_id) as ear
        ):
            assert ear.events() == ["reset"]
            source = await node.source(f"x{uuid4().hex}")
            await ear.until(of_thing(source, "insert"))

    async def test_who_was_away_while_groups_changed_reloads(self, node):
        async with sse(node, "ann") as ear:
            last_id = ear.last_id
        await node.group("count", [node.people["ann"]], [], "away")
        async with sse(node, "admin") as other:
            await node.source("afteraway")
            await other.until(told_last("afteraway"))
        async with sse(node, "ann", last_id=last_id) as ear:
            assert ear.events() == ["reset"]


def told_of(heard, number):
    return any(said["data"]["displayName"] == f"chain step {number}" for said in heard)


class TestTwoProcesses:
    async def test_what_one_writes_is_told_by_the_other(self, node):
        async with nodes.beside(node) as second:
            async with (
                listening(node, sse, "ann", "admin") as here,
                listening(second, socket, "ann", "admin") as there,
            ):
                source = await second.source("shared")
                group = await node.group("count", [node.people["ann"]], [source], "shared")
                for ears in (here, there):
                    await ears["admin"].until(of_thing(source, "insert"))
                    await ears["ann"].until(lambda ear: "reset" in ear.events())
                for who, text in ((node, "by the first"), (second, "by the second")):
                    await rename(who, source, text)
                    for ears in (here, there):
                        for ear in ears.values():
                            await ear.until(told_last(text))
                assert (await node.call("DELETE", f"/sources/{source}")).status == 200
                for ears in (here, there):
                    for ear in ears.values():
                        await ear.until(of_thing(source, "update", "delete"))
                # It lost the source; who comes back after that needs nothing of it.
                await here["admin"].until(of_thing(group, "update"))
                last_id = here["admin"].last_id
            await node.source("between")
            async with socket(second, "admin", hello={"lastEventId": last_id}) as back:
                await back.until(told_last("between"))
                assert back.events() == ["ready"]
