"""Every bad input is refused with a sentence to act on, and what was there answers as before."""

import asyncio
import io
import json
import re
import stat
import zipfile
from uuid import uuid4

import pytest
from yarl import URL

from tests.support.faults import PACKETS, failed, good_source, refused
from tests.support.nodes import Answer

STRANGE_IDS = ("nonsense", "%2e%2e%2fetc%2fpasswd", "%00", "$ne", "x" * 3000, "%ff%fe")
NOT_JSON = {
    "nothing": b"",
    "broken off": b'{"a": ',
    "words": b"hello",
    "two values": b"{} {}",
    "another encoding": '{"sourceName": "é"}'.encode("utf-16"),
    "bytes that are no text": b'{"sourceName": "\xff\xfe"}',
    "half a letter": rb'{"sourceName": "\ud800"}',
    "no number": b'{"a": NaN}',
    "far too deep": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
}
NO_OBJECT = (b"[]", b'"text"', b"null", b"12", b"true")
FILE_PIPELINE = {
    "pipelineType": "filePipeline",
    "pipelineName": "read",
    "subjectIdLocation": "attributeInFile",
    "grouping": "individual",
    "internalDelimiter": ",",
    "attribute": "id",
}


def remap_pipeline(pattern):
    sets = [{"patternSetType": "basic", "pattern": pattern, "replacement": "x"}]
    directive = {
        "directiveType": "termSet",
        "origin": "terms",
        "destination": "hpo",
        "patternSets": sets,
    }
    return {"pipelineType": "remapPipeline", "pipelineName": "map", "directives": [directive]}


def matching(pattern):
    return {"eav": [{"attribute": "a", "relation": "regexContains", "value": pattern}]}


def zipped(*entries, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def packet(number):
    return json.dumps(
        {
            "id": f"p{number}",
            "subject": {"id": f"s{number}", "sex": "FEMALE"},
            "phenotypicFeatures": [{"type": {"id": "HP:0001250", "label": "Seizure"}}],
            "metaData": {"phenopacketSchemaVersion": "2.0"},
        }
    )


PACKET = PACKETS[0].read_bytes()
ZIPS = {
    "bomb": (zipped(("a.json", PACKET), ("b.json", b" " * 40_000_000)), "zip bomb"),
    "climbs": (zipped(("../../etc/a.json", PACKET)), "leads out"),
    "climbs backwards": (zipped(("..\\..\\a.json", PACKET)), "leads out"),
    "absolute": (zipped(("/etc/a.json", PACKET)), "absolute path"),
    "drive": (zipped(("C:\\a.json", PACKET)), "absolute path"),
    "link": (zipped((link("a.json"), "/etc/passwd"), ("b.json", PACKET)), "link"),
    "nested": (zipped(("a.zip", zipped(("a.json", PACKET)))), "unpack it first"),
    "nothing in it": (zipped(("a.txt", "hello")), "no .json file"),
    "cut off": (zipped(("a.json", PACKET))[:-30], "cannot be read"),
    "damaged": (
        zipped(("a.json", PACKET))[:200].ljust(400, b"x") + zipped(("a.json", PACKET))[400:],
        "damaged",
    ),
    "one bad packet": (zipped(("a.json", PACKET), ("c/b.json", b'{"no": 1}')), "c/b.json"),
}
DOCUMENTS = {
    "another object": (b'{"hello": "world"}', ""),
    "no id": (b'{"subject": {"id": "x"}, "metaData": {}}', "id"),
    "wrong types": (b'{"id": "x", "subject": {"id": "x"}, "phenotypicFeatures": "many"}', ""),
    "a list of words": (b'["a", "b"]', "item 1"),
    "broken off": (PACKET[: len(PACKET) // 2], ""),
    "good and then bad": (b"[" + PACKET + b', {"no": 1}]', "item 2"),
    "something behind": (b"[" + PACKET + b"] x", "after"),
    "another encoding": (b'{"id": "\xe9t\xe9", "subject": {"id": "x"}}', ""),
}
TABLES = {
    "broken quoting": (b'id,terms\nP1,"a" b\nP2,c\n', "Line 2"),
    "quoting never closed": (b'id,terms\nP1,ok\nP2,"open\nP3,c\n', "Line 3"),
    "another encoding": (b"id,terms\nP1,ok\nP2,caf\xe9\n", "Line 3"),
    "wide letters": ("id,terms\nP1,ok\n".encode("utf-16"), "UTF-8"),
    "no id column": (b"name,terms\nP1,ok\n", "no column 'id'"),
    "another separator": (b"id;terms\nP1;ok\n", "no column 'id'"),
    "column without a name": (b"id,,terms\nP1,x,ok\n", "Column 2"),
    "blank": (b"\n\n  \n", "empty"),
}


@pytest.fixture(scope="module")
async def good(node):
    return await good_source(node, "wholesome")


@pytest.fixture(autouse=True)
async def unharmed(good):
    """After each fault the old data is whole and answers as before."""
    yield
    assert await good.now() == good.before


@pytest.fixture(scope="module")
async def reading(node):
    return await made(node, "/pipelines/", FILE_PIPELINE, "pipelineId")


@pytest.fixture(scope="module")
async def doors(node, good, reading):
    """Every address that takes JSON."""
    group = {"groupName": "g", "discoveryPolicy": "count"}
    group_id = await made(node, "/groups/", group, "groupId")
    return (
        ("POST", "/sources/"),
        ("PATCH", f"/sources/{good.source_id}"),
        ("PATCH", f"/sources/{good.source_id}/eav-index"),
        ("POST", f"/sources/{good.source_id}/ingest"),
        ("POST", f"/sources/{good.source_id}/remap"),
        ("POST", "/pipelines/"),
        ("PATCH", f"/pipelines/{reading}"),
        ("POST", "/groups/"),
        ("PATCH", f"/groups/{group_id}"),
        ("POST", "/users/"),
        ("POST", "/auth/token"),
        ("POST", "/record/"),
    )


async def made(node, path, new, name):
    answer = await node.call("POST", path, json=new)
    assert answer.status == 200, answer.body
    return answer.json[name]


async def ingested(good, name, content, pipeline_id=None):
    """Upload a file into the source with the good data, ingest it, and return the ended job."""
    file_id = await good.node.upload(good.source_id, name, content)
    more = {} if pipeline_id is None else {"pipelineID": pipeline_id}
    return await good.node.ingest(good.source_id, file_id, **more)


class TestJson:
    @pytest.mark.parametrize("kind", NOT_JSON)
    async def test_what_is_no_json_is_refused_everywhere(self, node, doors, kind):
        for method, path in doors:
            answer = await node.call(method, path, data=NOT_JSON[kind])
            refused(node, answer, 400)

    async def test_what_is_no_object_is_refused_everywhere(self, node, doors):
        for method, path in doors:
            for content in NO_OBJECT:
                refused(node, await node.call(method, path, data=content), 400, path="$")

    async def test_an_unknown_field_is_named(self, node, doors):
        for method, path in doors:
            if path == "/auth/token":
                continue  # other programs send fields of their own there (RFC 6749)
            answer = await node.call(method, path, json={"surprise": 1})
            refused(node, answer, 400)
        query = {"hpo": [{"terms": [], "surprise": 1}]}
        answer = await node.call("POST", "/record/", json=query)
        refused(node, answer, 400, path="$.hpo[0]", says="surprise")

    @pytest.mark.parametrize("size", [2**20 + 1, 20 * 2**20])
    async def test_too_much_is_refused_everywhere(self, node, doors, size):
        content = b'{"a": "' + b"x" * size + b'"}'
        for method, path in doors if size < 2**21 else doors[-1:]:
            refused(node, await node.call(method, path, data=io.BytesIO(content)), 413)

    async def test_too_much_without_an_announced_length_is_refused(self, node):
        async def pieces():
            for _ in range(40):
                yield b" " * 2**16

        refused(node, await node.call("POST", "/record/", data=pieces()), 413)

    async def test_a_form_that_is_too_large_is_refused(self, node):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        content = b"code=" + b"x" * 2**21
        answer = await node.call(
            "POST", "/auth/token", None, data=io.BytesIO(content), headers=headers
        )
        refused(node, answer, 413)

    async def test_a_wrong_type_is_refused_with_its_path(self, node, good, reading):
        source, files = f"/sources/{good.source_id}", {"dataFileIDs": []}
        new_group = {"groupName": "g", "discoveryPolicy": "count"}
        new_source = {"sourceType": "internal", "sourceName": "a", "displayName": "a"}
        cases = (
            ("POST", "/sources/", new_source | {"online": "yes"}, "$.online"),
            ("POST", "/sources/", new_source | {"sourceName": "a b"}, "$.sourceName"),
            ("POST", "/sources/", new_source | {"sourceId": "17"}, "$.sourceId"),
            ("POST", "/sources/", new_source | {"sourceType": "moon"}, "$.sourceType"),
            ("PATCH", source, {"sourceType": "internal", "displayName": 1}, "$.displayName"),
            ("PATCH", f"{source}/eav-index", {"attributes": []}, "$.attributes"),
            ("POST", f"{source}/ingest", {"dataFileIDs": "all"}, "$.dataFileIDs"),
            ("POST", f"{source}/ingest", files | {"pipelineID": 1}, "$.pipelineID"),
            ("POST", f"{source}/remap", {"dataFileIDs": [1]}, "$.dataFileIDs[0]"),
            ("POST", "/pipelines/", FILE_PIPELINE | {"batchSize": 1.5}, "$.batchSize"),
            ("PATCH", f"/pipelines/{reading}", {"pipelineName": 1}, "$.pipelineName"),
            ("POST", "/groups/", new_group | {"discoveryPolicy": "some"}, "$.discoveryPolicy"),
            ("POST", "/groups/", new_group | {"assignedUsers": [1]}, "$.assignedUsers[0]"),
            ("POST", "/users/", {"username": "a b", "email": "a@b"}, "$.username"),
            ("POST", "/auth/token", {"grant_type": "password"}, "$.grant_type"),
            ("POST", "/record/", {"hpo": {}}, "$.hpo"),
            ("POST", "/record/", {"hpo": [{"terms": [1]}]}, "$.hpo[0].terms[0]"),
            ("POST", "/record/", {"hpo": [{"terms": ["seizure"]}]}, "$.hpo[0].terms[0]"),
            ("POST", "/record/", {"subject": {"gender": "x"}}, "$.subject.gender"),
            (
                "POST",
                "/record/",
                {"subject": {"age": {"min": 139.0, "max": 1}}},
                "$.subject.age.min",
            ),
            ("POST", "/record/", {"subject": {"age": {"min": 0, "max": 101}}}, "$.subject.age.max"),
            ("POST", "/record/", {"advanced": {"granularity": "all"}}, "$.advanced.granularity"),
            ("POST", "/record/", {"hpo": [{"terms": []}] * 101}, "$.hpo"),
        )
        for method, path, sent, where in cases:
            refused(node, await node.call(method, path, json=sent), 400, path=where)

    async def test_a_wrong_number_in_an_address_is_refused(self, node):
        for path in ("/jobs/?limit=x", "/jobs/?page=-1", "/record/history?limit=1e9"):
            refused(node, await node.call("GET", path), 400)


class TestUnknownIds:
    async def test_every_address_with_an_id_says_that_there_is_none(self, node, app):
        files, group = {"dataFileIDs": []}, {"groupName": "g"}
        bodies = {
            ("PATCH", "source_id"): {"sourceType": "internal"},
            ("PATCH", "eav-index"): {},
            ("POST", "ingest"): files,
            ("POST", "remap"): files | {"pipelineID": "p"},
            ("POST", "dry-run"): {"dataFileID": "f"},
            ("PUT", "attributes"): {"attributes": []},
            ("PATCH", "attributes"): {},
            ("PATCH", "pipeline_id"): {},
            ("PATCH", "group_id"): group,
            ("PATCH", "user_id"): {"affiliation": "Clinic"},
            ("POST", "approve"): {},
        }
        seen = set()
        for rule in app.url_map.iter_rules():
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                # This instance has no mail server, and says that before all else.
                if not rule.arguments or rule.rule.startswith(("/openapi", "/mails")):
                    continue
                body = bodies.get((method, rule.rule.rpartition("/")[2].strip("<>")))
                for strange in (str(uuid4()), *STRANGE_IDS):
                    path = re.sub("<[^>]+>", lambda _, strange=strange: strange, rule.rule)
                    sent = {} if body is None else {"json": body}
                    answer = await _raw(node, method, path, **sent)
                    refused(node, answer, 404)
                seen.add((method, rule.rule))
        assert len(seen) > 20

    async def test_unknown_ids_in_bodies_are_named_by_their_path(self, node, good, reading):
        unknown = str(uuid4())
        source = f"/sources/{good.source_id}"
        file_id = (await node.call("GET", f"{source}/datafiles")).json[0]["dataFileId"]
        group = {"groupName": "g", "discoveryPolicy": "count"}
        cases = (
            ("ingest", {"dataFileIDs": [unknown]}, "$.dataFileIDs[0]"),
            ("ingest", {"dataFileIDs": [file_id, "../x"]}, "$.dataFileIDs[1]"),
            ("ingest", {"dataFileIDs": [file_id], "pipelineID": unknown}, "$.pipelineID"),
            ("remap", {"dataFileIDs": [file_id], "pipelineID": unknown}, "$.pipelineID"),
            ("remap", {"dataFileIDs": [file_id], "pipelineID": reading}, "$.pipelineID"),
        )
        for action, sent, where in cases:
            answer = await node.call("POST", f"{source}/{action}", json=sent)
            refused(node, answer, 400, path=where)
        for name in ("assignedUsers", "assignedSources"):
            answer = await node.call("POST", "/groups/", json=group | {name: [unknown]})
            refused(node, answer, 400, path=f"$.{name}[0]")
        answer = await node.call("POST", "/groups/", json=group | {"networkId": unknown})
        refused(node, answer, 400, path="$.networkId")
        answer = await node.call("POST", "/record/", json={}, headers={"Network-Id": unknown})
        refused(node, answer, 404)
        answer = await node.call("GET", f"/sources/upload-token?sourceId={unknown}")
        refused(node, answer, 404)


class TestTables:
    @pytest.mark.parametrize("kind", TABLES)
    async def test_a_fault_fails_the_ingest_and_says_where(self, good, reading, kind):
        content, says = TABLES[kind]
        failed(good.node, await ingested(good, "t.csv", content, reading), says)

    async def test_ragged_rows_are_refused_and_told_with_their_lines(self, node, reading):
        source_id = await node.source("ragged")
        content = b"id,terms\nP1,ok\nP2,a,b,c\nP3\n,nobody\nP4,ok\n"
        file_id = await node.upload(source_id, "t.csv", content)
        job = await node.ingest(source_id, file_id, pipelineID=reading)
        assert job["state"] == "complete", job
        assert job["result"]["rows"] == 5
        told = {refusal["line"]: refusal["reason"] for refusal in job["result"]["refusals"]}
        assert set(told) == {3, 5}
        assert told[3] == "4 cells for 2 columns"
        assert job["result"]["refused"] == 2

    async def test_an_empty_file_is_refused(self, node, good, reading):
        token = await node.call("GET", f"/sources/upload-token?sourceId={good.source_id}")
        answer = await node.piece(good.source_id, token.json["token"], "none.csv", b"")
        if answer.status == 200:
            answer_file = answer.json["dataFileId"]
            job = await node.ingest(good.source_id, answer_file, pipelineID=reading)
            failed(node, job, "empty")
        else:
            refused(node, answer, 400)

    async def test_a_table_without_a_pipeline_is_refused_at_once(self, node, good):
        file_id = await node.upload(good.source_id, "t.csv", b"id,a\n1,2\n")
        sent = {"dataFileIDs": [file_id]}
        answer = await node.call("POST", f"/sources/{good.source_id}/ingest", json=sent)
        refused(node, answer, 400, path="$.pipelineID")


class TestPhenopackets:
    @pytest.mark.parametrize("kind", DOCUMENTS)
    async def test_what_is_no_phenopacket_fails_the_ingest(self, good, kind):
        content, says = DOCUMENTS[kind]
        failed(good.node, await ingested(good, "p.json", content), says)

    @pytest.mark.parametrize("kind", ZIPS)
    async def test_an_archive_that_cannot_be_trusted_fails_the_ingest(self, good, kind):
        content, says = ZIPS[kind]
        failed(good.node, await ingested(good, "z.zip", content), says)

    async def test_a_bad_file_takes_the_good_ones_of_its_ingest_with_it(self, node, good):
        first = await node.upload(good.source_id, "new.json", packet(1).encode())
        second = await node.upload(good.source_id, "bad.json", b'{"no": 1}')
        failed(node, await node.ingest(good.source_id, first, second))


class TestPatterns:
    @pytest.mark.parametrize("pattern", ["(?=a)b", "(?<!a)b", r"(a)\1", "(", "a" * 5000])
    async def test_what_re2_cannot_do_is_refused_with_its_path(self, node, pattern):
        answer = await node.call("POST", "/record/", json=matching(pattern))
        refused(node, answer, 400, path="$.eav[0].value")
        answer = await node.call("POST", "/pipelines/", json=remap_pipeline(pattern))
        refused(node, answer, 400, path="$.directives[0].patternSets[0].pattern")

    async def test_look_around_is_named(self, node):
        answer = await node.call("POST", "/record/", json=matching("(?=a)b"))
        refused(node, answer, 400, says="Look-around")
        answer = await node.call("POST", "/pipelines/", json=remap_pipeline("(?=a)b"))
        refused(node, answer, 400, says="look-around")


class TestAtOnce:
    async def test_a_second_ingest_into_a_source_is_refused(self, node):
        source_id = await node.source("twice")
        content = zipped(*((f"{number}.json", packet(number)) for number in range(1500)))
        file_id = await node.upload(source_id, "many.zip", content)
        asked = {"dataFileIDs": [file_id]}
        first = await node.call("POST", f"/sources/{source_id}/ingest", json=asked)
        assert first.status == 200
        for method, path, sent in (
            ("POST", f"/sources/{source_id}/ingest", {"json": asked}),
            ("POST", f"/sources/{source_id}/index", {}),
            ("DELETE", f"/datafiles/{file_id}", {}),
        ):
            refused(node, await node.call(method, path, **sent), 409, says="wait")
        job = await node.ended(first.json["jobId"])
        assert (job["state"], job["result"]["subjects"]) == ("complete", 1500)

    async def test_many_ingests_at_once_are_one(self, node):
        source_id = await node.source("crowd")
        file_id = await node.upload(source_id, "one.json", packet(1).encode())
        asked = {"dataFileIDs": [file_id]}
        path = f"/sources/{source_id}/ingest"
        answers = await asyncio.gather(*(node.call("POST", path, json=asked) for _ in range(8)))
        taken = [answer for answer in answers if answer.status == 200]
        for answer in answers:
            if answer.status != 200:
                refused(node, answer, 409)
        assert taken
        for answer in taken:
            assert (await node.ended(answer.json["jobId"]))["state"] == "complete"

    async def test_a_source_deleted_during_its_ingest_is_gone_with_all_of_it(self, node):
        source_id = await node.source("doomed")
        content = zipped(*((f"{number}.json", packet(number)) for number in range(3000)))
        file_id = await node.upload(source_id, "many.zip", content)
        asked = {"dataFileIDs": [file_id]}
        answer = await node.call("POST", f"/sources/{source_id}/ingest", json=asked)
        job = answer.json
        while job.get("state", "waiting") == "waiting":
            job = (await node.call("GET", f"/jobs/{answer.json['jobId']}")).json
        assert (await node.call("DELETE", f"/sources/{source_id}")).status == 200
        job = await node.ended(answer.json["jobId"])
        assert job["state"] in {"cancelled", "error"}, job
        refused(node, await node.call("GET", f"/sources/{source_id}"), 404)
        refused(node, await node.call("GET", f"/datafiles/{file_id}/sample"), 404)
        refused(node, await node.call("DELETE", f"/sources/{source_id}"), 404)
        data = node.folder / "data"
        left = [path for kind in ("segments", "work") for path in data.glob(f"{kind}/{source_id}")]
        assert not [each for folder in left for each in folder.iterdir()]


async def _raw(node, method, path, **sent):
    """Send an address exactly as it is written here."""
    headers = {"Authorization": f"Bearer {node.issuer.token('admin')}"}
    address = URL(node.address + path, encoded=True)
    async with node.client.request(method, address, headers=headers, **sent) as response:
        return Answer(response.status, response.headers, await response.read())
