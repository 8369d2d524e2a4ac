"""A whole instance goes into one file and comes back elsewhere, answering the same questions."""

import asyncio
import io
import json
import os
import shutil
import sys
import zipfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pymongo
import pytest

from cvf_app.backends.documents import unpacked
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.backends.mongo import Mongo
from cvf_app.backup import restore as restoring
from cvf_app.backup.envelope import Passphrase
from cvf_app.backup.records import Reader, Writer
from cvf_app.backup.restore import Target
from cvf_app.backup.take import Taking
from cvf_app.config import load
from cvf_app.errors import Conflict
from cvf_app.migrations import numbers
from cvf_app.migrations.address import open_configured
from cvf_app.migrations.catalogue import Catalogue
from cvf_app.migrations.model import OWN
from cvf_app.migrations.state import States, check
from tests.support import nodes
from tests.unit.backup.test_records import INFO

PACKETS = Path(__file__).resolve().parents[1] / "data" / "phenopackets"
SOURCE = Path(__file__).resolve().parents[2] / "src"
WORDS = "a passphrase of the hospital"
CHEAP = Passphrase(WORDS, 2**10)
QUESTIONS = (
    {"hpo": [{"terms": ["HP:0001250"]}]},
    {"variant": [{"genes": ["NF1", "STXBP1"], "mutation": []}]},
    {"eav": [{"attribute": "zygosity", "relation": "stringIs", "value": "homozygous"}]},
    {},
    {"subject": {"gender": "female"}},
    {"hpo": [{"terms": ["HP:0000957"]}], "subject": {"gender": "male"}},
)


async def cvf(*words, expected=0) -> str:
    """Run the command line as a program of its own; return its output, then its errors."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cvf_app.console", *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1", "COLUMNS": "200"},
    )
    said = b"".join(await program.communicate())
    assert program.returncode == expected, said.decode()
    return said.decode()


async def fill(node) -> None:
    """Make a source of the phenopackets of this checkout, and who may see it."""
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as archive:
        for path in sorted(PACKETS.glob("*/*.json")):
            archive.write(path, path.relative_to(PACKETS))
    ann = await node.person("ann")
    source = await node.source("packets")
    await node.group("list", [ann], [source])
    job = await node.ingest(source, await node.upload(source, "packets.zip", bundle.getvalue()))
    assert job["state"] == "complete", job


async def answers(node) -> list:
    found = [await node.ask(question, "ann") for question in QUESTIONS]
    return [
        (one["recordCount"], sorted(each["subjectId"] for each in one["resultDetails"]["subjects"]))
        for of in found
        for one in of
    ]


def elsewhere(config_file: Path, folder: Path) -> Path:
    """Write the configuration of another instance: another folder, another database."""
    folder.mkdir()
    blocks = json.loads(config_file.read_text())
    blocks["MongoDB"]["Database"] = f"cv3_test_{uuid4().hex[:12]}"
    blocks["Data"]["UploadPath"] = str(folder / "data")
    blocks["Secrets"]["Path"] = str(folder / "keys")
    path = folder / "instance_config.json"
    path.write_text(json.dumps(blocks))
    return path


@asynccontextmanager
async def database_of(config_file: Path):
    mongo = open_configured(load(config_file).mongo_db)
    yield mongo
    mongo.close()


async def content(mongo: Mongo) -> dict:
    names = sorted(await Catalogue(mongo).names() - OWN)
    return {name: await mongo.collection(name).find({}, sort=[("_id", 1)]) for name in names}


@pytest.fixture(scope="module")
async def filled(tmp_path_factory, mongo_url, redis_url):
    async with nodes.node(tmp_path_factory.mktemp("first"), mongo_url, redis_url) as node:
        await fill(node)
        yield node


@pytest.fixture(scope="module")
async def file(filled, tmp_path_factory):
    """A backup that was taken by the command while the instance ran and was asked."""
    folder = tmp_path_factory.mktemp("backup")
    (folder / "words").write_text(WORDS + "\n")
    asking = asyncio.ensure_future(answers(filled))
    await cvf(
        *("backup", folder / "backup.cvb", "--passphrase-file", folder / "words"),
        *("--config", filled.folder / "instance_config.json"),
    )
    await asking
    return folder / "backup.cvb"


class TestBackup:
    async def test_a_restored_instance_answers_the_same(self, filled, file, tmp_path):
        expected = await answers(filled)
        assert any(count for count, _ in expected)
        config = elsewhere(filled.folder / "instance_config.json", tmp_path / "second")
        said = await cvf(
            *("restore", file, "--passphrase-file", file.with_name("words"), "--config", config)
        )
        assert "everything is there" in said
        second = replace(filled, config=load(config), folder=config.parent)
        async with nodes.beside(second) as node:
            assert await answers(node) == expected
            files = (await node.call("GET", "/files/")).json
            assert files == (await filled.call("GET", "/files/")).json
            await node.person("bob")
        shown = json.loads((config.parent / "instance_config.from-backup.json").read_text())
        assert shown["Metrics"]["Prometheus"]["Key"] == ""

    async def test_nothing_of_the_content_can_be_read_in_the_file(self, filled, file):
        data = file.read_bytes()
        ids = [subject for _, subjects in await answers(filled) for subject in subjects]
        for word in (*ids, "sourceName", "packets", "HP:0001250", "master.key"):
            assert word.encode() not in data
        assert file.stat().st_mode & 0o077 == 0

    async def test_a_bad_file_is_refused_before_anything_is_written(self, filled, file, tmp_path):
        config = elsewhere(filled.folder / "instance_config.json", tmp_path / "second")
        whole = file.read_bytes()
        wrong = tmp_path / "wrong"
        wrong.write_text("another passphrase")
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        for number, data in enumerate((whole[:-1], whole[: len(whole) // 2], bytes(changed))):
            bad = tmp_path / f"{number}.cvb"
            bad.write_bytes(data)
            words = ("--passphrase-file", file.with_name("words"), "--config", config)
            await cvf("restore", bad, *words, expected=1)
        said = await cvf(
            "restore", file, "--passphrase-file", wrong, "--config", config, expected=1
        )
        assert "does not open this backup" in said
        assert sorted(path.name for path in config.parent.iterdir()) == ["instance_config.json"]
        async with database_of(config) as mongo:
            assert await Catalogue(mongo).names() == set()

    async def test_only_an_empty_instance_is_filled(self, filled, file):
        config = filled.folder / "instance_config.json"
        words = ("--passphrase-file", file.with_name("words"), "--config", config)
        said = await cvf("restore", file, *words, expected=1)
        assert "--replace" in said
        assert any(count for count, _ in await answers(filled))

    async def test_a_file_that_is_there_is_kept(self, filled, file):
        words = ("--passphrase-file", file.with_name("words"))
        config = ("--config", filled.folder / "instance_config.json")
        before = file.read_bytes()
        await cvf("backup", file, *words, *config, expected=2)
        assert file.read_bytes() == before


class TestMissing:
    async def test_what_is_not_on_the_disk_is_no_whole_backup(self, filled, tmp_path):
        """As when the folder of the data is not mounted where the command runs."""
        path = tmp_path / "instance_config.json"
        blocks = json.loads((filled.folder / "instance_config.json").read_text())
        blocks["Data"]["UploadPath"] = str(tmp_path / "elsewhere")
        path.write_text(json.dumps(blocks))
        (tmp_path / "words").write_text(WORDS)
        words = ("--passphrase-file", tmp_path / "words", "--config", path)
        said = await cvf("backup", tmp_path / "lost.cvb", *words, expected=1)
        assert "Data.UploadPath" in said
        assert not (tmp_path / "lost.cvb").exists()
        await cvf("backup", tmp_path / "less.cvb", *words, "--allow-missing")
        assert (tmp_path / "less.cvb").exists()


class TestRestore:
    async def test_one_that_was_broken_off_is_begun_again(self, filled, file, tmp_path):
        config = elsewhere(filled.folder / "instance_config.json", tmp_path / "second")
        loaded, lines = load(config), 0

        class Killed(BaseException):
            pass

        def dying(_: str) -> None:
            nonlocal lines
            lines += 1
            if lines == stop:
                raise Killed

        async with database_of(config) as mongo:
            target = Target(mongo, Path(loaded.data.upload_path), Path(loaded.secrets.path))
            with file.open("rb") as source:

                def reader() -> Reader:
                    source.seek(0)
                    return Reader(source, Passphrase(WORDS))

                stop = 4
                with pytest.raises(Killed):
                    await restoring.restore(target, reader, numbers.load(), dying)
                with pytest.raises(Conflict, match="cvf restore"):
                    await check(mongo, numbers.newest())
                stop = 0
                await restoring.restore(target, reader, numbers.load(), dying)
            assert await check(mongo, numbers.newest()) == numbers.newest()
            async with database_of(filled.folder / "instance_config.json") as first:
                there, here = await content(first), await content(mongo)
            for name in ("users", "groups", "sources", "data_files", "files", "subject_batches"):
                assert here[name] == there[name], name

    async def test_what_is_not_as_in_the_backup_is_told(self, filled, file, tmp_path):
        config = elsewhere(filled.folder / "instance_config.json", tmp_path / "second")
        loaded = load(config)
        async with database_of(config) as mongo:
            target = Target(mongo, Path(loaded.data.upload_path), Path(loaded.secrets.path))

            def spoiling(line: str) -> None:
                if line == "reading back":
                    (content_file,) = (target.data / "files").glob("??/*")
                    content_file.write_bytes(content_file.read_bytes()[:-1] + b"?")

            with file.open("rb") as source:

                def reader() -> Reader:
                    source.seek(0)
                    return Reader(source, Passphrase(WORDS))

                with pytest.raises(Conflict, match=r"\(data\)"):
                    await restoring.restore(target, reader, numbers.load(), spoiling)

    async def test_a_backup_of_a_newer_program_is_refused(self, filled, file, tmp_path):
        config = elsewhere(filled.folder / "instance_config.json", tmp_path / "second")
        async with database_of(config) as mongo:
            target = Target(mongo, tmp_path / "data", tmp_path / "keys")
            with file.open("rb") as source:

                def reader() -> Reader:
                    source.seek(0)
                    return Reader(source, Passphrase(WORDS))

                with pytest.raises(Conflict, match="newer program"):
                    await restoring.restore(target, reader, numbers.load()[:-1], [].append)
            assert await Catalogue(mongo).names() == set()


class TestWhileItChanges:
    async def test_every_copy_is_whole_while_sources_come_and_go(self, filled, tmp_path):
        """Ingest, delete and ask without a pause; each copy holds all that its sources name."""
        packets = {path.stem: path.read_bytes() for path in sorted(PACKETS.glob("*/*.json"))[:2]}
        over = asyncio.Event()
        rounds = 0

        async def change() -> None:
            nonlocal rounds
            while not over.is_set():
                rounds += 1
                source = await filled.source(f"changing{rounds}")
                for name, packet in packets.items():
                    file_id = await filled.upload(source, f"{name}.json", packet)
                    await filled.ingest(source, file_id)
                deleted = await filled.call("DELETE", f"/sources/{source}")
                assert deleted.status < 300

        changing = asyncio.ensure_future(change())
        mongo = open_configured(filled.config.mongo_db)
        seen = number = 0
        try:
            while rounds < 3 and number < 60:
                number += 1
                out = io.BytesIO()
                taking = Taking(mongo, filled.folder / "data", Writer(out, CHEAP, INFO), [].append)
                await taking.run(filled.folder / "keys", None)
                out.seek(0)
                seen += await whole(out, filled, tmp_path / str(number))
        finally:
            over.set()
            await changing
            mongo.close()
        assert rounds >= 3
        assert seen > number


class Meddling(Writer):
    """A writer that changes the database at the very moment that a batch, or a file, goes by."""

    def __init__(self, out, change, moment) -> None:
        super().__init__(out, CHEAP, INFO)
        self.change = change
        self.moment = moment

    def document(self, name: str, data: bytes) -> None:
        super().document(name, data)
        if name == self.moment:
            self.change()

    def file(self, placed, content) -> None:
        super().file(placed, content)
        if self.moment == "file":
            self.change()


class TestOrder:
    """What is copied of a source that changes between the first look at it and the last."""

    @pytest.fixture
    async def changing(self, mongo_url, tmp_path):
        name = f"cv3_test_{uuid4().hex[:12]}"
        mongo = Mongo.open(mongo_url, name, 2)
        await mongo.collection("sources").insert(
            {"_id": "s", "generation": 1, "folder": None, "deleted": False, "shares": _shares(1)}
        )
        await mongo.collection("subject_batches").insert_many(_batches(1))
        with pymongo.MongoClient(mongo_url) as client:
            yield mongo, client[name], tmp_path
        await mongo.drop()
        mongo.close()

    async def taken(self, mongo, data, change, moment="subject_batches") -> dict[str, list]:
        out = io.BytesIO()
        await Taking(mongo, data, Meddling(out, change, moment), [].append).run(None, None)
        out.seek(0)
        found, name = {}, ""
        for kind, body in Reader(out, CHEAP):
            if kind == b"C":
                name = body.decode()
            elif kind == b"D":
                found.setdefault(name, []).append(unpacked(body))
        return found

    async def test_a_switch_meanwhile_is_copied_with_its_batches(self, changing):
        mongo, database, folder = changing
        switches = iter([2, 3])

        def switch() -> None:
            number = next(switches, None)
            if number is None:
                return
            database.subject_batches.insert_many(_batches(number))
            new = {"generation": number, "shares": _shares(number)}
            database.sources.update_one({"_id": "s"}, {"$set": new})
            database.subject_batches.delete_many({"share": f"share{number - 1}"})

        found = await self.taken(mongo, folder, switch)
        (source,) = found["sources"]
        assert source["generation"] == 3
        batches = {each["_id"] for each in found["subject_batches"]}
        assert {each["_id"] for each in _batches(3)} <= batches
        # What was copied in vain is announced, so that the instance clears it up.
        assert {each["_id"] for each in found["shares"]} == {"share1", "share2", "share3"}

    async def test_a_source_that_goes_meanwhile_is_left_out(self, changing):
        mongo, database, folder = changing
        found = await self.taken(mongo, folder, lambda: database.sources.delete_one({"_id": "s"}))
        assert "sources" not in found

    async def test_a_source_that_is_being_deleted_lacks_what_went_already(self, changing):
        mongo, database, folder = changing
        database.sources.update_one({"_id": "s"}, {"$set": {"deleted": True, "folder": "cleared"}})
        for name, sha256 in (("first", "aa" * 32), ("second", "bb" * 32)):
            database.data_files.insert_one({"_id": name, "sourceId": "s"})
            database.files.insert_one({"_id": name, "sha256": sha256, "ready": True})
        kept = folder / "files" / "aa" / ("aa" * 32)
        kept.parent.mkdir(parents=True)
        kept.write_bytes(b"content")
        # The second has never had a content; its document goes while the first is copied.
        found = await self.taken(
            mongo, folder, lambda: database.files.delete_one({"_id": "second"}), "file"
        )
        assert len(found["sources"]) == 1
        assert len(found["data_files"]) == 2
        assert [each["_id"] for each in found["files"]] == ["first"]

    async def test_a_source_that_never_rests_is_said(self, changing):
        mongo, database, folder = changing
        numbers_on = iter(range(2, 100))

        def switch() -> None:
            number = next(numbers_on)
            database.subject_batches.insert_many(_batches(number))
            new = {"generation": number, "shares": _shares(number)}
            database.sources.update_one({"_id": "s"}, {"$set": new})

        with pytest.raises(Conflict, match="all the time"):
            await self.taken(mongo, folder, switch)


def _shares(number: int) -> list[dict]:
    return [{"share": f"share{number}", "dataFileId": "f", "subjects": 2, "batches": 2}]


def _batches(number: int) -> list[dict]:
    return [
        {"_id": f"share{number}/{n}", "share": f"share{number}", "data": b"x"} for n in range(2)
    ]


async def whole(out: io.BytesIO, filled, folder: Path) -> int:
    """Restore a copy, see that everything named in it is there, and return how many sources."""
    config = elsewhere(filled.folder / "instance_config.json", folder)
    loaded = load(config)
    async with database_of(config) as mongo:
        target = Target(mongo, Path(loaded.data.upload_path), Path(loaded.secrets.path))

        def reader() -> Reader:
            out.seek(0)
            return Reader(out, CHEAP)

        await restoring.restore(target, reader, numbers.load(), [].append)
        found = await content(mongo)
        batches = {each["_id"] for each in found["subject_batches"]}
        data_files = {each["_id"]: each for each in found["data_files"]}
        files = {each["_id"]: each for each in found["files"]}
        for source in (each for each in found["sources"] if not each["deleted"]):
            for share in source["shares"]:
                named = {f"{share['share']}/{n}" for n in range(share["batches"])}
                assert named <= batches
                assert data_files[share["dataFileId"]]["sourceId"] == source["_id"]
                sha256 = files[share["dataFileId"]]["sha256"]
                assert (target.data / "files" / sha256[:2] / sha256).is_file()
            if source["folder"] is not None:
                segments = target.data / "segments" / source["_id"] / source["folder"]
                assert any(segments.iterdir())
        await FileKeyStore.open(target.keys).close()
        await mongo.drop()
    shutil.rmtree(folder)
    return len(found["sources"])


class TestCommands:
    async def test_the_schema_is_led_by_commands_and_addresses(self, mongo_url):
        name = f"cv3_test_{uuid4().hex[:12]}"
        url = f"{mongo_url.split('?')[0].rstrip('/')}/{name}?appName=test"
        to = ("--db-connection-url", url)
        newest = numbers.newest()
        assert "cvf db create" in await cvf("db", "status", *to, expected=1)
        assert "cvf db create" in await cvf("db", "upgrade", *to, expected=1)
        assert "Nothing was written" in await cvf("db", "create", "--dry-run", *to)
        assert f"at number {newest}" in await cvf("db", "create", *to)
        assert f"at number {newest - 1}" in await cvf("db", "downgrade", "--to", newest - 1, *to)
        told = await cvf("db", "status", "--json", *to, expected=1)
        assert json.JSONDecoder().raw_decode(told)[0]["number"] == newest - 1
        assert f"at number {newest}" in await cvf("db", "upgrade", *to)
        said = await cvf("db", "revise", "--message", "x", *to)
        assert "nothing to do" in said
        mongo = Mongo.open(mongo_url, name, 2)
        await States(mongo).collection.update_one({"_id": "schema"}, {"$set": {"number": 99}})
        for words in (("upgrade",), ("downgrade", "--to", "0"), ("status",)):
            assert "newer" in await cvf("db", *words, *to, expected=1)
        await mongo.drop()
        mongo.close()


class TestStart:
    async def test_a_server_does_not_start_on_a_newer_database(
        self, mongo_url, redis_url, tmp_path
    ):
        async with nodes.node(tmp_path, mongo_url, redis_url) as node:
            mongo = open_configured(node.config.mongo_db)
            schema = States(mongo).collection
            number = numbers.newest() + 1
            await schema.update_one({"_id": "schema"}, {"$set": {"number": number}})
            health = await node.call("GET", "/health/ready", None)
            assert health.status == 503
            assert "newer" in health.json["services"]["database"]["detail"]
            with pytest.raises(Exception, match="newer than this program"):
                async with nodes.beside(node):
                    pass
            mongo.close()
