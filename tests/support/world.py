"""Five sources of equal data with a planted canary, and everything that loggers wrote of them."""

import io
import json
import re
import zipfile
from dataclasses import dataclass, field
from uuid import uuid4

_UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TRACE = re.compile(rb'"traceId":"[0-9a-f]{32}"')
_TIME = re.compile(rb'"timestamp":[0-9]+')
CANARY_ID = "CANARY-7f3a5d20c4e1"
CANARY_VALUE = "CANARYVALUE-91be"
CANARY = "CANARY"
DEPTHS = ("noAccess", "boolean", "count", "list", "detailedList")
SUBJECTS = {CANARY_ID, "DISC-2", "DISC-3"}


def packet(subject_id, **more):
    return json.dumps(
        {
            "id": subject_id,
            "subject": {"id": "x", "sex": "FEMALE"},
            "phenotypicFeatures": [{"type": {"id": "HP:0001250", "label": "Seizure"}}],
            "metaData": {"phenopacketSchemaVersion": "2.0.0"},
        }
        | more
    ).encode()


def archive():
    """Three subjects; the folder is their cohort, an attribute."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for number, subject_id in enumerate(sorted(SUBJECTS)):
            made.writestr(f"{CANARY_VALUE}/{number}.json", packet(subject_id))
    return out.getvalue()


@dataclass
class World:
    """The node with five sources of equal data, a group each, and people."""

    node: object
    prefix: str
    sources: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    groups: dict = field(default_factory=dict)
    jobs: list = field(default_factory=list)

    async def ask(self, who, **query):
        answers = await self.node.ask(query, who)
        return {answer["sourceName"].removeprefix(self.prefix): answer for answer in answers}

    async def fail(self, name, content, **more):
        """Ingest a file that cannot be read into a source of its own; return the ended job."""
        source_id = await self.node.source(f"discfail{uuid4().hex[:8]}")
        file_id = await self.node.upload(source_id, name, content)
        job = await self.node.ingest(source_id, file_id, **more)
        self.jobs.append(job["jobId"])
        return job


@dataclass
class Written:
    """All that loggers wrote since the fixture began."""

    lines: list = field(default_factory=list)
    looked_at: int = 0

    def fresh(self):
        """Return what was written since the last call."""
        begin, self.looked_at = self.looked_at, len(self.lines)
        return "\n".join(self.lines[begin : self.looked_at])


async def disclosing(node, prefix):
    """Make the five sources, whose names and whose people's names begin with the prefix."""
    made = World(node, prefix)
    people = {
        name: await node.person(f"{prefix}{name}", role)
        for name, role in (
            ("reader", "user"),
            ("counter", "user"),
            ("below", "user"),
            ("stranger", "user"),
            ("server", "serverAdmin"),
        )
    }
    reaches = {"noAccess": ["reader", "counter", "below"]}
    reaches |= {depth: ["reader", "counter"] for depth in ("boolean", "count")}
    for depth in DEPTHS:
        source_id = made.sources[depth] = await node.source(f"{prefix}{depth}")
        file_id = made.files[depth] = await node.upload(source_id, "packets.zip", archive())
        job = await node.ingest(source_id, file_id)
        assert job["state"] == "complete", job
        made.jobs.append(job["jobId"])
        users = [people[name] for name in reaches.get(depth, ["reader"])]
        made.groups[depth] = await node.group(depth, users, [source_id], f"{prefix}{depth}")
    return made


def seen(answer):
    """Return all of an answer but trace id and date; ids that the asker sent or owns are blanked.

    Also without `Connection`, by which the server ends a connection after so many requests.
    """
    body = _TIME.sub(b"T", _TRACE.sub(b"T", _UUID.sub(b"U", answer.body)))
    headers = sorted(
        (name.lower(), _UUID.sub(b"U", value.encode()))
        for name, value in answer.headers.items()
        if name.lower() not in {"date", "connection"}
    )
    return answer.status, headers, body
