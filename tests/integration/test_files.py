"""Files of people over HTTP: sent in forms and by ranges, read again, shared by nobody."""

import asyncio
import io
import itertools
import time
import zipfile
from hashlib import sha256
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest

from tests.support.faults import refused

CSV = b"id,sex\n1,female\n"
JSON = b'[{"id": "one", "subject": {"id": "one"}}]'
MIB = 2**20


@pytest.fixture(scope="module")
async def ann(node):
    await node.person("filesann", "dataAdmin")
    return "filesann"


@pytest.fixture(scope="module")
async def bob(node):
    await node.person("filesbob", "dataAdmin")
    return "filesbob"


@pytest.fixture(scope="module")
async def carl(node):
    await node.person("filescarl")
    return "filescarl"


def form(*files):
    sent = aiohttp.FormData(quote_fields=False)
    for name, content in files:
        sent.add_field(
            "file", io.BytesIO(content), filename=name, content_type="application/octet-stream"
        )
    return sent


def fresh():
    """Return a table that no other test has."""
    return CSV + uuid4().hex.encode() + b",male\n"


def table(size):
    """Return a table of about so many bytes that no other test has."""
    line = b"%b,%b\n" % (uuid4().hex.encode(), uuid4().hex.encode() * 30)
    return CSV + line * (size // len(line))


def packed(*entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


async def keep(node, who, *files, query=""):
    answer = await node.call("POST", f"/files/{query}", who, data=form(*files))
    assert answer.status == 201, answer.body
    return answer.json


async def content(node, who, file_id, **headers):
    return await node.call("GET", f"/files/{file_id}/content", who, headers=headers)


async def until(happens, seconds=30):
    async with asyncio.timeout(seconds):
        while not await happens():  # noqa: ASYNC110 - what happens is seen from outside alone
            await asyncio.sleep(0.1)


def on_disk(node, digest):
    return node.folder / "data" / "files" / digest[:2] / digest


class TestForms:
    async def test_several_files_are_kept_and_told(self, node, ann):
        first, second = fresh(), JSON
        one, two = await keep(node, ann, ("a.csv", first), ("ü b.json", second))
        assert (one["name"], one["type"], one["size"]) == ("a.csv", "csv", len(first))
        assert (two["name"], two["type"]) == ("ü b.json", "phenopacket")
        assert one["sha256"] == sha256(first).hexdigest()
        assert one["user"] == node.people[ann]
        assert (one["ready"], one["reserved"], one["expiresAt"]) == (True, False, None)
        assert (await node.call("GET", f"/files/{one['fileId']}", ann)).json == one
        assert (await content(node, ann, one["fileId"])).body == first

    async def test_one_refused_file_refuses_all(self, node, ann):
        before = (await node.call("GET", "/files/", ann)).json
        for bad in (("a.exe", CSV), ("a.csv", b"\x89PNG\0"), ("", CSV)):
            sent = form(("good.csv", fresh()), bad)
            refused(node, await node.call("POST", "/files/", ann, data=sent), 400)
        assert (await node.call("GET", "/files/", ann)).json == before

    @pytest.mark.parametrize("query", ["?expiresAt=1", "?expiresAt=x", "?unpack=maybe"])
    async def test_what_cannot_be_asked_is_refused(self, node, ann, query):
        sent = form(("a.csv", CSV))
        refused(node, await node.call("POST", f"/files/{query}", ann, data=sent), 400)

    async def test_a_form_without_a_file_is_refused(self, node, ann):
        sent = aiohttp.FormData({"name": "value"})
        refused(node, await node.call("POST", "/files/", ann, data=sent), 400)

    async def test_a_file_of_many_mib_arrives_whole(self, node, ann):
        large = table(20 * MIB)
        (kept,) = await keep(node, ann, ("large.csv", large))
        assert kept["sha256"] == sha256(large).hexdigest()
        assert (await content(node, ann, kept["fileId"])).body == large


class TestArchives:
    async def test_files_in_folders_come_out_under_their_paths(self, node, ann):
        archive = packed(
            ("a.json", JSON),
            ("cohort/b c/ü.csv", fresh()),
            ("cohort/.hidden", b"x"),
            ("__MACOSX/a.json", b"x"),
        )
        kept = await keep(node, ann, ("p.zip", archive), ("t.csv", CSV), query="?unpack=true")
        assert [one["name"] for one in kept] == ["a.json", "cohort/b c/ü.csv", "t.csv"]
        assert (await content(node, ann, kept[0]["fileId"])).body == JSON

    async def test_without_being_asked_an_archive_stays_one(self, node, ann):
        (kept,) = await keep(node, ann, ("p.zip", packed(("a.json", JSON))))
        assert (kept["name"], kept["type"]) == ("p.zip", "zip")

    async def test_archives_that_are_not_to_be_trusted_are_refused_whole(self, node, ann):
        link = zipfile.ZipInfo("link.csv")
        link.external_attr = 0o120777 << 16
        inner = packed(("a.json", JSON))
        bad = {
            "leads out": packed(("a.json", JSON), ("../../evil.json", JSON)),
            "absolute": packed(("/etc/evil.json", JSON)),
            "link": packed((link, b"/etc/passwd")),
            "inside": packed(("a.json", JSON), ("inner.zip", inner)),
            "bomb": packed(("a.json", b"[" + bytes(40 * MIB))),
            "not phenopackets": packed(("a.json", JSON), ("b.json", inner)),
            "no file": packed((".hidden", b"x")),
            "cannot be read": b"PK\x03\x04" + bytes(100),
        }
        before = _files(node), (await node.call("GET", "/files/", ann)).json
        for says, archive in bad.items():
            sent = form(("p.zip", archive))
            answer = await node.call("POST", "/files/?unpack=true", ann, data=sent)
            refused(node, answer, 400, path="$.file", says=says)
        assert (_files(node), (await node.call("GET", "/files/", ann)).json) == before

    async def test_ten_gigabytes_of_zeros_are_refused_by_their_announcement(self, node, ann):
        archive = bytearray(packed(("zeros.json", b"[" + bytes(20_000_000))))
        entry = archive.rindex(b"PK\x01\x02")
        archive[entry + 24 : entry + 28] = (4_000_000_000).to_bytes(4, "little")
        sent = form(("p.zip", bytes(archive)))
        answer = await node.call("POST", "/files/?unpack=true", ann, data=sent)
        refused(node, answer, 400, says="bomb")


class TestRanges:
    async def send(  # noqa: PLR0913, PLR0917 - what a range has to say
        self, node, who, name, first, piece, total, identifier
    ):
        last = first + len(piece) - 1
        headers = {"Content-Range": f"bytes {first}-{last}/{total}"}
        path = f"/files/upload?resumableIdentifier={identifier}&resumableFilename={name}"
        return await node.call("PUT", path, who, data=io.BytesIO(piece), headers=headers)

    async def test_ranges_in_order_make_the_file(self, node, ann):
        whole, identifier = table(20 * MIB), uuid4().hex
        cuts = [0, 1, 9 * MIB, len(whole)]
        for first, end in itertools.pairwise(cuts):
            answer = await self.send(
                node, ann, "r.csv", first, whole[first:end], len(whole), identifier
            )
            if end < len(whole):
                assert answer.status == 202
                assert (answer.json["received"], answer.json["complete"]) == (end, False)
        assert answer.status == 201
        assert answer.json["sha256"] == sha256(whole).hexdigest()
        assert answer.headers["Location"] == f"/files/{answer.json['fileId']}"
        state = (
            await node.call("GET", f"/files/upload?resumableIdentifier={identifier}", ann)
        ).json
        assert (state["complete"], state["fileId"]) == (True, answer.json["fileId"])
        asked = await node.call(
            "PUT",
            f"/files/upload?resumableIdentifier={identifier}&resumableFilename=r.csv",
            ann,
            headers={"Content-Range": f"bytes */{len(whole)}"},
        )
        assert asked.json["fileId"] == answer.json["fileId"]

    async def test_what_is_out_of_order_is_refused_and_told_where_to_go_on(self, node, ann):
        whole, identifier = fresh(), uuid4().hex
        total = len(whole)
        first = await self.send(node, ann, "o.csv", 0, whole[:10], total, identifier)
        assert first.status == 202
        for begin in (0, 5, 11):
            piece = whole[begin : begin + 5]
            answer = await self.send(node, ann, "o.csv", begin, piece, total, identifier)
            refused(node, answer, 409, says="go on with byte 10")
        other = await self.send(node, ann, "o.csv", 10, whole[10:20], total + 1, identifier)
        refused(node, other, 409, says="bytes")
        last = await self.send(node, ann, "o.csv", 10, whole[10:], total, identifier)
        assert last.status == 201

    async def test_the_wrong_content_is_refused_at_once(self, node, ann):
        picture = b"\x89PNG\0\0" * 20_000
        answer = await self.send(node, ann, "p.csv", 0, picture, 10 * MIB, uuid4().hex)
        refused(node, answer, 400, path="$.file")
        answer = await self.send(node, ann, "p.exe", 0, CSV, len(CSV), uuid4().hex)
        refused(node, answer, 400)

    @pytest.mark.parametrize("header", ["", "bytes 0-9/5", "bytes 0-1/100", "0-5/6", "bytes 5-"])
    async def test_a_range_that_cannot_be_is_refused(self, node, ann, header):
        headers = {"Content-Range": header} if header else {}
        path = f"/files/upload?resumableIdentifier={uuid4().hex}&resumableFilename=a.csv"
        answer = await node.call("PUT", path, ann, data=io.BytesIO(CSV), headers=headers)
        refused(node, answer, 400, path="$.Content-Range")

    async def test_what_came_before_a_body_broke_off_is_kept(self, node, ann):
        whole, identifier = table(20 * MIB), uuid4().hex
        sent = 11 * MIB
        await _broken_off(node, ann, identifier, whole, sent)
        seen = []

        async def settled():
            state = (
                await node.call("GET", f"/files/upload?resumableIdentifier={identifier}", ann)
            ).json
            seen.append(state["received"])
            return len(seen) > 3 and seen[-1] == seen[-3] > 0

        await until(settled)
        received = seen[-1]
        assert 0 < received <= sent
        answer = await self.send(
            node, ann, "b.csv", received, whole[received:], len(whole), identifier
        )
        assert answer.status == 201
        assert answer.json["sha256"] == sha256(whole).hexdigest()

    async def test_two_people_may_call_their_uploads_alike(self, node, ann, bob):
        identifier, first, second = uuid4().hex, fresh(), fresh()
        for who, whole in ((ann, first), (bob, second)):
            answer = await self.send(node, who, "x.csv", 0, whole[:9], len(whole), identifier)
            assert answer.status == 202
        for who, whole in ((ann, first), (bob, second)):
            answer = await self.send(node, who, "x.csv", 9, whole[9:], len(whole), identifier)
            assert answer.json["sha256"] == sha256(whole).hexdigest()

    async def test_a_source_takes_ranges_with_a_token(self, node):
        source = await node.source(f"ranges{uuid4().hex[:8]}")
        token = (await node.call("GET", f"/sources/upload-token?sourceId={source}")).json
        assert token["chunkSize"] == MIB
        path = f"/sources/{source}/upload?resumableIdentifier=a&resumableFilename=a.json"
        headers = {"Content-Range": f"bytes 0-{len(JSON) - 1}/{len(JSON)}"}
        without = await node.call("PUT", path, data=io.BytesIO(JSON), headers=headers)
        refused(node, without, 403)
        headers["X-Upload-Token"] = token["token"]
        answer = await node.call("PUT", path, data=io.BytesIO(JSON), headers=headers)
        assert answer.status == 200
        (file,) = (await node.call("GET", f"/sources/{source}/datafiles")).json
        assert file["dataFileId"] == answer.json["dataFileId"]
        assert "missing" not in file

    async def test_one_upload_has_one_form(self, node):
        source = await node.source(f"forms{uuid4().hex[:8]}")
        token = (await node.call("GET", f"/sources/upload-token?sourceId={source}")).json["token"]
        await node.piece(source, token, "a.json", JSON[:5], 1, 2, "same")
        path = f"/sources/{source}/upload?resumableIdentifier=same&resumableFilename=a.json"
        headers = {"Content-Range": f"bytes 0-4/{len(JSON)}", "X-Upload-Token": token}
        answer = await node.call("PUT", path, data=io.BytesIO(JSON[:5]), headers=headers)
        refused(node, answer, 409, says="other form")


class TestReading:
    async def test_ranges_of_the_content_are_given(self, node, ann):
        whole = b"id,x\n" + bytes(range(1, 256)) * 100
        (kept,) = await keep(node, ann, ("binary.csv", whole))
        answer = await content(node, ann, kept["fileId"], Range="bytes=5-10004")
        assert (answer.status, answer.body) == (206, whole[5:10005])
        assert answer.headers["Content-Range"] == f"bytes 5-10004/{len(whole)}"
        assert (await content(node, ann, kept["fileId"], Range="bytes=-7")).body == whole[-7:]
        beyond = await content(node, ann, kept["fileId"], Range=f"bytes={len(whole)}-")
        assert beyond.status == 416
        assert beyond.headers["Content-Range"] == f"bytes */{len(whole)}"
        tag = {"Range": "bytes=0-1", "If-Range": '"other"'}
        assert (await content(node, ann, kept["fileId"], **tag)).status == 200
        whole_answer = await content(node, ann, kept["fileId"])
        assert whole_answer.headers["ETag"] == f'"{kept["sha256"]}"'
        assert int(whole_answer.headers["Content-Length"]) == len(whole)
        assert "binary.csv" in whole_answer.headers["Content-Disposition"]

    async def test_several_files_come_as_one_zip(self, node, ann):
        first, second = fresh(), table(3 * MIB)
        one, two = await keep(node, ann, ("a.csv", first), ("a.csv", second))
        path = f"/files/archive?id={one['fileId']}&id={two['fileId']}"
        answer = await node.call("GET", path, ann)
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            assert archive.namelist() == ["a.csv", "a (2).csv"]
            assert archive.read("a.csv") == first
            assert archive.read("a (2).csv") == second
        refused(node, await node.call("GET", "/files/archive", ann), 400)

    async def test_pages_are_newest_first_and_own(self, node, ann, bob, carl):
        (kept,) = await keep(node, bob, ("bob.csv", fresh()))
        assert (await node.call("GET", "/files/?limit=200", carl)).json == []
        all_of_them = (await node.call("GET", "/files/?limit=200", ann)).json
        assert kept["fileId"] in {one["fileId"] for one in all_of_them}
        await keep(node, ann, ("1.csv", fresh()), ("2.csv", fresh()))
        both = (await node.call("GET", "/files/?limit=2", ann)).json
        pages = [(await node.call("GET", f"/files/?limit=1&page={n}", ann)).json for n in (0, 1)]
        assert [one for page in pages for one in page] == both
        assert both[0]["uploadedAt"] >= both[1]["uploadedAt"]

    async def test_only_those_who_manage_data_send_files(self, node, carl):
        refused(node, await node.call("POST", "/files/", carl, data=form(("a.csv", CSV))), 403)
        refused(node, await node.call("PUT", "/files/upload", carl, data=CSV), 403)

    async def test_a_foreign_id_answers_like_an_unknown_one(self, node, ann, carl):
        (kept,) = await keep(node, ann, ("mine.csv", fresh()))
        for method, path in (
            ("GET", "/files/{}"),
            ("GET", "/files/{}/content"),
            ("DELETE", "/files/{}"),
            ("GET", "/files/archive?id={}"),
        ):
            foreign = await node.call(method, path.format(kept["fileId"]), carl)
            unknown = await node.call(method, path.format(uuid4()), carl)
            refused(node, foreign, 404)
            assert foreign.json | {"traceId": ""} == unknown.json | {"traceId": ""}
        assert (await node.call("GET", f"/files/{kept['fileId']}", ann)).status == 200


class TestRemoval:
    async def test_equal_content_is_kept_once_until_the_last_goes(self, node, ann, bob):
        whole = fresh()
        (mine,) = await keep(node, ann, ("a.csv", whole))
        (theirs,) = await keep(node, bob, ("b.csv", whole))
        assert mine["fileId"] != theirs["fileId"]
        blob = on_disk(node, mine["sha256"])
        assert blob.stat().st_nlink == 1
        assert (await node.call("DELETE", f"/files/{mine['fileId']}", ann)).status == 200
        assert (await content(node, bob, theirs["fileId"])).body == whole
        assert (await node.call("DELETE", f"/files/{theirs['fileId']}", bob)).status == 200
        assert not blob.exists()
        refused(node, await node.call("DELETE", f"/files/{theirs['fileId']}", bob), 404)

    async def test_a_data_file_is_not_deleted_as_a_file(self, node):
        source = await node.source(f"held{uuid4().hex[:8]}")
        file_id = await node.upload(source, "a.json", JSON)
        shown = (await node.call("GET", f"/files/{file_id}")).json
        assert shown["reserved"] is True
        refused(node, await node.call("DELETE", f"/files/{file_id}"), 409, says="data file")
        assert (await node.call("DELETE", f"/datafiles/{file_id}")).status == 200
        refused(node, await node.call("GET", f"/files/{file_id}"), 404)

    async def test_a_file_goes_when_its_time_is_over(self, node, ann):
        (kept,) = await keep(
            node, ann, ("short.csv", fresh()), query=f"?expiresAt={int(time.time()) + 3}"
        )
        assert (await content(node, ann, kept["fileId"])).status == 200
        blob = on_disk(node, kept["sha256"])

        async def gone():
            answer = await node.call("GET", f"/files/{kept['fileId']}", ann)
            return answer.status == 404 and not blob.exists()

        await until(gone)

    async def test_a_file_removed_by_hand_is_forgotten(self, node, ann):
        (kept,) = await keep(node, ann, ("gone.csv", fresh()))
        on_disk(node, kept["sha256"]).unlink()

        async def forgotten():
            answer = await node.call("GET", f"/files/{kept['fileId']}", ann)
            return answer.status == 404

        await until(forgotten)

    async def test_a_data_file_removed_by_hand_is_told_and_not_ingested(self, node):
        source = await node.source(f"lost{uuid4().hex[:8]}")
        packet = uuid4().hex
        whole = JSON.replace(b"one", packet.encode())
        file_id = await node.upload(source, "a.json", whole)
        blob = on_disk(node, sha256(whole).hexdigest())
        blob.unlink()

        async def told():
            (file,) = (await node.call("GET", f"/sources/{source}/datafiles")).json
            return file.get("missing", False)

        await until(told)
        path = f"/sources/{source}/ingest"
        answer = await node.call("POST", path, json={"dataFileIDs": [file_id]})
        refused(node, answer, 409, says="missing")
        assert (await node.call("GET", f"/files/{file_id}")).json["ready"] is False
        refused(node, await content(node, "admin", file_id), 404)


async def _broken_off(node, who, identifier, whole, sent):
    """Send a part of a body, and hang up."""
    where = urlsplit(node.address)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = (
        f"PUT /files/upload?resumableIdentifier={identifier}&resumableFilename=b.csv HTTP/1.1\r\n"
        "Host: here\r\n"
        f"Authorization: Bearer {node.issuer.token(who)}\r\n"
        f"Content-Range: bytes 0-{len(whole) - 1}/{len(whole)}\r\n"
        f"Content-Length: {len(whole)}\r\n\r\n"
    )
    writer.write(head.encode() + whole[:sent])
    await writer.drain()
    await asyncio.sleep(0.5)
    writer.close()
    await writer.wait_closed()
    assert not await reader.read()


def _files(node):
    return {path for path in (node.folder / "data").rglob("*") if path.is_file()}
