"""Uploads that go wrong: chunks, tokens, contents and a full disk, over HTTP."""

import os
import subprocess
import sys
from hashlib import sha256
from uuid import uuid4

import pytest

from cvf_app.backends.mongo import Mongo, mongo_uri
from tests.support import nodes
from tests.support.faults import PACKETS, good_source, refused

CONTENT = PACKETS[0].read_bytes()
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.fixture(scope="module")
async def good(node):
    return await good_source(node, "uploads")


@pytest.fixture(autouse=True)
async def unharmed(good):
    """After each fault the old data is whole and answers as before."""
    yield
    assert await good.now() == good.before


@pytest.fixture
async def token(node, good):
    return await token_for(node, good.source_id)


@pytest.fixture
def send(node, good, token):
    """Send a chunk of `p.json` under an identifier of this test's own."""
    identifier = uuid4().hex

    async def sending(content, number=1, total=1, name="p.json", by=token):
        return await node.piece(good.source_id, by, name, content, number, total, identifier)

    sending.identifier = identifier
    return sending


async def token_for(node, source_id):
    answer = await node.call("GET", f"/sources/upload-token?sourceId={source_id}")
    assert answer.status == 200, answer.body
    return answer.json["token"]


async def names(node, source_id):
    answer = await node.call("GET", f"/sources/{source_id}/datafiles")
    return [file["filename"] for file in answer.json]


class TestChunks:
    async def test_chunks_in_any_order_and_repeated_make_the_file(self, node, good, send):
        third = len(CONTENT) // 3
        parts = {1: CONTENT[:third], 2: CONTENT[third : 2 * third], 3: CONTENT[2 * third :]}
        for number in (3, 3, 1):
            answer = await send(parts[number], number, 3)
            assert answer.status == 200
            assert "dataFileId" not in answer.json
        last = await send(parts[2], 2, 3)
        file_id = last.json["dataFileId"]
        assert (await send(parts[2], 2, 3)).json["dataFileId"] == file_id
        answer = await node.call("GET", f"/sources/{good.source_id}/datafiles")
        (kept,) = [file for file in answer.json if file["dataFileId"] == file_id]
        assert kept["sha256"] == sha256(CONTENT).hexdigest()

    async def test_a_missing_chunk_leaves_the_upload_open_and_is_told(
        self, node, good, send, token
    ):
        before = await names(node, good.source_id)
        for number in (1, 3):
            assert "dataFileId" not in (await send(CONTENT, number, 3)).json
        path = f"/sources/{good.source_id}/upload?resumableIdentifier={send.identifier}"
        answer = await node.call("GET", path, headers={"X-Upload-Token": token})
        assert answer.json["chunks"] == [1, 3]
        assert answer.json["complete"] is False
        assert await names(node, good.source_id) == before

    async def test_a_repeated_chunk_with_other_content_is_refused(self, node, send):
        await send(CONTENT, 2, 2)
        refused(node, await send(b"other", 2, 2), 409, says="Chunk 2")
        assert "dataFileId" in (await send(b"{", 1, 2)).json
        refused(node, await send(b"[", 1, 2), 409, says="complete")

    async def test_another_total_is_refused(self, node, send):
        await send(CONTENT, 1, 3)
        refused(node, await send(CONTENT, 2, 2), 409, says="begun with 3 chunks")

    @pytest.mark.parametrize("number", ["3", "0", "-1", "x", "1.5", "9" * 30, ""])
    async def test_a_number_beyond_the_total_is_refused(self, node, send, number):
        path = "$.resumableChunkNumber"
        refused(node, await send(CONTENT, number, 2), 400, path=path)

    @pytest.mark.parametrize("total", ["0", "x", "999999999"])
    async def test_a_total_that_cannot_be_is_refused(self, node, send, total):
        refused(node, await send(CONTENT, 1, total), 400, path="$.resumableTotalChunks")

    async def test_what_is_no_form_is_refused(self, node, good, token):
        path, headers = f"/sources/{good.source_id}/upload", {"X-Upload-Token": token}
        refused(node, await node.call("POST", path, json={}, headers=headers), 400)
        form = headers | {"Content-Type": "multipart/form-data; boundary=x"}
        for content in (
            b"",
            b"--x\r\n",
            b"hello",
            b"--x\r\nContent-Disposition: form-data\r\n\r\n",
        ):
            refused(node, await node.call("POST", path, data=content, headers=form), 400)


class TestTokens:
    async def test_a_wrong_token_is_refused(self, node, send):
        other = await node.source(f"other{uuid4().hex[:8]}")
        foreign = await token_for(node, other)
        for wrong in ("", "nonsense", foreign):
            refused(node, await send(CONTENT, by=wrong), 403, says="upload-token")

    async def test_the_token_of_another_person_is_refused(self, node, good, token):
        name = f"keeper{uuid4().hex[:8]}"
        await node.person(name, "dataAdmin")
        path = f"/sources/{good.source_id}/upload?resumableIdentifier=x"
        answer = await node.call("GET", path, name, headers={"X-Upload-Token": token})
        refused(node, answer, 403)

    async def test_an_expired_token_is_refused(self, node, send, token):
        given = node.config.mongo_db
        address = mongo_uri(
            given.host,
            int(given.port),
            user=given.user,
            password=given.password,
            database=given.database,
        )
        mongo = Mongo.open(address, given.database, 1)
        where = {"_id": sha256(token.encode()).hexdigest()}
        changed = await mongo.collection("upload_tokens").update_one(
            where, {"$set": {"expiresAt": 1}}
        )
        mongo.close()
        assert changed == 1
        refused(node, await send(CONTENT), 403, says="expired")


class TestContents:
    @pytest.mark.parametrize("name", ["picture.csv", "picture.json", "picture.zip", "picture.tsv"])
    async def test_a_picture_is_none_of_our_files(self, node, good, send, name):
        before = await names(node, good.source_id)
        refused(node, await send(PNG, name=name), 400, path="$.file")
        assert await names(node, good.source_id) == before

    @pytest.mark.parametrize("name", ["a.exe", "noextension", "a.csv.exe"])
    async def test_an_unknown_kind_is_refused(self, node, send, name):
        refused(node, await send(CONTENT, name=name), 400, path="$.resumableFilename")

    async def test_a_name_is_never_a_path(self, node, good, send):
        answer = await send(CONTENT, name="../../../etc/evil.json")
        assert answer.status == 200
        assert "evil.json" in await names(node, good.source_id)
        assert not list(node.folder.rglob("evil.json"))


@pytest.fixture
def small_disk(tmp_path):
    """A data folder on a file system of its own with 6 MB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small file system to fill")
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class TestFullDisk:
    async def test_nothing_partial_is_kept_and_what_was_there_answers(
        self, tmp_path, small_disk, mongo_url, redis_url
    ):
        async with nodes.node(tmp_path, mongo_url, redis_url) as node:
            good = await good_source(node, "full")
            small = await node.upload(good.source_id, "small.json", CONTENT)
            before = _files(small_disk)
            filler = small_disk / "filler"
            _fill(filler)
            token = await token_for(node, good.source_id)
            answer = await node.piece(good.source_id, token, "b.json", b"{" + b" " * 2**19)
            refused(node, answer, 507)
            assert _files(small_disk) - {filler} == before
            assert await good.now() == good.before
            # The more room there is, the later the ingest fails.
            stages = []
            for room in (0, 16_384, 40_960, 65_536, 98_304, 131_072):
                os.truncate(filler, filler.stat().st_size - room)
                job = await node.ingest(good.source_id, small)
                assert await good.now() == good.before or job["state"] == "complete"
                if job["state"] == "complete":
                    break
                stages.append(job["status"][-1]["stage"])
                fault = job["status"][-1]["error"]
                assert fault["cause"] == "limit", job
                assert "no room" in fault["message"]
                assert _files(small_disk) - {filler} == before
                _fill(filler, "ab")
            assert stages
            filler.unlink()
            assert (await node.ingest(good.source_id, small))["state"] == "complete"


def _files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def _fill(path, mode="wb"):
    with path.open(mode, buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
