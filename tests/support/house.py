"""The services of one instance on a database and a folder of its own, without HTTP, for tests."""

import asyncio
import io
import json
import zipfile

from cvf_app.backends.queue import Queue
from cvf_app.clock import now
from cvf_app.files.folder import Folder
from cvf_app.files.service import Files
from cvf_app.files.store import FileStore
from cvf_app.files.workspace import Workspace
from cvf_app.groups.service import Groups
from cvf_app.groups.store import GroupStore
from cvf_app.ids import new_id
from cvf_app.jobs.model import JobState
from cvf_app.jobs.service import Jobs
from cvf_app.jobs.store import JobStore
from cvf_app.jobs.worker import Worker
from cvf_app.networks.service import Networks
from cvf_app.networks.store import NetworkStore
from cvf_app.pipelines.service import Pipelines
from cvf_app.pipelines.store import PipelineStore
from cvf_app.principal import Principal, Role
from cvf_app.sources.ingestion import Ingestion
from cvf_app.sources.jobs import handlers
from cvf_app.sources.model import IngestRequest, NewSource, RemapRequest
from cvf_app.sources.points import pass_by
from cvf_app.sources.requests import Requests
from cvf_app.sources.service import Sources
from cvf_app.sources.store import SourceStore

ADMIN = Principal(user_id="ada", username="ada", role=Role.DATA_ADMIN)
PERSON = Principal(user_id="ann", username="ann", role=Role.USER)


class House:
    """The services of one instance on a database and a folder of its own."""

    def __init__(self, mongo, redis_url, folder, *, queue="", reached=pass_by):
        self.mongo, self.folder = mongo, folder
        self.networks = Networks(NetworkStore(mongo))
        self.store = SourceStore(mongo)
        self.group_store = GroupStore(mongo)
        self.groups = Groups(self.group_store, self.networks, self._users, self.store.known)
        self.queue = Queue(redis_url, queue or f"test-{new_id()}")
        self.job_store = JobStore(mongo.collection("jobs"))
        self.jobs = Jobs(self.job_store, self.queue, now)
        self.file_store = FileStore(mongo.collection("upload_tokens"), mongo.collection("files"))
        formats = ("csv", "tsv", "json", "zip")
        self.files = Files(self.file_store, Folder(folder), Workspace(folder), now, formats)
        self.pipeline_store = PipelineStore(mongo)
        self.pipelines = Pipelines(self.pipeline_store)
        self.sources = Sources(self.store, self.files, self.jobs, self.groups, self.networks)
        self.ingestion = Ingestion(self.sources, self.pipelines, reached)
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
        asked = RemapRequest(pipeline_id=pipeline, data_file_ids=files)
        return await self.requests.remap(source_id, asked, ADMIN.user_id)

    async def begun(self, job):
        """Wait until a worker runs the job, and no longer."""
        async with asyncio.timeout(90):
            async for seen in self.jobs.watch(job.job_id):
                if seen.state is JobState.RUNNING:
                    return

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


def documents(generation):
    """Return all subjects that count, by id."""
    return {
        segment.subject_id(row): segment.document(row)
        for segment in generation.segments
        for row in segment.everybody
    }
