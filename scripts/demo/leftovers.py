"""What an instance keeps on its disk and in its database, held against what it should keep.

Reads the data folder and the database as they lie there, past the service: a share of subjects
that nothing points at, a batch too few, a half-written file or an abandoned folder is a finding.
Everything that is found is explained by a source's document, a file's document or a running job.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pymongo

from cvf_app.backends.mongo import mongo_uri
from scripts.demo.instance import Instance

_ENDED = ("complete", "error", "cancelled", "lost")
_HALF = (".part", ".in", ".chunk", ".spool", ".marks", ".subjects", ".stored", ".new", ".tmp")


class Kept:
    """Everything that an instance keeps."""

    def __init__(self, instance: Instance) -> None:
        """Read the database once; the disk is read when it is asked about."""
        self._uploads = instance.layout.uploads
        given = json.loads(instance.layout.config.read_bytes())["MongoDB"]
        login = {"user": given["User"], "password": given["Password"]}
        address = mongo_uri(given["Host"], int(given["Port"]), **login, database=given["Database"])
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(address)
        with client:
            names = client[given["Database"]].list_collection_names()
            self.sizes = {
                name: client[given["Database"]][name].count_documents({}) for name in sorted(names)
            }
            read = {name: self._all(client, given["Database"], name) for name in names}
        self._documents = read

    def findings(self) -> list[str]:
        """Return a sentence for everything that should not be there, or is missing."""
        return [*self._in_database(), *self._on_disk()]

    @staticmethod
    def _all(
        client: pymongo.MongoClient[dict[str, Any]], database: str, name: str
    ) -> list[dict[str, Any]]:
        # The subjects themselves are large, and only their places matter here.
        return list(client[database][name].find({}, {"data": 0}))

    def _of(self, name: str) -> list[dict[str, Any]]:
        return self._documents.get(name, [])

    def _in_database(self) -> list[str]:
        found: list[str] = []
        sources = self._of("sources")
        live = {share["share"]: share for one in sources for share in one["shares"]}
        announced = {one["_id"] for one in self._of("shares")}
        batches = Counter(one["share"] for one in self._of("subject_batches"))
        found += [f"share {one} is announced and answers nothing" for one in announced - {*live}]
        found += [f"share {one} answers and is not announced" for one in {*live} - announced]
        found += [f"batches of share {one} answer nothing" for one in {*batches} - {*live}]
        found += [
            f"share {name} has {batches[name]} batches, not {share['batches']}"
            for name, share in live.items()
            if batches[name] != share["batches"]
        ]
        found += [f"source {one['_id']} is still being changed" for one in sources if one["runner"]]
        found += [f"source {one['_id']} is half deleted" for one in sources if one.get("deleted")]
        found += [
            f"job {one['_id']} is {one['state']}"
            for one in self._of("jobs")
            if one["state"] not in _ENDED
        ]
        return found

    def _on_disk(self) -> list[str]:
        root = self._uploads
        files = [path for path in root.rglob("*") if path.is_file()]
        found = [
            f"{path.relative_to(root)} is half a file" for path in files if path.suffix in _HALF
        ]
        wanted = {one["sha256"]: one["size"] for one in self._of("files")}
        here = {
            path.name: path.stat().st_size
            for path in (root / "files").rglob("*")
            if path.is_file() and path.suffix not in _HALF
        }
        found += [f"content {name[:12]} belongs to no file" for name in {*here} - {*wanted}]
        found += [f"the content {name[:12]} is gone" for name in {*wanted} - {*here}]
        found += [
            f"content {name[:12]} has {here[name]} bytes, not {size}"
            for name, size in wanted.items()
            if name in here and here[name] != size
        ]
        found += [f"{path} is left of a job" for path in self._below("work/*/*")]
        for place in ("bin", "aside", "spool"):
            found += [f"{path} is left of a removal" for path in self._below(f"{place}/*")]
        answering = {(one["_id"], one["folder"]) for one in self._of("sources")}
        for path in self._below("segments/*/*"):
            if path.parts[-2:] not in answering and not (root / path / "retired").exists():
                found.append(f"{path} is a generation that answers nothing")
        return found

    def _below(self, pattern: str) -> list[Path]:
        return [path.relative_to(self._uploads) for path in sorted(self._uploads.glob(pattern))]
