"""Data in, end to end: real database, queue and child processes, the services of the app."""

import asyncio
import csv
import hashlib
import io
import json
import os
import time
import zipfile
from random import Random

import pytest

from cvf_app.backends.mongo import Mongo
from cvf_app.engine.build import build
from cvf_app.engine.evaluate import evaluate
from cvf_app.engine.segments import Generation
from cvf_app.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from cvf_app.groups.model import Depth, NewDiscoveryGroup
from cvf_app.ids import new_id
from cvf_app.jobs.model import JobState
from cvf_app.metrics import REGISTRY
from cvf_app.pipelines.model import Directive, FilePipeline, RemapPipeline
from cvf_app.records.compile import compile_query
from cvf_app.sources.batches import Batch, add
from cvf_app.sources.building import joined
from cvf_app.sources.model import EavIndex, SourceChange
from cvf_app.sources.store import SourceStore
from cvf_app.wire import encode
from tests.support import cases, services
from tests.support.house import ADMIN, PERSON, House, documents, packed, packet
from tests.support.shared import NO_SHARED, SHARED


@pytest.fixture(scope="module")
def addresses():
    try:
        with services.mongodb() as mongo, services.redis() as redis:
            yield mongo, redis
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def house(addresses, tmp_path):
    name = f"ingest{new_id()[:8]}"
    mongo = Mongo.open(addresses[0], name, 8)
    made = House(mongo, addresses[1], tmp_path)
    made.database = name
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
        big = await house.upload(source_id, "b.zip", packed(*range(20_000)))
        job = await house.ingest(source_id, big)
        await house.begun(job)
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
        file = await house.upload(source_id, "a.zip", packed(*range(20_000)))
        job = await house.ingest(source_id, file)
        await house.begun(job)
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
        house.files.workspace.clear(house.sources.segments_folder(source_id))
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


def coloured(numbers, sex, term):
    """Return packets that differ between files, so that the order of files tells."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in numbers:
            whole = packet(number)
            whole["subject"]["sex"] = sex
            whole["phenotypicFeatures"].append({"type": {"id": term, "label": "x"}})
            archive.writestr(f"{number}.json", json.dumps(whole))
    return out.getvalue()


class TestGrowth:
    async def test_small_changes_grow_one_generation_that_answers_as_a_whole_build(
        self, house, tmp_path
    ):
        source_id, random = await house.source(), Random(5)
        base = await house.upload(
            source_id, "base.zip", coloured(range(1400), "MALE", "HP:0000001")
        )
        await house.complete(await house.ingest(source_id, base))
        files, table, remaps = [], await self._table(house, source_id), await self._remaps(house)
        segments = []
        for step in range(9):
            match "arbdarrdb"[step]:
                case "a":
                    some = random.sample(range(1500), 40)
                    content = coloured(some, "FEMALE", f"HP:000000{step + 2}")
                    files.append(await house.upload(source_id, f"{step}.zip", content))
                    job = await house.ingest(source_id, files[-1])
                case "b":
                    job = await house.ingest(source_id, files[0])
                case "r":
                    remap = remaps[step % 2]
                    job = await house.remap(source_id, table, pipeline=remap)
                case "d":
                    job = await house.requests.delete_file(files.pop(), ADMIN.user_id)
                    files = files or [base]
            await house.complete(job)
            generation = await house.sources.open_generation(source_id)
            segments.append(len(generation.segments))
            inputs = await self._shares(house, source_id, tmp_path)
            expected = {one.subject_id: encode(one) for one in joined(inputs, tmp_path / "spill")}
            assert documents(generation) == expected
            build(joined(inputs, tmp_path / "spill"), tmp_path / "whole")
            for _ in range(20):
                plan = compile_query(cases.query(random))
                found = evaluate(generation, plan).ids()
                assert sorted(found) == sorted(
                    evaluate(Generation.open(tmp_path / "whole"), plan).ids()
                )
        # Nearly every step left the large segment as it was.
        assert sum(number > 1 for number in segments) >= 6
        await house.complete(await house.requests.reindex(source_id, ADMIN.user_id))
        generation = await house.sources.open_generation(source_id)
        assert (len(generation.segments), documents(generation)) == (1, expected)

    async def _table(self, house, source_id):
        content = b"id,one,two\n" + b"".join(
            b"p%d,HP:0002000,HP:0003000\n" % n for n in range(0, 600, 7)
        )
        table = await house.upload(source_id, "t.csv", content)
        _, reading = await house.pipelines.create(
            FilePipeline(pipeline_name="f", attribute="id", internal_delimiter=",")
        )
        job = await house.ingest(source_id, table, pipeline=reading.pipeline_id)
        await house.complete(job)
        return table

    async def _remaps(self, house):
        made = [
            RemapPipeline(
                pipeline_name=name, directives=(Directive(destination="hpo", origin=name),)
            )
            for name in ("one", "two")
        ]
        return [(await house.pipelines.create(each))[1].pipeline_id for each in made]

    async def _shares(self, house, source_id, folder):
        _, contents = await house.store.state(source_id)
        paths = []
        for number, share in enumerate(contents.shares):
            paths.append(folder / f"{number}.subjects")
            with paths[-1].open("wb") as out:
                for batch in range(share.batches):
                    add(await house.store.batch(share.share, batch), out)
        return paths


class TestHeavyWork:
    async def test_batches_have_few_connections_of_their_own(self, house, addresses):
        heavy = Mongo.open(addresses[0], house.database, 2)
        store = SourceStore(house.mongo, heavy, 2)
        batch = Batch(1, b"12345678", b"x" * 100_000)
        most = 0

        async def put(number):
            nonlocal most
            await store.put_batch("share", number, batch)
            most = max(most, REGISTRY.get_sample_value("cv3_heavy_connections"))

        await asyncio.gather(*(put(number) for number in range(30)))
        assert 1 <= most <= 2
        assert REGISTRY.get_sample_value("cv3_heavy_connections") == 0
        assert sorted([number async for number, _ in store.marks("share")]) == list(range(30))
        await store.remove_share("share")
        heavy.close()


class TestReports:
    async def test_every_refused_row_is_there_until_the_source_goes(self, house):
        source_id = await house.source()
        lines = [b"s%d,red" % n if n % 3 else b"s%d,red,more" % n for n in range(900)]
        file = await house.upload(source_id, "=t.csv", b"id,colour\n" + b"\n".join(lines))
        _, reading = await house.pipelines.create(
            FilePipeline(pipeline_name="f", attribute="id", internal_delimiter=",")
        )
        job = await house.ingest(source_id, file, pipeline=reading.pipeline_id)
        result = await house.complete(job)
        assert result["report"] == f"/sources/{source_id}/reports/{job.job_id}"
        report = await house.requests.reports.get(source_id, job.job_id)
        assert (report.rows, report.refused, len(report.files[0].refusals)) == (900, 300, 100)
        pieces = await house.requests.reports.refusals(source_id, job.job_id)
        rows = list(csv.reader(b"".join(pieces).decode().splitlines()))
        assert rows[0] == ["file", "line", "reason"]
        assert [row[1] for row in rows[1:]] == [str(n + 2) for n in range(0, 900, 3)]
        assert {row[0] for row in rows[1:]} == {"'=t.csv"}
        other = await house.source("two")
        for source, asked in ((other, job.job_id), (source_id, new_id())):
            with pytest.raises(NotFound) as hidden:
                await house.requests.reports.get(source, asked)
            assert hidden.value.sentence == "There is no such report."
        await house.requests.clean_up()
        assert await house.requests.reports.get(source_id, job.job_id) == report
        await house.sources.delete(source_id)
        assert not list((house.folder / "reports").rglob("*.json*"))

    async def test_a_report_goes_when_it_is_old_or_its_job_is_gone(self, house):
        source_id = await house.source()
        file = await house.upload(source_id, "a.zip", packed(*range(5)))
        old = await house.ingest(source_id, file)
        await house.complete(old)
        gone = await house.ingest(source_id, file)
        await house.complete(gone)
        folder = house.sources.reports_folder(source_id)
        past = time.time() - 31 * 86_400
        os.utime(folder / old.job_id, (past, past))
        await house.mongo.collection("jobs").delete_one({"_id": gone.job_id})
        await house.requests.clean_up()
        assert list(folder.iterdir()) == []


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
