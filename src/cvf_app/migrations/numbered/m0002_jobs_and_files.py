"""What jobs and files lack that were kept before jobs had limits and files had holders.

Of a job: `once` (the key of an idempotent request), `output`, `size`, `proc`, `mem`, `enforcement`.
Of a file: `user` in the place of `userId`, `type`, `expiresAt`, `ready`, and `holders`, who are the
sources that have it as a data file (a data file has the id of its file). The way down sets the
fields aside, so that a program of then reads the documents, and the way up finds them again.
"""

from cvf_app.backends.mongo import Document, Index
from cvf_app.migrations.model import (
    LIST,
    NUMBER,
    OBJECT,
    TEXT,
    YES_NO,
    Migration,
    Shape,
    Steps,
)

_JOBS = (Index((("once", 1),), unique=True),)
_FILES = (Index((("user", 1),)), Index((("expiresAt", 1),)))
_JOB_BEFORE: Shape = {
    "task": TEXT,
    "args": OBJECT,
    "userId": TEXT,
    "state": TEXT,
    "status": LIST,
    "attempts": NUMBER,
    "exclusive": TEXT,
    "queuedAt": NUMBER,
    "notBefore": NUMBER,
    "leaseUntil": NUMBER,
    "begun": YES_NO,
}
_FILE_BEFORE: Shape = {"name": TEXT, "size": NUMBER, "sha256": TEXT, "uploadedAt": NUMBER}
_JOB: Shape = {**_JOB_BEFORE, "once": TEXT}
_FILE: Shape = {**_FILE_BEFORE, "type": TEXT, "user": TEXT, "ready": YES_NO, "holders": LIST}
_OF_JOBS = ("once", "output", "size", "proc", "mem", "enforcement")
_OF_FILES = ("type", "expiresAt", "ready", "holders")


async def _up(steps: Steps) -> None:
    async def of_job(job: Document) -> Document:
        made = {"output": "", "size": "small", "proc": 1, "mem": 0, "enforcement": ""}
        # A field that is there already is never replaced.
        there = {name: job[name] for name in made if name in job}
        return {**made, **there, "once": f"job/{job['_id']}"}

    async def of_file(file: Document) -> Document:
        held = await steps.find_one("data_files", {"_id": file["_id"]})
        made = {
            "type": str(file.get("name", "")).rpartition(".")[2].lower(),
            "expiresAt": None,
            "ready": True,
        }
        there = {name: file[name] for name in made if name in file}
        return {**made, **there, "holders": [f"source/{held['sourceId']}"] if held else []}

    async def renamed(file: Document) -> Document:
        return {"$set": {"user": file["userId"]}, "$unset": {"userId": ""}}

    await steps.take_back("jobs", "once", of_job)
    await steps.change("files", {"userId": {"$exists": True}}, renamed)
    await steps.take_back("files", "holders", of_file)
    await steps.index("jobs", *_JOBS)
    await steps.index("files", *_FILES)
    await steps.shape("jobs", _JOB)
    await steps.shape("files", _FILE)


async def _down(steps: Steps) -> None:
    async def renamed(file: Document) -> Document:
        return {"$set": {"userId": file["user"]}, "$unset": {"user": ""}}

    await steps.shape("jobs", _JOB_BEFORE)
    await steps.shape("files", _FILE_BEFORE)
    await steps.drop_index("jobs", *_JOBS)
    await steps.drop_index("files", *_FILES)
    await steps.set_aside("jobs", *_OF_JOBS)
    await steps.set_aside("files", *_OF_FILES)
    await steps.change("files", {"user": {"$exists": True}}, renamed)


MIGRATION = Migration(
    number=2,
    sentence="Jobs have limits and idempotency keys, files have owners, holders and expiry.",
    up=_up,
    down=_down,
)
