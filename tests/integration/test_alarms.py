"""Administrators are told of trouble: once per cause and hour, whatever is out of order."""

import asyncio
import json
import signal
from contextlib import asynccontextmanager

import pytest
from typer.testing import CliRunner

from cvf_app.backends.keystore import FileKeyStore
from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.console import __main__ as command
from cvf_app.console import mail, upkeep
from cvf_app.console.server import Server
from cvf_app.errors import CredentialsRefused, Unavailable
from cvf_app.ids import new_id
from cvf_app.jobs.model import JobDocument, JobState
from cvf_app.jobs.store import JobStore
from cvf_app.loops import Loops
from cvf_app.upkeep.lookout import GIB, Lookout, is_nearly_full
from cvf_app.upkeep.store import UpkeepStore
from cvf_app.users.alerts import Alerts
from tests.integration.test_mail import Office
from tests.support import nodes
from tests.support.house import packed
from tests.support.sink import sink

ROOT, SAM = "root@example.org", "sam@example.org"
FACTS = {"explanation": "The roof leaks."}


@pytest.fixture
async def office(mongo_url, tmp_path):
    database = f"cv3_test_{new_id()[:12]}"
    mongo = Mongo.open(mongo_url, database, 10)
    keys = FileKeyStore.open(tmp_path / "keys", create=True)
    made = Office(mongo, database, keys)
    await made.store.prepare()
    yield made
    await mongo.drop()
    mongo.close()
    await keys.close()


def alerts_of(office, port, *, keys_away=False):
    async def administrators():
        if keys_away:
            raise Unavailable("The key store is sealed.")
        return (ROOT, SAM)

    return Alerts(office.mails, office.postman(port), administrators)


async def away():
    raise CredentialsRefused("Vault does not accept our secret id.")


class TestAlerts:
    async def test_a_cause_is_told_once_an_hour_to_each_administrator(self, office):
        async with sink() as server:
            postman = office.postman(server.port)
            first, second = (alerts_of(office, server.port) for _ in range(2))
            await first.raise_alarm("roof", FACTS)
            await second.raise_alarm("roof", FACTS)
            office.later(minutes=59)
            await first.raise_alarm("roof", FACTS)
            await first.raise_alarm("cellar", FACTS)
            await postman.work()
            told = sorted((each.recipient, str(each.message["Subject"])) for each in server.taken)
            about = "Hospital: needs your attention ({})"
            assert told == sorted(
                (who, about.format(cause)) for who in (ROOT, SAM) for cause in ("roof", "cellar")
            )
            office.later(minutes=2)
            await second.raise_alarm("roof", FACTS)
            await postman.work()
            assert len(server.taken) == 6

    async def test_what_a_crash_cut_off_is_told_by_the_next_one(self, office):
        async with sink() as server:
            await office.mails.hour("roof")
            await alerts_of(office, server.port).raise_alarm("roof", FACTS)
            await office.postman(server.port).work()
            assert len(server.taken) == 2

    async def test_without_the_key_store_they_are_told_past_the_outbox(self, office):
        async with sink() as server:
            alerts = alerts_of(office, server.port)
            await alerts.learn()
            broken = alerts_of(office, server.port, keys_away=True)
            with pytest.raises(Unavailable):
                # Nobody is known to this one.
                await broken.raise_alarm("vault", FACTS)
            office.later(hours=2)
            broken._known = alerts._known  # noqa: SLF001 - as a process that ran before knows them
            await broken.raise_alarm("vault", FACTS)
            assert sorted(each.recipient for each in server.taken) == [ROOT, SAM]
            assert await office.states() == {}
            with pytest.raises(Unavailable):
                await broken.raise_alarm("vault", FACTS)
            assert len(server.taken) == 2

    async def test_a_loop_that_dies_is_told_before_the_process_ends(self, office):
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, asked.set)
        loops = Loops()

        async def dies():
            raise RuntimeError("a fault")

        try:
            loops.start("letters", dies)
            await asked.wait()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
        await loops.stop()
        async with sink() as server:
            await alerts_of(office, server.port).last_words(loops.dead)
            await office.postman(server.port).work()
            assert [str(each.message["Subject"]) for each in server.to(ROOT)] == [
                "Hospital: needs your attention (loop ended: letters)"
            ]

    async def test_refused_credentials_are_told_and_what_is_only_away_is_not(
        self, office, tmp_path
    ):
        async def down():
            raise Unavailable("The database does not answer.")

        async with sink() as server:
            alerts = alerts_of(office, server.port)
            lookout = Lookout(alerts, {"Vault": away, "database": down}, tmp_path)
            await lookout.look()
            await lookout.minding("the mail server", away)()
            await alerts.raise_noted()
            await office.postman(server.port).work()
            told = [str(each.message["Subject"]) for each in server.to(ROOT)]
            assert sorted(told) == [
                "Hospital: needs your attention (credentials: Vault)",
                "Hospital: needs your attention (credentials: the mail server)",
            ]

    @pytest.mark.parametrize(
        ("total", "free", "full"),
        [(10, 2, False), (10, 0.9, True), (100, 4, True), (100, 6, False), (9000, 21, False),
         (9000, 19, True)],
    )  # fmt: skip
    def test_a_disk_is_nearly_full_by_its_size(self, total, free, full):
        assert is_nearly_full(int(total * GIB), int(free * GIB)) is full


class TestNight:
    async def test_one_process_inspects_a_day_and_another_goes_on_where_it_died(self, office):
        stores = [UpkeepStore(office.mongo.collection("inspections")) for _ in range(2)]
        assert await stores[0].begin("2026-11-21", 100, 200)
        assert not await stores[1].begin("2026-11-21", 150, 250)
        assert await stores[1].begin("2026-11-21", 201, 300)
        await stores[1].end("2026-11-21")
        assert not await stores[0].begin("2026-11-21", 400, 500)
        assert await stores[0].begin("2026-11-22", 400, 500)


@asynccontextmanager
async def writing_node(folder, mongo_url, redis_url):
    """Serve a node that writes to a mail server of ours."""
    async with sink() as server:
        more = {
            "Email": {
                "From": {"Address": "cafe@hospital.example", "Name": "Hospital"},
                "SMTP": {"Host": "127.0.0.1", "Port": server.port},
            }
        }
        async with nodes.node(folder, mongo_url, redis_url, more=more) as node:
            config = node.config.mongo_db
            uri = mongo_uri(
                config.host,
                int(config.port),
                user=config.user,
                password=config.password,
                database=config.database,
            )
            node.mongo, node.sink = Mongo.open(uri, config.database, 4), server
            yield node
            node.mongo.close()


@pytest.fixture(scope="module")
async def watched(tmp_path_factory, mongo_url, redis_url):
    folder = tmp_path_factory.mktemp("watched")
    async with writing_node(folder, mongo_url, redis_url) as node:
        yield node


@pytest.fixture
async def fresh(tmp_path, mongo_url, redis_url):
    async with writing_node(tmp_path, mongo_url, redis_url) as node:
        yield node


async def _key_taken_from(node, user_id):
    keys = FileKeyStore.open(node.folder / "keys")
    await keys.delete_user_key(user_id)
    await keys.close()


async def inspected(node):
    answer = await node.call("POST", "/inspections")
    assert answer.status == 200, answer.body
    return {each["kind"]: each for each in answer.json}


async def mails_about(node, disorder, count=1):
    """Wait for the mails of one kind of inconsistency to the first administrator."""
    wanted = f"Hospital: needs your attention (inspection: {disorder})"
    async with asyncio.timeout(20):
        while node.sink.subjects.count(wanted) < count:  # noqa: ASYNC110 - another loop's work
            await asyncio.sleep(0.1)
    return [each for each in node.sink.taken if str(each.message["Subject"]) == wanted]


class TestInspection:
    async def test_what_was_taken_in_as_it_should_be_agrees(self, watched):
        source = await watched.source("counted")
        data_file = await watched.upload(source, "a.zip", packed(1, 2, 3))
        assert (await watched.ingest(source, data_file))["state"] == "complete"
        assert "counts disagree" not in await inspected(watched)
        batches = watched.mongo.collection("subject_batches")
        (share,) = await watched.mongo.collection("shares").find({"sourceId": source})
        await batches.delete_many({"share": share["_id"]})
        assert (await inspected(watched))["counts disagree"]["examples"] == [source]

    async def test_each_kind_planted_is_one_mail_that_names_it(self, fresh):
        source = await fresh.source("counted")
        data_file = await fresh.upload(source, "a.zip", packed(1, 2, 3))
        assert await inspected(fresh) == {}
        planted = await self._plant(fresh, source, data_file)
        found = await inspected(fresh)
        assert set(found) == set(planted)
        for kind, example in planted.items():
            assert found[kind]["count"] == 1
            assert found[kind]["examples"] == [example]
            (mail,) = await mails_about(fresh, kind)
            assert example in mail.message.get_body(("plain",)).get_content()
        assert set(await inspected(fresh)) == set(planted)
        letters = (await fresh.call("GET", "/mails")).json
        assert len([each for each in letters if each["kind"] == "trouble"]) == len(planted)

    async def _plant(self, node, source, data_file):
        """Put one inconsistency of each kind; return by kind what the inspection must name."""
        collection = node.mongo.collection
        ann = await node.person("ann")
        keys = FileKeyStore.open(node.folder / "keys")
        await keys.delete_user_key(ann)
        await keys.create_user_key("nobody")
        await keys.close()
        file = await collection("files").find_one({"_id": data_file})
        path = node.folder / "data" / "files" / file["sha256"][:2] / file["sha256"]
        path.unlink()
        orphan = {**file, "_id": new_id(), "sha256": "0" * 64, "holders": ["source/gone"]}
        await collection("files").insert({**orphan, "ready": False})
        await collection("sources").update_one({"_id": source}, {"$set": {"recordCount": 7}})
        # Of a kind that nobody runs, since yesterday.
        stuck = JobDocument(
            job_id=new_id(),
            task="unknown",
            args={},
            user_id="ada",
            size="small",
            proc=1,
            mem=1,
            state=JobState.WAITING,
            progress=0.0,
            attempts=0,
            created_at=1,
        )
        await JobStore(collection("jobs")).add(stuck, key=None, once=None, at=1.0)
        return {
            "files missing": data_file,
            "files of nobody": orphan["_id"],
            "users without keys": ann,
            "keys without users": "key 1",
            "counts disagree": source,
            "jobs stuck": stuck.job_id,
        }


class TestRoutes:
    async def test_letters_are_listed_without_their_content(self, watched):
        answer = await watched.call("GET", "/mails?state=sent&limit=5")
        assert answer.status == 200
        assert b"example.org" not in answer.body
        refused = await watched.call("GET", "/mails?state=lost")
        assert refused.status == 400
        assert (await watched.call("PUT", "/mails/none/retry")).status == 404

    async def test_only_administrators_of_people_come_here(self, watched):
        await watched.person("carl", "dataAdmin")
        for method, path in (
            ("GET", "/mails"),
            ("POST", "/mails/test"),
            ("PUT", "/mails/x/retry"),
            ("POST", "/inspections"),
        ):
            assert (await watched.call(method, path, "carl")).status == 403
            assert (await watched.call(method, path, None)).status == 401

    async def test_a_letter_of_trial_tells_what_happened(self, watched):
        answer = await watched.call("POST", "/mails/test", json={"to": "trial@example.org"})
        assert answer.json == {"encryption": "", "loggedIn": False}
        assert len(watched.sink.to("trial@example.org")) == 1
        watched.sink.refuses["no@example.org"] = "550 no"
        refused = await watched.call("POST", "/mails/test", json={"to": "no@example.org"})
        assert refused.status == 502
        forged = await watched.call("POST", "/mails/test", json={"to": "a@b.org\r\nBcc: c@d.org"})
        assert forged.status == 400

    async def test_a_letter_that_failed_shows_in_health_and_the_node_is_ready(self, watched):
        watched.sink.refuses["admin@example.org"] = "550 no"
        await watched.mongo.collection("letter_hours").delete_many({})
        zoe = await watched.person("zoe")
        await _key_taken_from(watched, zoe)
        assert "users without keys" in await inspected(watched)
        async with asyncio.timeout(20):
            while True:
                answer = await watched.call("GET", "/health/ready", None)
                assert answer.status == 200
                mail = answer.json["services"]["mail"]
                if not mail["ok"] and "could not be sent" in mail["detail"]:
                    break
                await asyncio.sleep(0.1)

    async def test_the_outbox_is_measured(self, watched):
        await _key_taken_from(watched, await watched.person("kim"))
        await watched.mongo.collection("letter_hours").delete_many({})
        await inspected(watched)
        async with asyncio.timeout(30):
            while True:
                headers = {"Authorization": "Bearer scrape"}
                text = (await watched.call("GET", "/metrics", None, headers=headers)).body.decode()
                if 'cv3_mail_outbox{state="sent"}' in text:
                    break
                await asyncio.sleep(0.2)
        assert 'cv3_mails_total{kind="trouble",outcome="kept"}' in text


class TestConsole:
    @pytest.fixture
    def cvf(self, watched, monkeypatch):
        """Run a command as the administrator."""
        asked = Server(watched.address, lambda _: watched.issuer.token("admin"))
        for module in (mail, upkeep):
            monkeypatch.setattr(module, "server", lambda _: asked)
        runner = CliRunner(env={"COLUMNS": "300"})

        async def run(*words):
            return await asyncio.to_thread(runner.invoke, command.app, words)

        return run

    async def test_a_trial_a_failure_and_another_try(self, watched, cvf):
        told = await cvf("mail", "test", "console@example.org")
        assert "took the letter (without encryption, without a login)" in told.output
        watched.sink.refuses["admin@example.org"] = "550 no"
        await watched.mongo.collection("letter_hours").delete_many({})
        await _key_taken_from(watched, await watched.person("mia"))
        assert "users without keys" in (await cvf("inspect")).output
        async with asyncio.timeout(20):
            while True:
                told = await cvf("mail", "list", "--state", "failed", "--json")
                if rows := json.loads(told.stdout):
                    break
                await asyncio.sleep(0.1)
        watched.sink.refuses.clear()
        assert {row["reason"] for row in rows} == {"The mail server refuses this letter (550)."}
        assert "failed" in (await cvf("mail", "list")).output
        for row in rows:
            done = await cvf("mail", "retry", row["letterId"])
            assert "is tried again" in done.output
        async with asyncio.timeout(20):
            while not watched.sink.to("admin@example.org"):  # noqa: ASYNC110 - another loop's work
                await asyncio.sleep(0.1)
