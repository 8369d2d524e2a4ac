"""A worker is killed at every point of every kind of run: the old or the new answers, whole.

Each kind of run begins from the same database and folder, which are put back before every kill.
After it a reader looks; then another worker takes the job over, and in the end there is the same
as after a run without a fault, down to the last document and file.
"""

import asyncio
import contextlib
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from pymongo import MongoClient

from cvf_app.backends.mongo import Mongo
from cvf_app.engine.evaluate import evaluate
from cvf_app.ids import new_id
from cvf_app.jobs.model import JobState
from cvf_app.pipelines.attributes import AttributeSchema, StringType
from cvf_app.pipelines.model import Directive, FilePipeline, RemapPipeline
from cvf_app.records.compile import compile_query
from cvf_app.records.model import RecordQuery
from cvf_app.sources.attributes import Attributes
from cvf_app.sources.model import DeclarationsChange
from cvf_app.sources.points import Point
from cvf_app.wire import convert
from tests.support import services
from tests.support.house import ADMIN, House, documents, packed

ROOT = Path(__file__).resolve().parents[2]
QUERIES = (
    {},
    {"subject": {"gender": "female"}},
    {"hpo": [{"terms": ["HP:0001003"]}]},
    {"hpo": [{"terms": ["HP:0002000", "HP:0003000"]}]},
)
KINDS = ("ingest", "replace", "remap", "record", "reindex", "delete", "retype")
KILLED = -9
# Names of attempts and numbers of generations differ from run to run; what remains is compared.
_NAMES = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Kennel:
    """One instance, its state before every run, and the workers that die in it."""

    def __init__(self, mongo_uri, redis_url, folder):
        self.database = f"faults{new_id()[:8]}"
        self.queue = f"test-{new_id()}"
        self.mongo = Mongo.open(mongo_uri, self.database, 8)
        self.folder, self.before = folder / "data", folder / "before"
        self.addresses = mongo_uri, redis_url
        self.client = MongoClient(mongo_uri)
        self.house = House(self.mongo, redis_url, self.folder, queue=self.queue)
        self.saved = {}

    async def begin(self):
        words = (self.addresses[0], self.database, self.addresses[1], self.queue, str(self.folder))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.kennel",
            *words,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT / "src")},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await self.house.prepare()

    async def end(self):
        self.process.stdin.close()
        await self.process.wait()
        await self.house.queue.close()
        await self.mongo.drop()
        self.mongo.close()
        self.client.close()

    async def furnish(self):
        """Fill a source: packets and a remapped table in it, another file of each kind beside."""
        house = self.house
        self.source_id = await house.source()
        async with self.working():
            self.packets = await house.upload(self.source_id, "a.zip", packed(*range(700)))
            await house.complete(await house.ingest(self.source_id, self.packets))
            self.more = await house.upload(self.source_id, "b.zip", packed(*range(690, 730)))
            self.table, self.other = [
                await house.upload(self.source_id, name, self._table(first))
                for name, first in (("t.csv", 0), ("u.csv", 50))
            ]
            self.reading = await self._pipeline(
                FilePipeline(pipeline_name="f", attribute="id", internal_delimiter=",")
            )
            self.remaps = [
                await self._pipeline(
                    RemapPipeline(
                        pipeline_name=name,
                        directives=(Directive(destination="hpo", origin=name),),
                    )
                )
                for name in ("one", "two")
            ]
            job = await house.ingest(self.source_id, self.table, pipeline=self.reading)
            await house.complete(job)
            job = await house.remap(self.source_id, self.table, pipeline=self.remaps[0])
            await house.complete(job)
        database = self.client[self.database]
        self.saved = {
            name: list(database[name].find()) for name in sorted(database.list_collection_names())
        }
        shutil.copytree(self.folder, self.before)

    def put_back(self):
        """Bring back the database and the folder as they were."""
        database = self.client[self.database]
        for name in database.list_collection_names():
            database[name].delete_many({})
            if self.saved.get(name):
                database[name].insert_many(self.saved[name])
        shutil.rmtree(self.folder)
        shutil.copytree(self.before, self.folder)

    async def ask(self, kind):  # noqa: PLR0911 - one return for each kind
        """Ask for a run of this kind and return its job."""
        house = self.house
        match kind:
            case "ingest":
                return await house.ingest(self.source_id, self.more)
            case "replace":
                return await house.ingest(self.source_id, self.packets)
            case "remap":
                return await house.remap(self.source_id, self.table, pipeline=self.remaps[1])
            case "record":
                return await house.ingest(self.source_id, self.other, pipeline=self.reading)
            case "reindex":
                return await house.requests.reindex(self.source_id, ADMIN.user_id)
            case "delete":
                return await house.requests.delete_file(self.table, ADMIN.user_id)
            case "retype":
                schema = AttributeSchema(name="variantCount", value_type=StringType())
                return await Attributes(house.sources, house.requests).change(
                    self.source_id,
                    DeclarationsChange(attributes=(schema,)),
                    ADMIN.user_id,
                    check_only=False,
                )

    async def die(self, job, point, number=1):
        """Let a worker take the job and die at this point; return what it said."""
        self.process.stdin.write(json.dumps([point, number, job.job_id]).encode() + b"\n")
        said = {}
        while "status" not in said:
            said |= json.loads(await self.process.stdout.readline())
        # Its lease would keep the job for some seconds more.
        lapsed = {"$set": {"leaseUntil": 0.0}}
        await self.mongo.collection("jobs").update_one({"_id": job.job_id}, lapsed)
        return said

    @contextlib.asynccontextmanager
    async def working(self):
        """Let a worker of this process run meanwhile."""
        house = House(self.mongo, self.addresses[1], self.folder, queue=self.queue)
        working = asyncio.ensure_future(house.worker.run())
        try:
            yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await house.queue.close()

    async def ended(self, job):
        """Wait for the end of a job, looking often, and return its state."""
        for _ in range(2000):
            job = await self.house.jobs.get(job.job_id)
            if job.state.ended:
                break
            await asyncio.sleep(0.03)
        return job.state

    async def answers(self):
        """Return all that a reader can learn: documents, counts of queries, what is told."""
        generation = await self.house.sources.open_generation(self.source_id)
        source = await self.house.sources.get(self.source_id, ADMIN)
        _, contents = await self.house.store.state(self.source_id)
        counts = [
            evaluate(generation, compile_query(convert(query, RecordQuery))).count
            for query in QUERIES
        ]
        live = [share.data_file_id for share in contents.shares]
        return documents(generation), counts, source.record_index, live

    def everything(self):
        """Return every document and file there is, without what differs from run to run."""
        database = self.client[self.database]
        found = Counter()
        for name in database.list_collection_names():
            for document in database[name].find():
                found[name, _NAMES.sub("*", str(sorted(document)))] += 1
        for path in self.folder.rglob("*"):
            if path.is_file() and "segments" not in path.parts:
                found["folder", _kind_of(path.relative_to(self.folder))] += 1
        for path in self.folder.glob("segments/*/*"):
            # What was replaced is kept for those who still read it, and removed later; into how
            # many segments a generation is cut depends on the way to it.
            if not (path / "retired").exists():
                found["folder", _kind_of(path.relative_to(self.folder))] += 1
        return found

    @staticmethod
    def _table(first):
        rows = (b"p%d,HP:0002000,HP:0003000\n" % n for n in range(first, first + 60))
        return b"id,one,two\nragged,1,2,3\n" + b"".join(rows)

    async def _pipeline(self, pipeline):
        return (await self.house.pipelines.create(pipeline))[1].pipeline_id


def _kind_of(path):
    """Return a path without names of attempts, digests, and numbers of generations."""
    return re.sub(r"[0-9a-f]{64}|\d+-[0-9a-f]{8}", "#", _NAMES.sub("*", str(path)))


@pytest.fixture(scope="module")
def addresses():
    try:
        with services.mongodb() as mongo, services.redis() as redis:
            yield mongo, redis
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
async def furnished(addresses, tmp_path_factory):
    made = Kennel(*addresses, tmp_path_factory.mktemp("kennel"))
    await made.begin()
    await made.furnish()
    yield made
    await made.end()


@pytest.fixture
def kennel(furnished):
    furnished.put_back()
    return furnished


class TestFaultPoints:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_kill_at_any_point_leaves_the_old_or_the_new(self, kennel, kind):
        old = await kennel.answers()
        job = await kennel.ask(kind)
        said = await kennel.die(job, "-")
        assert said["status"] == 0
        new, clean = await kennel.answers(), kennel.everything()
        assert (old != new) == (kind in {"ingest", "remap", "delete", "retype"})
        order = list(Point)
        for point, number in said["passed"].items():
            many = point in {Point.BATCH_KEPT, Point.SHARE_REMOVED, Point.FOLDER_CLEARED}
            for nth in sorted({1, number if many else 1}):
                kennel.put_back()
                job = await kennel.ask(kind)
                assert (await kennel.die(job, point, nth))["status"] == KILLED
                seen = await kennel.answers()
                after = order.index(Point(point)) >= order.index(Point.SWITCHED)
                if point not in {Point.SHARE_REMOVED, Point.FOLDER_CLEARED, Point.FILE_REMOVED}:
                    assert seen == (new if after else old), (kind, point, nth)
                assert seen in (old, new), (kind, point, nth)
                async with kennel.working():
                    assert await kennel.ended(job) is JobState.COMPLETE
                assert await kennel.answers() == new, (kind, point, nth)
                assert kennel.everything() == clean, (kind, point, nth)

    async def test_what_is_cancelled_after_a_kill_leaves_nothing(self, kennel):
        old = await kennel.answers()
        clean = kennel.everything()
        for point in (Point.BEGUN, Point.READ, Point.BATCH_KEPT, Point.BUILT, Point.RETIRED):
            kennel.put_back()
            job = await kennel.ask("ingest")
            assert (await kennel.die(job, point))["status"] == KILLED
            await kennel.house.jobs.cancel(job.job_id)
            async with kennel.working():
                assert await kennel.ended(job) is JobState.CANCELLED
            assert await kennel.answers() == old, point
            left = kennel.everything() - clean
            assert [where for where, _ in left] == ["jobs"], point

    async def test_a_second_kill_while_the_first_is_cleared_away(self, kennel):
        for point in (Point.CLAIMED, Point.SHARE_REMOVED, Point.FOLDER_CLEARED):
            kennel.put_back()
            old = await kennel.answers()
            job = await kennel.ask("ingest")
            assert (await kennel.die(job, Point.BUILT))["status"] == KILLED
            assert (await kennel.die(job, point))["status"] == KILLED
            assert await kennel.answers() == old
            async with kennel.working():
                ended = await kennel.house.ended(job)
            assert (ended.state, ended.attempts) == (JobState.COMPLETE, 3)
            assert await kennel.house.count(kennel.source_id) == 730

    async def test_every_point_is_passed_by_some_kind(self, kennel):
        passed = set()
        for kind in KINDS:
            kennel.put_back()
            passed.update((await kennel.die(await kennel.ask(kind), "-"))["passed"])
        assert passed == {point.value for point in Point}
