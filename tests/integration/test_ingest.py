"""Data in, end to end: real database, queue and child processes, the services of the app."""

import asyncio
import hashlib
import io
import json
import time
import zipfile

import pytest

from cvf_app.backends.mongo import Mongo
from cvf_app.backends.queue import Queue
from cvf_app.clock import now
from cvf_app.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from cvf_app.files.place import Place
from cvf_app.files.service import Files
from cvf_app.files.store import FileStore
from cvf_app.groups.model import Depth, NewDiscoveryGroup
from cvf_app.groups.service import Groups
from cvf_app.groups.store import GroupStore
from cvf_app.ids import new_id
from cvf_app.jobs.model import JobState
from cvf_app.jobs.service import Jobs
from cvf_app.jobs.store import JobStore
from cvf_app.jobs.worker import Worker
from cvf_app.networks.service import Networks
from cvf_app.networks.store import NetworkStore
from cvf_app.pipelines.model import Directive, FilePipeline, RemapPipeline
from cvf_app.pipelines.service import Pipelines
from cvf_app.pipelines.store import PipelineStore
from cvf_app.principal import Principal, Role
from cvf_app.sources.ingestion import Ingestion
from cvf_app.sources.jobs import handlers
from cvf_app.sources.model import EavIndex, IngestRequest, NewSource, SourceChange
from cvf_app.sources.requests import Requests
from cvf_app.sources.service import Sources
from cvf_app.sources.store import SourceStore
from tests.support import services
from tests.support.shared import NO_SHARED, SHARED

ADMIN = Principal(user_id="ada", username="ada", role=Role.DATA_ADMIN)
PERSON = Principal(user_id="ann", username="ann", role=Role.USER)


class House:
    """The services of one instance on a database and a folder of its own."""

    def __init__(self, mongo, redis_url, folder):
        self.mongo, self.folder = mongo, folder
        self.networks = Networks(NetworkStore(mongo))
        self.store = SourceStore(mongo)
        self.group_store = GroupStore(mongo)
        self.groups = Groups(self.group_store, self.networks, self._users, self.store.known)
        self.queue = Queue(redis_url, f"test-{new_id()}")
        self.job_store = JobStore(mongo.collection("jobs"))
        self.jobs = Jobs(self.job_store, self.queue, now)
        self.file_store = FileStore(mongo.collection("upload_tokens"), mongo.collection("files"))
        formats = ("csv", "tsv", "json", "zip")
        self.files = Files(self.file_store, Place(folder), now, formats)
        self.pipeline_store = PipelineStore(mongo)
        self.pipelines = Pipelines(self.pipeline_store)
        self.sources = Sources(self.store, self.files, self.jobs, self.groups, self.networks)
        self.ingestion = Ingestion(self.sources, self.pipelines)
        self.requests = Requests(self.sources, self.pipelines, self.jobs, self.ingestion)
        self.worker = Worker(self.jobs, self.queue, handlers(self.ingestion))

    async def prepare(self):
        stores = (self.store, self.group_store, self.job_store, self.file_store)
        for store in (*stores, self.pipeline_store):
            await store.prepare()

    async def source(self, name="one"):
        made = await self.sources.create(NewSource(source_name=name, display_name=name), ADMIN)
        return made.source_id

    async def upload(self, source_id, name, content, *, chunk=3_000_000):
        token = await self.files.issue_token(ADMIN.user_id, source_id)
        grant = await self.files.check_token(token, ADMIN.user_id, source_id)
        parts = [content[start : start + chunk] for start in range(0, len(content), chunk)]
        numbers = list(range(1, len(parts) + 1))
        for number in reversed(numbers):
            kept = await self.send(grant, name, number, len(parts), parts[number - 1])
        return await self.sources.attach(source_id, kept)

    async def send(self, grant, name, number, total, content):
        fields = {
            "resumableChunkNumber": str(number),
            "resumableTotalChunks": str(total),
            "resumableIdentifier": f"upload-{name}",
            "resumableFilename": name,
        }
        body = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in fields.items()
        )
        body += b'--x\r\nContent-Disposition: form-data; name="file"; filename="blob"\r\n\r\n'
        body += content + b"\r\n--x--\r\n"

        async def pieces():
            for start in range(0, len(body), 50_000):
                yield body[start : start + 50_000]

        return await self.files.take_chunk(grant, "multipart/form-data; boundary=x", pieces(), {})

    async def ingest(self, source_id, *files, pipeline=None):
        asked = IngestRequest(pipeline_id=pipeline, data_file_ids=files)
        return await self.requests.ingest(source_id, asked, ADMIN.user_id)

    async def remap(self, source_id, *files, pipeline):
        asked = IngestRequest(pipeline_id=pipeline, data_file_ids=files)
        return await self.requests.remap(source_id, asked, ADMIN.user_id)

    async def ended(self, job):
        async with asyncio.timeout(90):
            async for seen in self.jobs.watch(job.job_id):
                job = seen
        return job

    async def complete(self, job):
        job = await self.ended(job)
        assert job.state is JobState.COMPLETE, job.status[-1].error
        return job.result

    async def count(self, source_id):
        generation = await self.sources.open_generation(source_id)
        return 0 if generation is None else generation.count

    def left(self, source_id):
        """Return what stands on the disk beside files and what answers."""
        segments = self.folder / "segments" / source_id
        work = self.folder / "work" / source_id
        found = [*segments.glob("*"), *work.glob("*")]
        return sorted(path.name for path in found if not (path / "retired").exists())

    async def _users(self, ids):
        return frozenset(ids) & {"ann", "ada"}


def packet(number):
    feature = {"type": {"id": f"HP:000{1000 + number % 50}", "label": "x"}}
    return {
        "id": f"p{number}",
        "subject": {"id": "s", "sex": "FEMALE" if number % 2 else "MALE"},
        "phenotypicFeatures": [feature],
        "metaData": {"phenopacketSchemaVersion": "2.0"},
    }


def packed(*numbers):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in numbers:
            archive.writestr(f"cohort/{number}.json", json.dumps(packet(number)))
    return out.getvalue()


@pytest.fixture(scope="module")
def addresses():
    try:
        with services.mongodb() as mongo, services.redis() as redis:
            yield mongo, redis
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def house(addresses, tmp_path):
    mongo = Mongo.open(addresses[0], f"ingest{new_id()[:8]}", 8)
    made = House(mongo, addresses[1], tmp_path)
    await made.prepare()
    working = asyncio.ensure_future(made.worker.run())
    yield made
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await made.queue.close()
    await mongo.drop()
    mongo.close()


class TestPhenopackets:
    async def test_what_goes_in_is_what_answers(self, house):
        source_id = await house.source()
        file = await house.upload(source_id, "packets.zip", packed(*range(60)))
        result = await house.complete(await house.ingest(source_id, file))
        assert (result["subjects"], result["refused"]) == (60, 0)
        assert await house.count(source_id) == 60
        assert (await house.sources.get(source_id, ADMIN)).record_index.record_count == 60
        assert (await house.sources.list_files(source_id))[0].is_processed
        assert len(house.left(source_id)) == 1

    async def test_two_files_share_subjects_and_deleting_one_takes_its_share(self, house):
        source_id = await house.source()
        first = await house.upload(source_id, "a.zip", packed(*range(20)))
        second = await house.upload(source_id, "b.zip", packed(*range(10, 30)))
        await house.complete(await house.ingest(source_id, first))
        await house.complete(await house.ingest(source_id, second))
        assert await house.count(source_id) == 30
        await house.complete(await house.requests.delete_file(first, ADMIN.user_id))
        assert await house.count(source_id) == 20
        assert [file.data_file_id for file in await house.sources.list_files(source_id)] == [second]
        await house.complete(await house.requests.delete_file(second, ADMIN.user_id))
        assert await house.count(source_id) == 0
        assert await house.store.announced(source_id) == ()

    async def test_again_is_the_same(self, house):
        source_id = await house.source()
        file = await house.upload(source_id, "a.zip", packed(*range(20)))
        for _ in range(2):
            await house.complete(await house.ingest(source_id, file))
        assert await house.count(source_id) == 20
        assert len(await house.store.announced(source_id)) == 1

    @pytest.mark.skipif(SHARED is None, reason=NO_SHARED)
    async def test_the_sample_of_400(self, house):
        out = io.BytesIO()
        root = SHARED / "data" / "phenopackets" / "packets"
        with zipfile.ZipFile(out, "w") as archive:
            for path in sorted(root.rglob("*.json")):
                archive.write(path, str(path.relative_to(root)))
        source_id = await house.source()
        file = await house.upload(source_id, "packets.zip", out.getvalue(), chunk=500_000)
        started = time.monotonic()
        await house.complete(await house.ingest(source_id, file))
        print(f"400 phenopackets in {time.monotonic() - started:.1f} s")
        assert await house.count(source_id) == 400


class TestFaults:
    async def test_a_failed_run_leaves_the_old_data_whole(self, house):
        source_id = await house.source()
        good = await house.upload(source_id, "a.zip", packed(*range(20)))
        bad = await house.upload(source_id, "b.json", b'{"not": "a phenopacket"')
        await house.complete(await house.ingest(source_id, good))
        before = house.left(source_id), await house.store.announced(source_id)
        job = await house.ended(await house.ingest(source_id, good, bad))
        assert job.state is JobState.ERROR
        assert job.status[-1].error.cause == "input"
        assert await house.count(source_id) == 20
        assert (house.left(source_id), await house.store.announced(source_id)) == before

    async def test_a_cancelled_run_leaves_the_old_data_whole(self, house):
        source_id = await house.source()
        file = await house.upload(source_id, "a.zip", packed(*range(20)))
        await house.complete(await house.ingest(source_id, file))
        before = house.left(source_id), await house.store.announced(source_id)
        big = await house.upload(source_id, "b.zip", packed(*range(3000)))
        job = await house.ingest(source_id, big)
        await asyncio.sleep(0.4)
        await house.jobs.cancel(job.job_id)
        assert (await house.ended(job)).state is JobState.CANCELLED
        assert await house.count(source_id) == 20
        assert (house.left(source_id), await house.store.announced(source_id)) == before

    async def test_a_second_ingest_is_refused(self, house):
        source_id = await house.source()
        file = await house.upload(source_id, "a.zip", packed(*range(200)))
        job = await house.ingest(source_id, file)
        with pytest.raises(Conflict):
            await house.ingest(source_id, file)
        with pytest.raises(Conflict):
            await house.requests.delete_file(file, ADMIN.user_id)
        await house.complete(job)

    async def test_a_deleted_source_takes_its_ingest_with_it(self, house):
        source_id = await house.source()
        file = await house.upload(source_id, "a.zip", packed(*range(2000)))
        job = await house.ingest(source_id, file)
        await asyncio.sleep(0.3)
        await house.sources.delete(source_id)
        assert (await house.ended(job)).state in {JobState.CANCELLED, JobState.ERROR}
        with pytest.raises(NotFound):
            await house.sources.get(source_id, ADMIN)
        await house.requests.clean_up()
        assert await house.store.announced(None) == ()
        assert not list((house.folder / "files").rglob("[0-9a-f]" * 64))
        assert house.left(source_id) == []
        await house.source()

    async def test_what_does_not_fit_is_refused_at_once(self, house):
        source_id, other = await house.source(), await house.source("two")
        zipped = await house.upload(source_id, "a.zip", packed(1))
        table = await house.upload(source_id, "t.csv", b"id,x\n1,2\n")
        with pytest.raises(Invalid) as foreign:
            await house.ingest(other, zipped)
        assert foreign.value.path == "$.dataFileIDs[0]"
        with pytest.raises(Invalid) as none:
            await house.ingest(source_id, table)
        assert none.value.path == "$.pipelineID"
        _, remap = await house.pipelines.create(RemapPipeline(pipeline_name="r", directives=()))
        with pytest.raises(Conflict):
            await house.remap(source_id, table, pipeline=remap.pipeline_id)
        with pytest.raises(NotFound):
            await house.ingest(new_id(), zipped)

    async def test_segments_that_are_gone_are_built_again(self, house):
        source_id = await house.source()
        file = await house.upload(source_id, "a.zip", packed(*range(20)))
        await house.complete(await house.ingest(source_id, file))
        house.files.place.clear(house.sources.segments_folder(source_id))
        for _ in range(100):
            try:
                found = await house.count(source_id)
                break
            except Unavailable:
                await asyncio.sleep(0.1)
        assert found == 20


class TestTables:
    async def test_a_table_is_recorded_and_then_remapped(self, house):
        source_id = await house.source()
        content = b"id,terms,colour\n" + b"".join(b"s%d,HP:0001250,red\n" % n for n in range(30))
        file = await house.upload(source_id, "t.csv", content)
        _, reading = await house.pipelines.create(
            FilePipeline(pipeline_name="f", attribute="id", internal_delimiter=",")
        )
        directives = (
            Directive(destination="hpo", origin="terms"),
            Directive(destination="eav", origin="colour"),
        )
        _, remap = await house.pipelines.create(
            RemapPipeline(pipeline_name="r", directives=directives)
        )
        await house.complete(await house.ingest(source_id, file, pipeline=reading.pipeline_id))
        assert await house.count(source_id) == 0
        assert await house.sources.columns() == ("colour", "id", "terms")
        job = await house.remap(source_id, file, pipeline=remap.pipeline_id)
        assert (await house.complete(job))["subjects"] == 30
        assert await house.count(source_id) == 30
        index = await house.sources.eav_index(source_id)
        assert index.mappings["colour"] == ("red",)
        await house.sources.rename(source_id, EavIndex(attributes={"colour": "Colour"}))
        await house.complete(await house.requests.reindex(source_id, ADMIN.user_id))
        assert (await house.sources.eav_index(source_id)).attributes["colour"] == "Colour"


class TestCatalogue:
    async def test_plain_people_see_what_their_groups_show(self, house):
        shown, hidden = await house.source("shown"), await house.source("hidden")
        file = await house.upload(shown, "a.zip", packed(*range(5)))
        await house.complete(await house.ingest(shown, file))
        assert await house.sources.list_sources(PERSON) == ()
        for depth, count in ((Depth.BOOLEAN, None), (Depth.COUNT, 5)):
            await house.groups.create(
                NewDiscoveryGroup(
                    group_name="g",
                    discovery_policy=depth,
                    assigned_users=("ann",),
                    assigned_sources=(shown,),
                )
            )
            (seen,) = await house.sources.list_sources(PERSON)
            assert (seen.source_id, seen.record_index.record_count) == (shown, count)
            assert seen.record_index.eav_index is None
        for unknown in (hidden, new_id()):
            with pytest.raises(NotFound) as refused:
                await house.sources.get(unknown, PERSON)
            assert refused.value.sentence == "There is no such source."

    async def test_names_are_unique_and_ids_stay(self, house):
        one, _ = await house.source("one"), await house.source("two")
        with pytest.raises(Conflict):
            await house.source("one")
        with pytest.raises(Conflict):
            await house.sources.update(one, SourceChange(source_name="two"), ADMIN)
        with pytest.raises(Invalid):
            await house.sources.update(one, SourceChange(source_id=new_id()), ADMIN)
        changed = await house.sources.update(one, SourceChange(owner="me"), ADMIN)
        assert (changed.owner, changed.source_name) == ("me", "one")


class TestUpload:
    async def test_chunks_repeat_and_differ(self, house):
        source_id = await house.source()
        token = await house.files.issue_token(ADMIN.user_id, source_id)
        grant = await house.files.check_token(token, ADMIN.user_id, source_id)
        content = packed(*range(50))
        half = len(content) // 2
        assert await house.send(grant, "a.zip", 2, 2, content[half:]) is None
        assert await house.send(grant, "a.zip", 2, 2, content[half:]) is None
        with pytest.raises(Conflict):
            await house.send(grant, "a.zip", 2, 2, b"other")
        with pytest.raises(Invalid) as beyond:
            await house.send(grant, "a.zip", 3, 2, b"x")
        assert beyond.value.path == "$.resumableChunkNumber"
        assert (await house.files.state(grant, "upload-a.zip")).chunks == (2,)
        kept = await house.send(grant, "a.zip", 1, 2, content[:half])
        assert kept.sha256 == hashlib.sha256(content).hexdigest()
        assert await house.send(grant, "a.zip", 1, 2, content[:half]) == kept

    async def test_tokens_are_for_one_person_and_source(self, house):
        source_id = await house.source()
        token = await house.files.issue_token(ADMIN.user_id, source_id)
        for user, scope in ((PERSON.user_id, source_id), (ADMIN.user_id, "other")):
            with pytest.raises(Forbidden):
                await house.files.check_token(token, user, scope)

    async def test_names_are_labels_and_content_is_checked(self, house):
        source_id = await house.source()
        with pytest.raises(Invalid):
            await house.upload(source_id, "picture.csv", b"\x89PNG\r\n\x1a\n\0\0\0")
        file = await house.upload(source_id, "../../etc/t.csv", b"a,b\n1,2\n")
        assert (await house.sources.get_file(file)).filename == "t.csv"
        assert not list(house.folder.rglob("t.csv"))
