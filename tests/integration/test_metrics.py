"""Metrics as Prometheus sees them: a scrape, the dashboard's queries, alerts, several processes."""

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import structlog
import yaml

from cvf_app import metrics
from tests.support import prometheus
from tests.support.services import Missing, free_port

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations"
RULES = OPERATIONS / "alert-rules.yml"
CASES = ROOT / "tests" / "data" / "operations" / "alert-rules.test.yml"
DASHBOARD = json.loads((OPERATIONS / "grafana-dashboard.json").read_text())
QUERIES = [
    (panel["title"], target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
KEY = "scrape"
PACKET = b"""{"id": "metrics-1", "subject": {"id": "metrics-1", "sex": "FEMALE"},
"phenotypicFeatures": [{"type": {"id": "HP:0001250", "label": "Seizure"}}],
"metaData": {"phenopacketSchemaVersion": "2.0"}}"""


def promtool(*arguments: str, given: bytes = b"") -> str:
    """Run promtool, which must have nothing to say against it; return what it says."""
    try:
        ended = prometheus.promtool(*arguments, given=given)
    except Missing as reason:
        pytest.skip(str(reason))
    told = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, told
    return told


async def traffic(node, who: str, source: str) -> None:
    """Do a little of everything that is counted, but for jobs."""
    await node.upload(source, f"{uuid4().hex}.json", PACKET)
    for filters in ({}, {"hpo": [{"terms": ["HP:0001250"]}]}):
        for _ in range(2):
            assert len(await node.ask(filters, who)) == 1
    # The provider is asked, and refuses.
    fields = {"grant_type": "refresh_token", "refresh_token": "none"}
    await node.call("POST", "/auth/token", None, json=fields)
    structlog.get_logger("cv3.test").error("something_to_count")
    await node.call("GET", "/nothing/here")


@pytest.fixture(scope="module")
async def busy(node):
    """The node, with traffic until the end."""
    name = f"metrics{uuid4().hex[:8]}"
    user, source = await node.person(name), await node.source(name)
    await node.group("count", [user], [source], name)

    asked = {"dataFileIDs": [await node.upload(source, "first.json", PACKET)]}
    begun = await node.call("POST", f"/sources/{source}/ingest", json=asked)
    # Jobs get the time that nobody else wants, which is little on a busy machine.
    assert (await node.ended(begun.json["jobId"], 250))["state"] == "complete"

    async def go_on() -> None:
        while True:
            await traffic(node, name, source)
            await asyncio.sleep(0.2)

    await traffic(node, name, source)
    task = asyncio.create_task(go_on())
    yield node
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="module")
async def scraped(busy, tmp_path_factory):
    """The address of a Prometheus that scrapes the node: with its key, with another, without."""
    folder = tmp_path_factory.mktemp("prometheus")
    target = busy.address.removeprefix("http://")
    jobs = [_scrape("cafe-variome", target, KEY), _scrape("wrong", target, "another")]
    jobs.append(_scrape("without", target, ""))
    given = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": jobs,
    }
    text = yaml.safe_dump(given)
    try:
        with prometheus.prometheus(folder, text) as address:
            await _ready(busy, address)
            yield address
    except Missing as reason:
        pytest.skip(str(reason))


async def _ready(node, address):
    """Wait until it answers questions; its port is open before."""
    async with asyncio.timeout(60):
        while True:
            async with node.client.get(f"{address}/-/ready") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.1)


def _scrape(job, target, key):
    made = {"job_name": job, "static_configs": [{"targets": [target]}]}
    return made | ({"authorization": {"type": "Bearer", "credentials": key}} if key else {})


async def ask(node, address, path, **query):
    async with node.client.get(f"{address}/api/v1/{path}", params=query) as answer:
        told = await answer.json()
    assert told["status"] == "success", told
    return told["data"]


class TestScrape:
    async def test_promtool_finds_nothing_wrong(self, busy):
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = await busy.call("GET", "/metrics", None, headers=headers)
        assert answer.status == 200
        assert promtool("check", "metrics", given=answer.body) == ""

    async def test_prometheus_gets_in_with_the_key_alone(self, busy, scraped):
        async with asyncio.timeout(60):
            while True:
                found = (await ask(busy, scraped, "targets"))["activeTargets"]
                if len(found) == 3 and all(one["health"] != "unknown" for one in found):
                    break
                await asyncio.sleep(0.2)
        health = {one["labels"]["job"]: one["health"] for one in found}
        assert health == {"cafe-variome": "up", "wrong": "down", "without": "down"}
        faults = {one["labels"]["job"]: one["lastError"] for one in found}
        assert faults["cafe-variome"] == ""
        assert "401" in faults["wrong"]
        assert "401" in faults["without"]

    async def test_no_label_holds_an_id_of_anything(self, busy):
        headers = {"Authorization": f"Bearer {KEY}"}
        told = (await busy.call("GET", "/metrics", None, headers=headers)).body.decode()
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}", told)
        assert not re.search(r"[0-9a-f]{24,}", told)
        assert not any(name in told for name in busy.people)
        assert "here" not in re.findall(r'route="([^"]*)"', told)

    def test_what_was_done_was_counted(self, busy):  # noqa: ARG002 - it did it
        def value(name, **labels):
            return metrics.REGISTRY.get_sample_value(name, labels) or 0

        assert value("cv3_queries_total", kind="everybody", outcome="complete") >= 2
        assert value("cv3_queries_total", kind="hpo", outcome="complete") >= 2
        assert value("cv3_query_seconds_count", kind="hpo") >= 2
        assert value("cv3_upload_bytes_total") >= len(PACKET)
        assert value("cv3_cache_requests_total", cache="identity", outcome="hit") >= 1
        assert value("cv3_cache_requests_total", cache="segments", outcome="miss") >= 1
        assert value("cv3_cache_requests_total", cache="bitmaps", outcome="miss") >= 1
        assert value("cv3_service_calls_total", service="identity-provider", outcome="ok") >= 1
        assert value("cv3_requests_total", route="none", method="GET", status="404") >= 1
        assert value("cv3_loop_lag_seconds_count") >= 1


class TestDashboard:
    async def test_every_query_returns_data(self, busy, scraped):
        said = dict.fromkeys((expr for _, expr in QUERIES), "not asked")
        for _ in range(200):
            for expr in said:
                found = await ask(busy, scraped, "query", query=_plain(expr))
                said[expr] = _silence(found["result"])
            if not any(said.values()):
                break
            await asyncio.sleep(0.5)
        assert {expr: why for expr, why in said.items() if why} == {}

    def test_every_panel_has_its_place_and_asks_something(self):
        panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
        assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
        assert all(panel["targets"] for panel in panels)
        taken = set()
        for panel in DASHBOARD["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells

    def test_every_metric_is_written_down_and_none_is_made_up(self):
        ours = {
            f"{one.name}_total" if one.type == "counter" else one.name
            for one in metrics.REGISTRY.collect()
        }
        page = (OPERATIONS / "metrics.md").read_text()
        assert {name for name in ours if f"`{name}`" not in page} == set()
        named = re.findall(r"cv3_\w+", page + RULES.read_text() + "".join(e for _, e in QUERIES))
        assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} - ours == set()


def _silence(result):
    """Say why a result shows nothing, if so."""
    if not result:
        return "no series"
    values = [float(one["value"][1]) for one in result]
    return "no number" if all(value != value for value in values) else ""  # noqa: PLR0124 - NaN


def _plain(expr):
    """Put in what Grafana would."""
    return expr.replace("$__rate_interval", "20s").replace("$job", ".+").replace("$instance", ".+")


class TestAlerts:
    def test_promtool_finds_the_rules_right(self):
        told = promtool("check", "rules", str(RULES))
        assert "SUCCESS" in told

    def test_the_configuration_of_the_page_is_right(self, tmp_path):
        page = (OPERATIONS / "metrics.md").read_text()
        (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        (tmp_path / "key").write_text("k")
        text = text.replace("/etc/prometheus/cafe-variome.key", str(tmp_path / "key"))
        (tmp_path / "alert-rules.yml").write_text(RULES.read_text())
        (tmp_path / "prometheus.yml").write_text(text)
        assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))

    def test_each_alert_fires_in_its_case_alone_and_none_where_all_is_well(self):
        assert "SUCCESS" in promtool("test", "rules", str(CASES))

    def test_each_alert_has_a_case(self):
        rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
        cases = yaml.safe_load(CASES.read_text())["tests"]
        assert [rule["alert"] for rule in rules] == [case["name"] for case in cases[:-1]]
        assert cases[-1]["name"] == "well"

    def test_a_rule_that_is_wrong_is_found(self, tmp_path):
        """The checks above can fail."""
        wrong = RULES.read_text().replace("== 0\n", "== 5\n", 1)
        (tmp_path / "rules.yml").write_text(wrong)
        cases = CASES.read_text().replace("../../../docs/operations/alert-rules.yml", "rules.yml")
        (tmp_path / "cases.yml").write_text(cases)
        try:
            ended = prometheus.promtool("test", "rules", str(tmp_path / "cases.yml"))
        except Missing as reason:
            pytest.skip(str(reason))
        assert ended.returncode != 0


@asynccontextmanager
async def worker(node, folder):
    """One more process of the instance that keeps its numbers in the folder: (process, address)."""
    port = free_port()
    environ = {
        **os.environ,
        "CV3_CONFIG": str(node.folder / "instance_config.json"),
        "PYTHONPATH": str(ROOT / "src"),
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
        "CV3_DUTIES": "admin,query,exporter",
    }
    command = ["-m", "hypercorn", "cvf_app.app:app", "-w", "0", "-b", f"127.0.0.1:{port}"]
    with (folder.parent / f"{port}.log").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=environ, stdout=out, stderr=out
        )
    address = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60):
            while not await _answers(node, address):
                assert process.returncode is None, (folder.parent / f"{port}.log").read_text()
                await asyncio.sleep(0.1)
        yield process, address
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _answers(node, address):
    try:
        async with node.client.get(f"{address}/health/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _told(node, address, sample):
    headers = {"Authorization": f"Bearer {KEY}"}
    async with node.client.get(f"{address}/metrics", headers=headers) as answer:
        lines = (await answer.text()).splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} ")]


LIVE = 'cv3_requests_total{method="GET",route="/health/live",status="200"}'


class TestSeveralProcesses:
    async def test_whoever_is_asked_tells_the_sum_and_the_dead_count_rightly(self, node, tmp_path):
        folder = tmp_path / "metrics"
        metrics.empty(folder)
        (folder / "counter_1.db").write_bytes(b"of an earlier run")
        metrics.empty(folder)
        async with worker(node, folder) as (first, one), worker(node, folder) as (_, two):
            for address, times in ((one, 7), (two, 5)):
                for _ in range(times):
                    async with node.client.get(f"{address}/health/live") as answer:
                        assert answer.status == 200
            assert await _told(node, one, LIVE) == [12.0]
            assert await _told(node, two, LIVE) == [12.0]
            # One series each for what is of the whole instance, whoever looked last
            assert len(await _told(node, two, "cv3_subjects")) == 1
            assert await _told(node, two, "cv3_updates_open") == [0.0]
            listening = {"Authorization": f"Bearer {node.issuer.token('admin')}"}
            stream = await node.client.get(f"{one}/updates", headers=listening)
            assert stream.status == 200
            assert await _told(node, two, "cv3_updates_open") == [1.0]
            first.kill()
            await first.wait()
            stream.close()
            assert await _told(node, two, "cv3_updates_open") == [1.0]
            metrics.forget_process(folder, first.pid)
            assert await _told(node, two, "cv3_updates_open") == [0.0]
            assert await _told(node, two, LIVE) == [12.0]
            async with worker(node, folder) as (_, three):
                async with node.client.get(f"{three}/health/live") as answer:
                    assert answer.status == 200
                assert await _told(node, three, LIVE) == [13.0]
