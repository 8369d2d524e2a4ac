"""Lines of the log on their way to Loki, Splunk, a file and the console: order, loss, secrets.

The receivers are peers that check the form of a push; no real Loki or Splunk was at hand.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from types import SimpleNamespace
from uuid import uuid4

import aiohttp
import msgspec
import pytest
import structlog

from cvf_app import config as settings
from cvf_app import metrics
from cvf_app.backends import log
from cvf_app.backends.http import Http
from cvf_app.backends.log_outlets import Outlet
from cvf_app.backends.shipping import Loki, Shipper, Splunk
from tests.support import nodes, table
from tests.support.peers import loki, receivers, splunk

TOKEN = "hec-CANARY-0b1c2d3e"
PASSWORD = "loki-CANARY-9a8b7c6d"


@pytest.fixture(autouse=True)
def _settings_stay():
    """What a test set up for the log of this process is put back."""
    before = structlog.get_config()
    yield
    log.configure("cv3", "INFO")
    structlog.configure(**before)


def count(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def loki_settings(address: str) -> settings.Loki:
    login = settings.LokiAuth(enabled=True, username="writer", password=PASSWORD)
    return settings.Loki(enabled=True, endpoint=address, tags={"site": "ward-7"}, auth=login)


def splunk_settings(address: str) -> settings.SplunkHec:
    return settings.SplunkHec(enabled=True, hec_endpoint=address, token=TOKEN)


@pytest.fixture(params=["loki", "splunk"])
async def peer(request):
    """A receiver of each kind."""
    made = (
        loki.Loki(login=("writer", PASSWORD))
        if request.param == "loki"
        else splunk.Splunk(token=TOKEN)
    )
    table.stand_in(request.param, "peer that checks the form of a push")
    async with made:
        yield made


@asynccontextmanager
async def shipping(
    peer: receivers.Receiver, most_lines: int = 10_000, patience: float = 1.0
) -> AsyncIterator[SimpleNamespace]:
    """Ship the lines of a logger of its own to a peer."""
    receiver = (
        Loki(loki_settings(peer.address), "cv3")
        if isinstance(peer, loki.Loki)
        else Splunk(splunk_settings(peer.address), "cv3")
    )
    outlet = Outlet(receiver.name, most_lines=most_lines)
    http = Http.open(frozenset({peer.address}))
    shipper = Shipper(receiver, outlet, http, patience=patience, first_pause=0.05)
    log.configure("cv3-shipping", "DEBUG", [outlet])
    task = asyncio.create_task(shipper.run())
    try:
        yield SimpleNamespace(outlet=outlet, shipper=shipper, task=task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await http.close()


def events(peer: receivers.Receiver) -> list[dict]:
    """The lines that arrived, as their fields; ours alone, without what tells of the shipping."""
    if isinstance(peer, loki.Loki):
        told = [json.loads(line) for line in peer.lines]
    else:
        told = [line["event"] for line in peer.lines]
    return [one for one in told if "number" in one]


def say(*numbers: int) -> None:
    for number in numbers:
        structlog.get_logger("cv3.test").info("line", number=number)


async def until(true) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - a peer or a file has no event to wait for
            await asyncio.sleep(0.02)


class TestPush:
    async def test_lines_arrive_in_order_in_the_form_of_the_receiver(self, peer):
        async with shipping(peer):
            say(*range(2500))
            await until(lambda: len(events(peer)) == 2500)
        assert [one["number"] for one in events(peer)] == list(range(2500))
        assert peer.faults == []
        assert peer.pushes >= 3  # no batch is larger than a receiver likes

    async def test_the_fields_of_a_line_are_there(self, peer):
        async with shipping(peer):
            with structlog.contextvars.bound_contextvars(trace_id="t-1"):
                say(1)
            await until(lambda: events(peer))
        (told,) = events(peer)
        assert (told["trace_id"], told["event"], told["level"]) == ("t-1", "line", "info")

    async def test_tags_are_labels_and_a_wrong_login_is_refused(self):
        async with loki.Loki(login=("writer", "another")) as peer:
            async with shipping(peer) as sent:
                say(1)
                await until(lambda: len(peer.faults) >= 2)
                assert set(peer.faults) == {"no login"}
                peer.login = ("writer", PASSWORD)
                await until(lambda: events(peer))
                assert sent.outlet.waiting == 0
            assert list(peer.streams) == [(("app", "cv3"), ("site", "ward-7"))]


NOW = "1795290049618964000"
LOGIN = aiohttp.encode_basic_auth("writer", PASSWORD)


class TestPeers:
    """The peers refuse what the real receivers refuse, or the tests above would prove nothing."""

    @pytest.mark.parametrize(
        ("stream", "values", "fault"),
        [
            ({}, [[NOW, "a"]], "at least one label"),
            ({"1st": "x"}, [[NOW, "a"]], "label 1st"),
            ({"a": 1}, [[NOW, "a"]], "label a"),
            ({"a": "b"}, [[int(NOW), "a"]], "value"),
            ({"a": "b"}, [["1795290049", "a"]], "time"),
            ({"a": "b"}, [["1795290049.6", "a"]], "time"),
            ({"a": "b"}, [[NOW, {"event": "a"}]], "value"),
            ({"a": "b"}, [[NOW, "a"], ["1795290049618963999", "b"]], "out of order"),
        ],
    )
    async def test_loki_refuses_another_form(self, node, stream, values, fault):
        async with loki.Loki(login=("writer", PASSWORD)) as peer:
            url = f"{peer.address}/loki/api/v1/push"
            pushed = {"streams": [{"stream": stream, "values": values}]}
            headers = {"Authorization": LOGIN}
            async with node.client.post(url, json=pushed, headers=headers) as answer:
                assert answer.status == 400
            assert fault in peer.faults[0]

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ('[{"event": "a", "time": "1795290049"}]', 6),
            ('{"event": "a", "time": "1795290049"},{"event": "b"}', 6),
            ('{"event": "a", "time": "1795290049", "level": "info"}', 6),
            ('{"time": "1795290049"}', 12),
            ('{"event": "", "time": "1795290049"}', 13),
            ('{"event": "a", "time": "1795290049618964000"}', 15),
            ("", 5),
        ],
    )
    async def test_splunk_refuses_another_form(self, node, body, code):
        async with splunk.Splunk(token=TOKEN) as peer:
            url = f"{peer.address}/services/collector/event"
            headers = {"Authorization": f"Splunk {TOKEN}"}
            async with node.client.post(url, data=body, headers=headers) as answer:
                assert (await answer.json(content_type=None))["code"] == code
            assert peer.lines == []

    @pytest.mark.parametrize("sent", [f"Bearer {TOKEN}", "Splunk another", f"Basic {TOKEN}"])
    async def test_splunk_takes_its_token_alone(self, node, sent):
        async with splunk.Splunk(token=TOKEN) as peer:
            url = f"{peer.address}/services/collector/event"
            event = b'{"event": "a", "time": "1795290049"}'
            headers = {"Authorization": sent}
            async with node.client.post(url, data=event, headers=headers) as answer:
                assert answer.status in (401, 403)


class TestTrouble:
    @pytest.mark.parametrize(
        "mood", [receivers.DOWN, receivers.HANGING, receivers.GARBAGE], ids=lambda mood: mood
    )
    async def test_what_waited_arrives_once_the_receiver_is_well_and_in_order(self, peer, mood):
        peer.become(mood)
        async with shipping(peer):
            say(*range(10))
            await until(lambda: peer.pushes >= 3)
            say(*range(10, 20))
            peer.become(receivers.OK)
            await until(lambda: len(events(peer)) == 20)
        assert [one["number"] for one in events(peer)] == list(range(20))
        assert peer.faults == []

    async def test_the_oldest_lines_go_when_there_is_no_room_and_are_counted(self, peer):
        peer.become(receivers.DOWN)
        async with shipping(peer, most_lines=100) as sent:
            name = sent.shipper.name
            before = count("cv3_log_dropped_total", sink=name, reason="full")
            say(0)
            await until(lambda: peer.pushes >= 2)  # it is being sent, and no longer in the backlog
            say(*range(1, 1001))
            assert sent.outlet.waiting == 100
            dropped = count("cv3_log_dropped_total", sink=name, reason="full") - before
            peer.become(receivers.OK)
            await until(lambda: events(peer) and events(peer)[-1]["number"] == 1000)
        assert dropped >= 900
        numbers = [one["number"] for one in events(peer)]
        assert numbers[0] == 0
        assert numbers[1:] == list(range(1001 - len(numbers[1:]), 1001))
        assert len(numbers) >= 90

    async def test_what_is_refused_for_good_does_not_stop_the_rest(self, peer):
        peer.become(receivers.REFUSING)
        async with shipping(peer) as sent:
            name = sent.shipper.name
            before = count("cv3_log_dropped_total", sink=name, reason="refused")
            say(*range(5))
            await until(
                lambda: count("cv3_log_dropped_total", sink=name, reason="refused") >= before + 5
            )
            peer.become(receivers.OK)
            say(5)
            await until(lambda: events(peer))
        assert [one["number"] for one in events(peer)] == [5]

    async def test_the_end_sends_what_waits(self, peer):
        async with shipping(peer, patience=20) as sent:
            sent.task.cancel()
            await asyncio.gather(sent.task, return_exceptions=True)
            say(*range(1500))
            await sent.shipper.flush(20)
        assert [one["number"] for one in events(peer)] == list(range(1500))

    async def test_the_end_does_not_wait_for_a_receiver_that_hangs(self, peer):
        peer.become(receivers.HANGING)
        async with shipping(peer, patience=60) as sent:
            name = sent.shipper.name
            say(*range(7))
            await peer.hung.wait()
            before = count("cv3_log_dropped_total", sink=name, reason="stopped")
            sent.task.cancel()
            await asyncio.gather(sent.task, return_exceptions=True)
            await sent.shipper.flush(0.2)
            assert count("cv3_log_dropped_total", sink=name, reason="stopped") == before + 7


@pytest.fixture
async def watched(node, tmp_path_factory):
    """The node's instance served once more, with every outlet of its log switched on."""
    folder = tmp_path_factory.mktemp("watched")
    async with loki.Loki(login=("writer", PASSWORD)) as first, splunk.Splunk(token=TOKEN) as second:
        given = settings.Logging(
            level="DEBUG",
            file=str(folder / "logs" / "cv3.log"),
            loki=loki_settings(first.address),
            splunk_hec=splunk_settings(second.address),
        )
        changed = msgspec.structs.replace(node.config, logging=given)
        async with nodes.beside(node, config=changed) as made:
            yield SimpleNamespace(
                node=made, loki=first, splunk=second, file=folder / "logs" / "cv3.log"
            )


class TestNode:
    async def test_requests_are_answered_while_receivers_hang(self, watched):
        watched.loki.become(receivers.HANGING)
        watched.splunk.become(receivers.GARBAGE)
        say(1)
        await watched.loki.hung.wait()
        answers = await asyncio.gather(*(watched.node.call("GET", "/sources/") for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        say(2)
        watched.loki.become(receivers.OK)
        watched.splunk.become(receivers.OK)
        for peer in (watched.loki, watched.splunk):
            await until(lambda peer=peer: len(events(peer)) == 2)
            assert [one["number"] for one in events(peer)] == [1, 2]

    async def test_the_last_lines_arrive_when_it_stops(self, node, peer):
        name = "loki" if isinstance(peer, loki.Loki) else "splunk_hec"
        made = loki_settings if name == "loki" else splunk_settings
        given = settings.Logging(**{name: made(peer.address)})
        changed = msgspec.structs.replace(node.config, logging=given)
        async with nodes.beside(node, config=changed):
            say(*range(1200))
        assert [one["number"] for one in events(peer)] == list(range(1200))
        assert peer.faults == []

    async def test_nothing_that_is_written_anywhere_has_a_secret(self, watched, capfd):
        node = watched.node
        planted = {
            "jwt": node.issuer.token("admin"),
            "vault": "hvs.CAESIJ8planted0123456789abcdef",
            "pem": "MIIEvQIBADANBgkqhkiGplantedpem",
            "code": f"code-{uuid4().hex}",
            "verifier": f"verifier-{uuid4().hex}",
            "refresh": f"refresh-{uuid4().hex}",
            "upload": f"upload-{uuid4().hex}",
            "login": f"login-{uuid4().hex}",
            "mail": "planted.person@hospital.example",
            "name": "plantedperson",
            "hec": TOKEN,
            "loki": PASSWORD,
        }
        pem = f"-----BEGIN PRIVATE KEY-----\n{planted['pem']}\n-----END PRIVATE KEY-----"
        # What people and programs send
        new = {"username": planted["name"], "email": planted["mail"], "role": "user"}
        await node.call("POST", "/users/", json=new)
        for fields in (
            {"grant_type": "authorization_code", "code": planted["code"]},
            {"grant_type": "refresh_token", "refresh_token": planted["refresh"]},
        ):
            for body in (fields, fields | {"code_verifier": planted["verifier"]}):
                await node.call("POST", "/auth/token", None, json=body)
        for path in ("/users/me", f"/sources/?access_token={planted['jwt']}", "/nothing"):
            await node.call(
                "GET", path, None, headers={"Authorization": f"Bearer {planted['vault']}"}
            )
        source = await node.source(f"planted{uuid4().hex[:8]}")
        await node.piece(source, planted["upload"], "a.csv", b"id\n1\n")
        # What libraries, and we ourselves, might write without thought
        for library in ("urllib3", "hvac", "keycloak", "aiohttp", "asyncio", "pymongo"):
            logging.getLogger(library).debug("header Bearer %s", planted["jwt"])
            logging.getLogger(library).warning(
                "https://u:%s@vault.example/v1?token=%s failed with %s",
                planted["login"],
                planted["vault"],
                planted["jwt"],
            )
        told = structlog.get_logger("cv3.test")
        told.info("sent", headers={"Authorization": f"Bearer {planted['jwt']}"}, body=pem)
        told.info(
            "sent", text=f"client_secret={planted['login']}&code_verifier={planted['verifier']}"
        )
        told.info("mail", to=[planted["mail"]], cause=OSError(f"token {planted['vault']}"))
        fault = PermissionError(f"{pem} {planted['mail']} {planted['vault']}")
        told.error("failed", exc_info=fault)
        told.info("the end", number=1)
        for peer in (watched.loki, watched.splunk):
            await until(lambda peer=peer: events(peer))
        await until(lambda: '"event": "the end"' in _read(watched.file))
        written = {
            "file": _read(watched.file),
            "loki": "\n".join(watched.loki.lines),
            "splunk": json.dumps(watched.splunk.lines),
        }
        for handler in logging.getLogger("cv3").handlers:
            handler.flush()
        written["console"] = capfd.readouterr().err
        for where, text in written.items():
            assert "the end" in text, where  # it was looked at
            assert "PermissionError" in text, where
            found = [name for name, secret in planted.items() if secret in text]
            assert found == [], (where, found)
        assert watched.loki.faults == []
        assert watched.splunk.faults == []


def _read(file):
    return file.read_text() if file.exists() else ""


class TestFile:
    async def test_a_full_disk_does_not_silence_standard_error(self, node, monkeypatch, tmp_path):
        # Pytest's own capture loses what a thread writes while it is read.
        told = StringIO()
        monkeypatch.setattr(sys, "stderr", told)
        # It answers every write as a disk without room does.
        (tmp_path / "cv3.log").symlink_to("/dev/full")
        given = settings.Logging(file=str(tmp_path / "cv3.log"))
        changed = msgspec.structs.replace(node.config, logging=given)
        async with nodes.beside(node, config=changed) as made:

            def all_told() -> bool:
                lines = [f'"number": {number}' for number in range(5)]
                return all(line in told.getvalue() for line in [*lines, "No space left on device"])

            say(*range(5))
            await until(all_told)
            assert (await made.call("GET", "/sources/")).status == 200
        assert told.getvalue().count("log_cannot_be_written") == 1
        assert not (tmp_path / "cv3.log.1").exists()
