"""`cvf upload` and `cvf files` against a real node: cut off, taken up again, fetched, deleted."""

import asyncio
import io
import json
import zipfile
from hashlib import sha256
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from cvf_app.console import __main__ as command
from cvf_app.console import files
from cvf_app.console.server import Server
from cvf_app.console.upload import send

CSV = b"id,sex\n1,female\n"


@pytest.fixture
def server(node):
    return Server(node.address, lambda _: node.issuer.token("admin"))


@pytest.fixture
def cvf(server, monkeypatch, tmp_path):
    """Run a command as the administrator, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "server", lambda _: server)
    runner = CliRunner()

    async def run(*words):
        return await asyncio.to_thread(runner.invoke, command.app, ["files", *words])

    return run


async def kept(node, content, name="a.csv"):
    headers = {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"}
    path = f"/files/upload?resumableIdentifier={uuid4().hex}&resumableFilename={name}"
    answer = await node.call("PUT", path, data=io.BytesIO(content), headers=headers)
    assert answer.status == 201, answer.body
    return answer.json


class TestUpload:
    async def test_it_sends_what_is_missing_in_pieces_of_the_size_it_was_told(
        self, node, server, tmp_path
    ):
        source = await node.source(f"console{uuid4().hex[:8]}")
        content = CSV + uuid4().hex.encode() * 100_000
        digest = sha256(content).hexdigest()
        (tmp_path / "a.csv").write_bytes(content)
        granted = (await node.call("GET", f"/sources/upload-token?sourceId={source}")).json
        size = granted["chunkSize"]
        total = -(-len(content) // size)
        assert total > 2
        # An earlier try was cut off after its second piece.
        name = f"{digest[:40]}-{size}"
        answer = await node.piece(
            source, granted["token"], "a.csv", content[size : 2 * size], 2, total, name
        )
        assert answer.status == 200
        assert await asyncio.to_thread(send, server, source, tmp_path / "a.csv")
        (file,) = (await node.call("GET", f"/sources/{source}/datafiles")).json
        assert file["sha256"] == digest
        assert not await asyncio.to_thread(send, server, source, tmp_path / "a.csv")


class TestFiles:
    async def test_they_are_listed(self, node, cvf):
        file = await kept(node, CSV + uuid4().hex.encode())
        told = await cvf("list", "--json")
        assert file in json.loads(told.stdout)
        assert file["fileId"][:8] in (await cvf("list")).stdout

    async def test_one_is_fetched_and_nothing_is_overwritten(self, node, cvf, tmp_path):
        content = CSV + uuid4().hex.encode()
        file = await kept(node, content)
        assert (await cvf("get", file["fileId"])).exit_code == 0
        assert (tmp_path / "a.csv").read_bytes() == content
        assert (await cvf("get", file["fileId"])).exit_code != 0
        assert (await cvf("get", file["fileId"], "--to", "b.csv")).exit_code == 0
        assert (tmp_path / "b.csv").read_bytes() == content

    async def test_a_fetch_goes_on_where_it_was(self, node, cvf, tmp_path):
        content = CSV + uuid4().hex.encode() * 1000
        file = await kept(node, content)
        partial = tmp_path / f"a.csv.{file['sha256'][:8]}.part"
        partial.write_bytes(content[:500])
        assert (await cvf("get", file["fileId"])).exit_code == 0
        assert (tmp_path / "a.csv").read_bytes() == content
        assert not partial.exists()

    async def test_what_is_not_the_file_is_not_taken_for_it(self, node, cvf, tmp_path):
        file = await kept(node, CSV + uuid4().hex.encode())
        (tmp_path / f"a.csv.{file['sha256'][:8]}.part").write_bytes(b"wrong")
        assert (await cvf("get", file["fileId"])).exit_code != 0
        assert not list(tmp_path.iterdir())

    async def test_several_come_as_a_zip(self, node, cvf, tmp_path):
        contents = [CSV + uuid4().hex.encode() for _ in range(2)]
        ids = [(await kept(node, content))["fileId"] for content in contents]
        assert (await cvf("get", *ids)).exit_code == 0
        with zipfile.ZipFile(tmp_path / "files.zip") as archive:
            assert [archive.read(name) for name in archive.namelist()] == contents

    async def test_they_are_deleted(self, node, cvf):
        file = await kept(node, CSV + uuid4().hex.encode())
        assert (await cvf("delete", file["fileId"])).exit_code == 0
        assert (await cvf("delete", file["fileId"])).exit_code != 0
