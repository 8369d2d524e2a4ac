"""Documents as the stores write them: of now one of every collection, and of before."""

_NOW_JOB = {
    "task": "ingest",
    "args": {"sourceId": "s1"},
    "userId": "u1",
    "size": "large",
    "proc": 4,
    "mem": 2048,
    "enforcement": "cgroup",
    "state": "complete",
    "stage": "done",
    "progress": 1.0,
    "attempts": 1,
    "createdAt": 1_700_000_000,
    "endedAt": 1_700_000_100,
    "cancelRequested": False,
    "result": {"subjects": 3},
    "status": [{"state": "complete", "stage": "done", "progress": 1.0, "timestamp": 1}],
    "queuedAt": 1_700_000_000.5,
    "notBefore": 0.0,
    "leaseUntil": 0.0,
    "lease": None,
    "begun": True,
    "ending": None,
    "output": "said\n",
}
_FILE = {
    "name": "Cases.CSV",
    "size": 2**33,
    "sha256": "ab" * 32,
    "uploadedAt": 1_700_000_000,
}
_SOURCE = {
    "displayName": "One",
    "sourceDescription": "",
    "owner": "",
    "ownerEmail": "",
    "online": "true",
    "generation": 3,
    "shares": [{"share": "sh1", "dataFileId": "file-1", "subjects": 3, "batches": 1}],
    "capability": {"hpo": True},
    "recordCount": 3,
    "mappings": b"x",
    "names": b"y",
    "names_version": 0,
    "runner": None,
    "jobId": None,
    "deleted": False,
}
NOW: dict[str, list[dict]] = {
    "users": [
        {
            "_id": f"u{n}",
            "sealed": "cv1:1:AAAA",
            "usernameIndex": f"{n}",
            "subjectIndex": f"{n}",
            "role": "user",
            "active": True,
            "registered": True,
            "ownAccount": False,
            "attempt": 1,
            "budget": 0,
        }
        for n in range(1, 4)
    ],
    "groups": [
        {
            "_id": "g1",
            "version": 2,
            "groupName": "g",
            "networkId": "n",
            "discoveryPolicy": "list",
            "assignedUsers": ["u1"],
            "assignedSources": [],
            "groupDescription": "",
        }
    ],
    "jobs": [
        {**_NOW_JOB, "_id": f"j{n}", "exclusive": f"job/j{n}", "once": once}
        for n, once in enumerate(("user/u1/key", "job/j1", "job/j2"))
    ],
    "pipelines": [{"_id": "p1", "name": "p", "pipeline": b"{}"}],
    "sources": [
        {**_SOURCE, "_id": "s1", "sourceName": "one", "folder": None},
        {**_SOURCE, "_id": "s2", "sourceName": "two", "folder": "f", "declarations": b"z"},
    ],
    "data_files": [{"_id": "file-1", "sourceId": "s1", "deleted": False, "file": b"{}"}],
    "shares": [{"_id": "sh1", "sourceId": "s1"}],
    "subject_batches": [{"_id": "sh1/0", "share": "sh1", "marks": b"\x00", "data": b"\xff"}],
    "record_queries": [
        {
            "_id": "q1",
            "userId": "u1",
            "networkId": "n",
            "question": {},
            "status": "complete",
            "createdAt": 1.5,
            "attempts": 1,
            "lease": "l",
            "leaseUntil": 2.5,
        }
    ],
    "record_answers": [
        {"_id": "q1/s1", "queryId": "q1", "number": 1, "answer": {}, "details": True}
    ],
    "record_details": [{"_id": "q1/s1", "body": b"x"}],
    "files": [
        {
            **_FILE,
            "_id": "file-1",
            "type": "csv",
            "user": "u1",
            "expiresAt": None,
            "ready": True,
            "holders": ["source/s1", "job/j1"],
        },
        {
            **_FILE,
            "_id": "file-3",
            "type": "vcf",
            "user": "u2",
            "expiresAt": 1_800_000_000,
            "ready": False,
            "holders": [],
        },
    ],
    "upload_tokens": [
        {"_id": "t1", "userId": "u1", "scope": "s1", "issuedAt": 1.5, "expiresAt": 9}
    ],
    "installation": [{"_id": "installation", "installationId": "i"}],
    "letters": [
        {
            "_id": "l1",
            "kind": "test",
            "sealed": "cv1:1:AAAA",
            "state": "waiting",
            "attempts": 0,
            "createdAt": 1_700_000_000.5,
            "dueAt": 1_700_000_000.5,
            "lease": "",
            "leaseUntil": 0.0,
            "lapses": 0,
            "endedAt": None,
            "reason": "",
        }
    ],
    "letter_hours": [{"_id": "h1", "mark": "l1", "until": 1_700_000_000.5}],
    "access_requests": [
        {
            "_id": "r1",
            "sealed": "cv1:1:AAAA",
            "emailIndex": "e1",
            "status": "waiting",
            "createdAt": 1_700_000_000,
            "decidedAt": None,
            "decidedBy": None,
            "userId": None,
        }
    ],
    "settings": [{"_id": "instanceSettings", "value": {"name": "One"}}],
    "user_settings": [{"_id": "u1", "value": {"capability": {"hpo": True}}}],
    "inspections": [
        {"_id": "nightly", "day": "2026-11-21", "done": True, "leaseUntil": 1_700_000_000.5}
    ],
}
_SINCE = ("size", "proc", "mem", "enforcement", "output")
_OLD_JOB = {name: value for name, value in _NOW_JOB.items() if name not in _SINCE}
OF_BEFORE: dict[str, list[dict]] = {
    "jobs": [{**_OLD_JOB, "_id": f"old-{n}", "exclusive": f"job/old-{n}"} for n in (1, 2)],
    "files": [{**_FILE, "_id": f"file-{n}", "userId": "u1"} for n in (1, 2)],
    "data_files": NOW["data_files"],
    "users": NOW["users"],
}
