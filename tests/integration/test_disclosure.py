"""What leaves the house, over HTTP: depths, hidden sources, a planted canary in every channel."""

import json
import logging
import re
from uuid import uuid4

import aiohttp
import pytest

from cvf_app.backends import log
from cvf_app.child import ChildRaised
from cvf_app.loops import in_process
from cvf_app.records import service
from cvf_app.wire import Wire
from tests.support.world import (
    CANARY,
    CANARY_ID,
    CANARY_VALUE,
    DEPTHS,
    SUBJECTS,
    Written,
    disclosing,
    packet,
    seen,
)

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
ASKERS = (None, "discstranger", "discbelow", "discserver")


@pytest.fixture(scope="module")
def written(app):  # noqa: ARG001 - making an app sets up the logger anew, so that comes first
    """Everything that the app's logger and all others write, from the lowest level on."""
    log.configure("cv3", "DEBUG")
    made = Written()

    class Keep(logging.Handler):
        def emit(self, record):
            made.lines.append(self.format(record))

    keep = Keep(logging.DEBUG)
    loggers = (logging.getLogger("cv3"), logging.getLogger())
    for each in loggers:
        each.addHandler(keep)
    yield made
    for each in loggers:
        each.removeHandler(keep)
    log.configure("cv3", "INFO")


@pytest.fixture(autouse=True)
def _quiet(world, written):  # noqa: ARG001 - making the world is watched too
    """Whatever a test did, also in the background: nothing of it stands in the log."""
    yield
    assert CANARY not in written.fresh()


@pytest.fixture(scope="module")
async def world(node, written):  # noqa: ARG001 - what is written meanwhile is watched
    return await disclosing(node, "disc")


def told(answer):
    """Return the depth that an answer's fields show, after checking that they are right."""
    assert answer["exist"] is True
    details = answer.get("resultDetails")
    if details is None:
        assert answer.get("recordCount", 3) == 3
        return "count" if "recordCount" in answer else "boolean"
    assert answer["recordCount"] == 3
    subjects = details["subjects"]
    assert {each["subjectId"] for each in subjects} == SUBJECTS
    if all(each.keys() == {"subjectId"} for each in subjects):
        return "list"
    assert all("HP:0001250".removeprefix("HP:") in json.dumps(each) for each in subjects)
    return "detailedList"


class TestDepths:
    async def test_five_policies_give_five_depths_of_one_answer(self, world):
        answers = await world.ask("discreader", hpo=[{"terms": ["HP:0001250"]}])
        assert {name: told(answer) for name, answer in answers.items()} == {
            depth: depth for depth in DEPTHS[1:]
        }

    @pytest.mark.parametrize("asked", DEPTHS)
    async def test_a_finer_request_is_lowered_and_a_coarser_one_honoured(self, world, asked):
        answers = await world.ask("discreader", advanced={"granularity": asked})
        rank = DEPTHS.index
        wanted = {} if asked == "noAccess" else {d: min(d, asked, key=rank) for d in DEPTHS[1:]}
        assert {name: told(answer) for name, answer in answers.items()} == wanted

    async def test_the_deepest_of_several_groups_wins(self, world):
        user_id = await world.node.person("discseveral")
        for depth in ("boolean", "list", "noAccess", "count"):
            await world.node.group(depth, [user_id], [world.sources["noAccess"]])
        answers = await world.ask("discseveral")
        assert {name: told(answer) for name, answer in answers.items()} == {"noAccess": "list"}

    async def test_a_role_gives_no_answers(self, world):
        for role in ("developer", "dataAdmin", "serverAdmin"):
            await world.node.person(f"discrole{role}", role)
            assert await world.ask(f"discrole{role}") == {}

    async def test_the_policy_range_is_refused_with_a_sentence(self, world):
        new = {"groupName": "r", "discoveryPolicy": "range"}
        made = await world.node.call("POST", "/groups/", json=new)
        group = f"/groups/{world.groups['count']}"
        changed = await world.node.call("PATCH", group, json={"discoveryPolicy": "range"})
        for answer in (made, changed):
            assert answer.status == 400
            assert answer.json["path"] == "$.discoveryPolicy"
            assert "'range' is not available yet" in answer.json["error"]
        kept = await world.node.call("GET", group)
        assert kept.json["discoveryPolicy"] == "count"

    async def test_a_plain_user_sees_counts_from_count_on_and_never_values(self, world):
        answer = await world.node.call("GET", "/sources/", "discreader")
        seen = {one["sourceName"].removeprefix("disc"): one for one in answer.json}
        assert seen.keys() == set(DEPTHS[1:])
        for depth, source in seen.items():
            alone = await world.node.call("GET", f"/sources/{source['sourceId']}", "discreader")
            assert alone.json == source
            index = source["recordIndex"]
            assert "eavIndex" not in index
            assert index.get("recordCount") == (None if depth == "boolean" else 3)

    async def test_a_stranger_and_who_is_below_see_nothing(self, world):
        for who in ("discstranger", "discbelow", "discserver"):
            assert (await world.node.call("GET", "/sources/", who)).json == []
            assert await world.ask(who) == {}


def source_rules(app):
    """Yield the addresses of every route that takes a source's id, with `{id}` in its place."""
    for rule in app.url_map.iter_rules():
        if "source_id" in rule.arguments:
            assert rule.arguments <= {"source_id", "job_id"}, rule
            yield rule.rule.replace("<source_id>", "{id}").replace("<job_id>", "{job}")


def valid_body(method, path, source_id, file_id):
    """Return what a request needs to get as far as it can."""
    if method in {"GET", "HEAD", "OPTIONS", "DELETE"}:
        return {}
    if path.endswith("/upload"):
        form = aiohttp.FormData()
        for name in ("resumableChunkNumber", "resumableTotalChunks"):
            form.add_field(name, "1")
        form.add_field("file", b"{}", filename="a.json")
        return {"data": form}
    group = {"groupName": "g", "discoveryPolicy": "list", "assignedSources": [source_id]}
    bodies = {
        r".*/ingest": {"dataFileIDs": [file_id]},
        r".*/remap": {"dataFileIDs": [file_id], "pipelineID": "p"},
        r".*/dry-run": {"dataFileID": file_id},
        r".*/attributes": {"attributes": []},
        r".*/eav-index": {"attributes": {"cohort": "Cohort"}},
        r"/groups/.*": group,
        r".*": {"sourceType": "internal", "displayName": "changed"},
    }
    return {"json": next(body for shape, body in bodies.items() if re.fullmatch(shape, path))}


class TestHidden:
    @pytest.mark.parametrize("who", ASKERS)
    async def test_routes_answer_alike_for_a_hidden_and_a_random_id(self, app, world, who):
        paths = [*source_rules(app), "/sources/upload-token?sourceId={id}"]
        assert len(paths) >= 14
        for path in paths:
            for method in METHODS:
                hidden, random = [
                    await self.send(world, who, (method, path), ids)
                    for ids in (
                        (world.sources["noAccess"], world.files["noAccess"], world.jobs[0]),
                        (str(uuid4()), str(uuid4()), str(uuid4())),
                    )
                ]
                assert seen(hidden) == seen(random), (method, path)
                if method not in {"OPTIONS", "HEAD"}:
                    assert hidden.status in ({401, 405} if who is None else {403, 404, 405})
        there = await world.node.call("GET", f"/sources/{world.sources['noAccess']}")
        assert there.json["displayName"] == "discnoAccess"

    async def send(self, world, who, request, ids):
        method, path = request
        headers = {"X-Upload-Token": "x"}
        sent = valid_body(method, path, *ids[:2])
        named = path.format(id=ids[0], job=ids[-1])
        return await world.node.call(method, named, who, headers=headers, **sent)

    @pytest.mark.parametrize("who", ASKERS)
    async def test_ids_of_what_belongs_to_a_source_answer_alike(self, world, who):
        pairs = [
            (method, path, real)
            for real, paths in (
                (
                    world.files["noAccess"],
                    ["/datafiles/{id}", "/datafiles/{id}/sample", "/files/{id}"],
                ),
                (world.files["noAccess"], ["/files/{id}/content", "/files/archive?id={id}"]),
                (
                    world.jobs[0],
                    ["/jobs/{id}", "/jobs/{id}/events", "/jobs/{id}/log", "/jobs/{id}/cancel"],
                ),
                (world.groups["noAccess"], ["/groups/{id}"]),
            )
            for path in paths
            for method in METHODS
        ]
        for method, path, real in pairs:
            hidden, random = [
                await self.send(world, who, (method, path), (each, each))
                for each in (real, str(uuid4()))
            ]
            assert seen(hidden) == seen(random), (method, path)

    @pytest.mark.parametrize("who", [None, "discstranger", "discbelow"])
    async def test_groups_with_a_hidden_and_a_random_source_answer_alike(self, world, who):
        for method, path in (("POST", "/groups/"), ("PATCH", f"/groups/{world.groups['list']}")):
            hidden, random = [
                await self.send(world, who, (method, path), (each, ""))
                for each in (world.sources["noAccess"], str(uuid4()))
            ]
            assert seen(hidden) == seen(random)

    @pytest.mark.parametrize("who", ASKERS)
    async def test_queries_answer_alike_in_all_their_forms(self, world, who):
        hidden, random = [
            await self.asked(world, who, each) for each in (world.sources["noAccess"], str(uuid4()))
        ]
        assert hidden == random

    async def asked(self, world, who, source_id):
        query = {"sources": {"sources": [source_id]}}
        call = world.node.call
        waited = {"Prefer": "wait=30"}
        answers = [await call("POST", "/record/", who, json=query, headers=waited)]
        if who is not None:
            query_id = answers[0].json["query"]["messageAttributes"]["messageId"]
            answers += [
                await call("GET", path.format(query_id), who)
                for path in ("/record/{}", "/record/history/{}", "/record/{}/events")
            ]
            answers.append(await call("GET", "/record/history?limit=1", who))
        return [seen(answer) for answer in answers]


class Spill(Wire, frozen=True, kw_only=True):
    """What the child of the next test gets."""

    value: str


def spill(task: Spill, _progress) -> Spill:
    held = {"subject": task.value}
    raise KeyError(held["subject"])


HEADERLESS = f"{CANARY_ID},{CANARY_VALUE}\nDISC-2,b\n".encode()
UNCLOSED = f'id,value\n{CANARY_ID},"{CANARY_VALUE}\n'.encode()
RAGGED = f"id,value\n{CANARY_ID},{CANARY_VALUE}\n{CANARY_ID},a,{CANARY_VALUE}\n".encode()
PIPELINE = {"pipelineType": "filePipeline", "pipelineName": "discp", "attribute": "id"}


class TestCanary:
    async def test_it_leaves_from_list_on(self, world):
        answers = await world.ask("discreader")
        assert CANARY_ID in json.dumps(answers["list"])
        assert CANARY_VALUE not in json.dumps(answers["list"])
        assert CANARY_VALUE in json.dumps(answers["detailedList"])

    async def test_it_never_leaves_below_list(self, world):
        who = "discserver"
        call = world.node.call
        filters = [{}, {"hpo": [{"terms": ["HP:0001250"]}]}, {"ordo": [{"terms": ["ORPHA:33"]}]}]
        filters.append({"advanced": {"granularity": "detailedList"}})
        texts = []
        for query in filters:
            headers = {"Prefer": "wait=30"}
            waited = await call("POST", "/record/", "disccounter", json=query, headers=headers)
            assert {one["sourceName"] for one in waited.json["responses"][0]["messageData"]} == {
                "discboolean",
                "disccount",
            }
            query_id = waited.json["query"]["messageAttributes"]["messageId"]
            texts.append(waited.body)
            texts += [
                (await call("GET", path.format(query_id), "disccounter")).body
                for path in ("/record/{}", "/record/{}/events", "/record/history/{}")
            ]
        paths = ["/record/history", "/sources/", "/jobs/", "/auth/user-info", "/networks/"]
        paths += [f"/sources/{each}" for each in world.sources.values()]
        paths += [f"/sources/{each}/eav-index" for each in world.sources.values()]
        paths += [f"/datafiles/{each}/sample" for each in world.files.values()]
        for each in ("disccounter", "discbelow", who):
            texts += [(await call("GET", path, each)).body for path in paths]
        wrong = [{"eav": [{"attribute": "cohort", "relation": "regexContains", "value": "("}]}]
        wrong += [{"hpo": [{"terms": ["CHP"]}]}, {"hpo": 1}, {"nothing": 1}]
        for query in wrong:
            answer = await call("POST", "/record/", "disccounter", json=query)
            assert answer.status == 400
            texts.append(answer.body)
        metrics = await call("GET", "/metrics", None, headers={"Authorization": "Bearer scrape"})
        assert metrics.status == 200
        texts.append(metrics.body)
        assert not [text for text in texts if CANARY.encode() in text]

    async def test_a_history_lists_no_subjects_at_any_depth(self, world):
        await world.ask("discreader")
        answer = await world.node.call("GET", "/record/history", "discreader")
        assert answer.status == 200
        assert CANARY.encode() not in answer.body

    async def test_jobs_that_read_it_or_fail_on_it_do_not_tell_it(self, world, written):
        made = await world.node.call("POST", "/pipelines/", json=PIPELINE)
        pipeline = {"pipelineID": made.headers["Location"].rpartition("/")[2]}
        failed = [
            await world.fail("a.csv", HEADERLESS, **pipeline),
            await world.fail("b.csv", UNCLOSED, **pipeline),
            await world.fail("c.json", packet(CANARY_ID, phenotypicFeatures=CANARY_VALUE)),
            await world.fail(
                "d.json", packet(CANARY_ID, metaData={"phenopacketSchemaVersion": "1"})
            ),
            await world.fail("e.json", packet(CANARY_ID + "x" * 5000)),
            await world.fail("f.json", packet(CANARY_ID)[:-1]),
        ]
        assert [job["state"] for job in failed] == ["error"] * len(failed)
        assert all(job["status"][-1]["error"]["cause"] == "input" for job in failed)
        await self.remap(world, pipeline)
        assert sum('"job_failed"' in line for line in written.lines) == len(failed)
        paths = [
            f"/jobs/{job_id}{tail}" for job_id in world.jobs for tail in ("", "/events", "/log")
        ]
        for path in ("/jobs/?limit=200", *paths):
            assert CANARY.encode() not in (await world.node.call("GET", path)).body

    async def remap(self, world, pipeline):
        """Take in a table of which a row is refused and a cell gives nothing."""
        set_ = {"patternSetType": "basic", "pattern": "HP:[0-9]{7}", "replacement": r"\0"}
        directive = {"directiveType": "termSet", "destination": "hpo", "origin": "value"}
        new = {"pipelineType": "remapPipeline", "pipelineName": "discr"}
        new["directives"] = [directive | {"patternSets": [set_]}]
        made = await world.node.call("POST", "/pipelines/", json=new)
        assert made.status == 200, made.body
        remap_id = made.headers["Location"].rpartition("/")[2]
        source_id = await world.node.source("discremap")
        file_id = await world.node.upload(source_id, "t.csv", RAGGED)
        read = await world.node.ingest(source_id, file_id, **pipeline)
        asked = {"dataFileIDs": [file_id], "pipelineID": remap_id}
        begun = await world.node.call("POST", f"/sources/{source_id}/remap", json=asked)
        remapped = await world.node.ended(begun.json["jobId"])
        for job in (read, remapped):
            assert job["state"] == "complete", job
            assert job["result"]["refused"] == 1
            world.jobs.append(job["jobId"])
        assert remapped["result"]["unmatched"] == {"value": 1}

    async def test_a_source_that_fails_leaves_the_others_and_tells_nothing(
        self, world, written, monkeypatch
    ):
        def failing(generation, compiled):
            held = generation and evaluated(generation, compiled).documents(10)
            raise KeyError(CANARY_ID, held)

        evaluated = service.evaluate
        monkeypatch.setattr(service, "evaluate", failing)
        query = {"sources": {"sources": [world.sources["count"]]}}
        headers = {"Prefer": "wait=30"}
        answer = await world.node.call(
            "POST", "/record/", "disccounter", json=query, headers=headers
        )
        assert answer.json["status"] == "failed"
        assert answer.json["responses"][0].get("messageData", []) == []
        assert CANARY.encode() not in answer.body
        (line,) = [each for each in written.lines if '"source_failed"' in each]
        assert json.loads(line)["exception"][0]["exc_type"] == "KeyError"

    async def test_a_child_that_fails_tells_only_where(self, written, capfd):
        with pytest.raises(ChildRaised) as raised:
            await in_process(spill, Spill(value=CANARY_ID))
        assert str(raised.value) == "KeyError"
        (line,) = [each for each in written.lines if '"child_raised"' in each]
        frames = json.loads(line)["where"][0]["frames"]
        assert frames[-1]["name"] == "spill"
        assert CANARY not in "".join(capfd.readouterr())
