"""Reports over HTTP: who may read them, what they say, and every refused row as CSV."""

import csv

import pytest


@pytest.fixture(scope="module")
async def ingested(node):
    """Ingest a table with refused rows, and return the paths of the report and of another one."""
    source_id, other = await node.source("reported"), await node.source("unreported")
    rows = "".join(f"s{n},red{',more' if n % 4 == 0 else ''}\n" for n in range(600))
    file = await node.upload(source_id, "t.csv", f"id,colour\n{rows}".encode())
    pipeline = {
        "pipelineType": "filePipeline",
        "pipelineName": "report",
        "attribute": "id",
        "internalDelimiter": ",",
    }
    made = await node.call("POST", "/pipelines/", json=pipeline)
    assert made.status == 200, made.body
    job = await node.ingest(source_id, file, pipelineID=made.json["pipelineId"])
    assert job["state"] == "complete", job
    return f"/sources/{source_id}/reports/{job['jobId']}", other, job


class TestReports:
    async def test_the_report_and_every_refused_row(self, node, ingested):
        path, _, job = ingested
        assert job["result"]["report"] == path
        report = (await node.call("GET", path)).json
        assert (report["rows"], report["refused"], report["jobId"]) == (600, 150, job["jobId"])
        (file,) = report["files"]
        assert (file["filename"], len(file["refusals"])) == ("t.csv", 100)
        answer = await node.call("GET", f"{path}/refusals")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        head, *rows = csv.reader(answer.body.decode().splitlines())
        assert head == ["file", "line", "reason"]
        assert [int(row[1]) for row in rows] == list(range(2, 602, 4))

    async def test_only_who_manages_data_may_read_it(self, node, ingested):
        path, *_ = ingested
        await node.person("reader")
        for each in (path, f"{path}/refusals"):
            assert (await node.call("GET", each, "reader")).status == 403
            assert (await node.call("GET", each, None)).status == 401

    async def test_what_is_not_there_answers_alike(self, node, ingested):
        path, other, job = ingested
        answers = [
            await node.call("GET", each + end)
            for each in (f"{path[:-3]}000", f"/sources/{other}/reports/{job['jobId']}")
            for end in ("", "/refusals")
        ]
        assert [answer.status for answer in answers] == [404] * 4
        assert {answer.json["error"] for answer in answers} == {"There is no such report."}


class TestSourceType:
    async def test_it_may_be_left_out_but_not_be_another(self, node):
        new = {"sourceName": "untyped", "displayName": "x"}
        made = await node.call("POST", "/sources/", json=new)
        assert (made.status, made.json["sourceType"]) == (200, "internal")
        path = f"/sources/{made.json['sourceId']}"
        assert (await node.call("PATCH", path, json={"owner": "me"})).status == 200
        for body in (new | {"sourceType": "other"}, {"sourceType": 5}):
            refused = await node.call("PATCH", path, json=body)
            assert (refused.status, refused.json["path"]) == (400, "$.sourceType")
