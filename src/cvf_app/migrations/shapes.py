"""The shapes of documents: for each collection the fields without which a document is malformed.

What a store writes is held to this by the database, where the server takes validators. A new
collection gets its line here, and `cvf db revise` writes the migration.
"""

from collections.abc import Mapping

from cvf_app.migrations.model import (
    BYTES,
    LIST,
    NUMBER,
    OBJECT,
    TEXT,
    TEXT_OR_NOTHING,
    YES_NO,
    Shape,
)

SHAPES: Mapping[str, Shape] = {
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
        "once": TEXT,
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
    "files": {
        "name": TEXT,
        "type": TEXT,
        "size": NUMBER,
        "sha256": TEXT,
        "user": TEXT,
        "uploadedAt": NUMBER,
        "ready": YES_NO,
        "holders": LIST,
    },
    "upload_tokens": {"userId": TEXT, "scope": TEXT, "issuedAt": NUMBER, "expiresAt": NUMBER},
    "letters": {
        "kind": TEXT,
        "sealed": TEXT,
        "state": TEXT,
        "attempts": NUMBER,
        "createdAt": NUMBER,
        "dueAt": NUMBER,
        "lease": TEXT,
        "leaseUntil": NUMBER,
    },
    "letter_hours": {"mark": TEXT, "until": NUMBER},
    "access_requests": {
        "sealed": TEXT,
        "emailIndex": TEXT,
        "status": TEXT,
        "createdAt": NUMBER,
    },
    # One of the published settings is a yes or no, the others are objects.
    "settings": {"value": (*OBJECT, *YES_NO)},
    "user_settings": {"value": OBJECT},
    "inspections": {"day": TEXT, "done": YES_NO, "leaseUntil": NUMBER},
    "installation": {"installationId": TEXT},
}
