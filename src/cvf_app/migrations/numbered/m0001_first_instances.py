"""The collections and indices of the first instances, and the shapes of documents."""

from collections.abc import Mapping

from cvf_app.backends.mongo import Index
from cvf_app.migrations.model import (
    BYTES,
    LIST,
    NUMBER,
    OBJECT,
    TEXT,
    TEXT_OR_NOTHING,
    YES_NO,
    Migration,
    Shape,
    Steps,
)

_SHAPES: Mapping[str, Shape] = {
    "users": {
        "sealed": TEXT,
        "usernameIndex": TEXT,
        "subjectIndex": TEXT,
        "role": TEXT,
        "active": YES_NO,
    },
    "groups": {
        "groupName": TEXT,
        "networkId": TEXT,
        "discoveryPolicy": TEXT,
        "assignedUsers": LIST,
        "assignedSources": LIST,
        "version": NUMBER,
    },
    "jobs": {
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
    },
    "pipelines": {"name": TEXT, "pipeline": BYTES},
    "sources": {
        "sourceName": TEXT,
        "generation": NUMBER,
        "folder": TEXT_OR_NOTHING,
        "shares": LIST,
        "capability": OBJECT,
        "recordCount": NUMBER,
        "mappings": BYTES,
        "names": BYTES,
        "deleted": YES_NO,
    },
    "data_files": {"sourceId": TEXT, "deleted": YES_NO, "file": BYTES},
    "shares": {"sourceId": TEXT},
    "subject_batches": {"share": TEXT, "data": BYTES},
    "record_queries": {
        "userId": TEXT,
        "networkId": TEXT,
        "question": OBJECT,
        "status": TEXT,
        "createdAt": NUMBER,
        "attempts": NUMBER,
        "leaseUntil": NUMBER,
    },
    "record_answers": {"queryId": TEXT, "number": NUMBER, "answer": OBJECT, "details": YES_NO},
    "record_details": {"body": BYTES},
    "files": {"name": TEXT, "size": NUMBER, "sha256": TEXT, "uploadedAt": NUMBER},
    "upload_tokens": {"userId": TEXT, "scope": TEXT, "issuedAt": NUMBER, "expiresAt": NUMBER},
    "installation": {"installationId": TEXT},
}
_INDICES: Mapping[str, tuple[Index, ...]] = {
    "users": (
        Index((("usernameIndex", 1),), unique=True),
        Index((("subjectIndex", 1),), unique=True),
    ),
    "groups": (Index((("assignedUsers", 1),)), Index((("assignedSources", 1),))),
    "jobs": (
        Index((("exclusive", 1),), unique=True),
        Index((("state", 1),)),
        Index((("userId", 1),)),
        Index((("queuedAt", 1),)),
    ),
    "pipelines": (Index((("name", 1),)),),
    "sources": (Index((("sourceName", 1),), unique=True),),
    "data_files": (Index((("sourceId", 1),)),),
    "shares": (Index((("sourceId", 1),)),),
    "subject_batches": (Index((("share", 1),)),),
    "record_queries": (
        Index((("userId", 1), ("createdAt", -1))),
        Index((("status", 1), ("leaseUntil", 1))),
    ),
    "record_answers": (Index((("queryId", 1), ("number", 1)), unique=True),),
    "files": (Index((("sha256", 1),)),),
    "upload_tokens": (Index((("expiresAt", 1),)),),
}


async def _up(steps: Steps) -> None:
    for name, shape in _SHAPES.items():
        await steps.make(name, shape)
        await steps.index(name, *_INDICES.get(name, ()))


async def _down(steps: Steps) -> None:
    for name in _SHAPES:
        await steps.drop_index(name, *_INDICES.get(name, ()))
        await steps.shape(name, None)
        await steps.drop_empty(name)


MIGRATION = Migration(
    number=1,
    sentence="The collections and indices of the first instances, and the shapes of documents.",
    up=_up,
    down=_down,
)
