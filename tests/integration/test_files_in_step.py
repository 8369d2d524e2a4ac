"""Documents and contents in step: what a crash or a hand disturbs, the sweep brings back."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
import pytest

from cvf_app.backends.mongo import Mongo
from cvf_app.clock import epoch, now
from cvf_app.errors import CafeVariomeError, Conflict, Invalid, NotFound
from cvf_app.files.folder import Folder
from cvf_app.files.form import Form
from cvf_app.files.model import FILES_SCOPE, NewFile, RangeLabel, UploadGrant
from cvf_app.files.service import Files
from cvf_app.files.store import FileStore
from cvf_app.files.workspace import Workspace
from cvf_app.ids import new_id
from cvf_app.principal import Principal, Role
from cvf_app.sources.service import Sources
from cvf_app.sources.store import SourceStore

ANN = Principal(user_id="ann", username="ann", role=Role.USER)
CSV = b"id,sex\n1,female\n"
DIGEST = sha256(CSV).hexdigest()
GRANT = UploadGrant(user_id="ann", scope=FILES_SCOPE, issued_at=0.0, expires_at=2**40)
OLD = 10**6


class Shelf:
    """The service of files on a database and a folder of its own, with a clock to move."""

    def __init__(self, mongo, folder):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.folder = folder
        self.store = FileStore(mongo.collection("upload_tokens"), mongo.collection("files"))
        self.again()

    def again(self):
        """Begin anew on the same folder and database, as after a restart."""
        self.place = Folder(self.folder, 1000)
        formats = ("csv", "json", "zip")
        self.files = Files(
            self.store, self.place, Workspace(self.folder), lambda: self.now, formats
        )

    async def keep(self, content=CSV, name="a.csv", expires_at=None):
        body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % (
            name.encode()
        )
        form = Form(_pieces(body + content + b"\r\n--x--\r\n"), b"x", 5)
        (kept,) = await self.files.uploads.take_form(form, "ann", expires_at)
        return kept

    async def send(self, first, piece, total, name="r.csv"):
        label = RangeLabel(
            identifier="r", filename=name, total=total, first=first, last=first + len(piece) - 1
        )
        return await self.files.take_range(GRANT, label, _pieces(piece))

    async def there(self, file):
        try:
            return (await self.files.show(file.file_id, ANN)).ready
        except NotFound:
            return None

    def age(self, digest=DIGEST):
        """Let a content be an old one."""
        os.utime(self.place.path(digest), (1, 1))


async def _pieces(content):
    for start in range(0, len(content), 777):
        yield content[start : start + 777]


@pytest.fixture(scope="module")
def mongo(mongo_url):
    opened = Mongo.open(mongo_url, f"cv3_test_{new_id()[:12]}", 20)
    yield opened
    opened.close()


@pytest.fixture
async def shelf(mongo, tmp_path):
    await mongo.drop()
    made = Shelf(mongo, tmp_path / "data")
    await made.store.prepare()
    return made


class TestExpiry:
    async def test_a_file_goes_with_its_content_when_its_time_is_over(self, shelf):
        until = int(shelf.now.timestamp()) + 60
        short, long = await shelf.keep(expires_at=until), await shelf.keep(b"id\n1\n")
        await shelf.files.expire()
        assert await shelf.there(short)
        shelf.now += timedelta(seconds=60)
        assert await shelf.there(short) is None
        await shelf.files.expire()
        assert not await shelf.place.exists(short.sha256)
        assert await shelf.there(long)

    async def test_while_a_job_needs_it_it_stays(self, shelf):
        short = await shelf.keep(expires_at=int(shelf.now.timestamp()) + 60)
        await shelf.files.hold(short.file_id, "job/1")
        shelf.now += timedelta(days=1)
        await shelf.files.expire()
        assert await shelf.there(short)
        await shelf.files.release(short.file_id, "job/1")
        await shelf.files.expire()
        assert await shelf.there(short) is None

    async def test_a_moment_that_is_over_is_refused(self, shelf):
        with pytest.raises(Invalid):
            shelf.files.check_expiry(int(shelf.now.timestamp()))


class TestHolding:
    async def test_what_a_job_needs_is_not_deleted(self, shelf):
        kept = await shelf.keep()
        await shelf.files.hold(kept.file_id, "job/1")
        await shelf.files.hold(kept.file_id, "job/2")
        await shelf.files.release(kept.file_id, "job/2")
        with pytest.raises(Conflict):
            await shelf.files.withdraw(kept.file_id, ANN)
        assert (await shelf.files.get(kept.file_id)).reserved
        await shelf.files.release(kept.file_id, "job/1")
        await shelf.files.withdraw(kept.file_id, ANN)
        assert not await shelf.place.exists(DIGEST)

    async def test_a_file_that_is_not_there_cannot_be_held(self, shelf):
        with pytest.raises(NotFound):
            await shelf.files.hold("none", "job/1")


class TestSweep:
    async def test_a_file_whose_content_is_gone_is_forgotten(self, shelf):
        gone, stays = await shelf.keep(), await shelf.keep(b"id\n1\n")
        shelf.place.path(gone.sha256).unlink()
        await shelf.files.sweep()
        assert await shelf.there(gone) is None
        assert await shelf.there(stays)

    async def test_a_held_one_is_marked_until_its_content_is_back(self, shelf):
        kept = await shelf.keep()
        await shelf.files.hold(kept.file_id, "source/1")
        blob = shelf.place.path(DIGEST)
        blob.unlink()
        for _ in range(2):
            await shelf.files.sweep()
            assert await shelf.there(kept) is False
        assert await shelf.files.missing((kept.file_id, "never")) == {kept.file_id, "never"}
        blob.write_bytes(CSV)
        await shelf.files.sweep()
        assert await shelf.there(kept) is True
        assert await shelf.files.missing((kept.file_id,)) == frozenset()

    async def test_content_without_a_document_goes_when_it_is_old(self, shelf):
        # A crash after the content was kept and before its document was.
        await shelf.place.keep(await shelf.place.stage(_pieces(CSV), OLD))
        await shelf.files.sweep()
        assert await shelf.place.exists(DIGEST)
        shelf.age()
        await shelf.files.sweep()
        assert not await shelf.place.exists(DIGEST)

    async def test_a_removal_that_was_cut_off_is_finished(self, shelf):
        kept = await shelf.keep()
        # A crash after the document was removed and before the content was.
        await shelf.store.remove(kept.file_id)
        shelf.age()
        await shelf.files.sweep()
        assert not await shelf.place.exists(DIGEST)

    async def test_a_removal_that_was_cut_off_while_asking_loses_nobody_elses_file(self, shelf):
        mine, theirs = await shelf.keep(), await shelf.keep(name="b.csv")
        await shelf.store.remove(mine.file_id)

        class Killed(BaseException):
            pass

        async def killed():
            raise Killed

        with pytest.raises(Killed):
            await shelf.place.remove(DIGEST, killed)
        await shelf.files.sweep(grace=0)
        assert await shelf.there(theirs)
        assert await shelf.place.exists(DIGEST)

    async def test_a_disk_that_is_not_mounted_loses_no_document(self, shelf):
        kept = await shelf.keep()
        shelf.folder.rename(shelf.folder.with_name("elsewhere"))
        shelf.folder.mkdir()
        await shelf.files.sweep()
        await shelf.files.look(DIGEST)
        shelf.folder.rmdir()
        shelf.folder.with_name("elsewhere").rename(shelf.folder)
        assert await shelf.there(kept)

    async def test_looking_at_one_content_is_enough_for_it(self, shelf):
        kept = await shelf.keep()
        await shelf.files.look(DIGEST)
        assert await shelf.there(kept)
        shelf.place.path(DIGEST).unlink()
        await shelf.files.look(DIGEST)
        assert await shelf.there(kept) is None


class TestSources:
    async def test_what_came_for_a_source_and_never_became_a_data_file_goes(self, mongo, shelf):
        sources = Sources(SourceStore(mongo), shelf.files, None, None, None)
        kept = {}
        for name, at in (("attached", 1), ("forgotten", 1), ("young", epoch(now()))):
            content = b"id\n%b\n" % name.encode()
            staged = await shelf.place.stage(_pieces(content), OLD)
            new = NewFile(file_id=name, name="a.csv", type="csv", user="ann", holders=("source/1",))
            file = await shelf.files.keep(staged, new)
            kept[name] = msgspec.structs.replace(file, uploaded_at=at)
            await shelf.store.put(kept[name], ("source/1",))
        await sources.attach("1", kept["attached"])
        await sources.agree_files()
        assert await shelf.there(kept["attached"])
        assert await shelf.there(kept["young"])
        assert await shelf.there(kept["forgotten"]) is None
        assert not await shelf.place.exists(kept["forgotten"].sha256)


class TestMany:
    async def test_equal_content_sent_and_deleted_at_once_is_never_lost(self, shelf):
        async def one(number):
            try:
                kept = await shelf.keep(name=f"{number}.csv")
            except Conflict:
                return None
            if number % 2:
                await shelf.files.withdraw(kept.file_id, ANN)
                return None
            return kept

        for _ in range(10):
            kept = [file for file in await asyncio.gather(*map(one, range(12))) if file]
            assert await shelf.place.exists(DIGEST) == bool(kept)
            for file in kept:
                assert await shelf.there(file)
                await shelf.files.withdraw(file.file_id, ANN)
            assert not await shelf.place.exists(DIGEST)


class TestRanges:
    async def test_after_a_restart_an_upload_goes_on_where_it_was(self, shelf):
        assert await shelf.send(0, CSV[:5], len(CSV)) is None
        shelf.again()
        assert (await shelf.files.state(GRANT, "r")).received == 5
        kept = await shelf.send(5, CSV[5:], len(CSV))
        assert kept.sha256 == DIGEST
        assert (await shelf.files.state(GRANT, "r")).complete

    async def test_a_body_that_breaks_off_leaves_what_came(self, shelf):
        whole = CSV * 1000
        label = RangeLabel(
            identifier="r", filename="r.csv", total=len(whole), first=0, last=len(whole) - 1
        )

        async def hangs_up():
            yield whole[:5000]
            yield whole[5000:9000]
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await shelf.files.take_range(GRANT, label, hangs_up())
        assert (await shelf.files.state(GRANT, "r")).received == 9000
        kept = await shelf.send(9000, whole[9000:], len(whole))
        assert kept.sha256 == sha256(whole).hexdigest()

    async def test_more_bytes_than_announced_are_refused_and_the_rest_is_kept(self, shelf):
        label = RangeLabel(identifier="r", filename="r.csv", total=len(CSV), first=0, last=4)
        with pytest.raises(Invalid):
            await shelf.files.take_range(GRANT, label, _pieces(CSV))
        assert (await shelf.files.state(GRANT, "r")).received == 5

    async def test_the_file_of_a_finished_upload_is_deleted_and_sent_again(self, shelf):
        kept = await shelf.send(0, CSV, len(CSV))
        with pytest.raises(Conflict):
            await shelf.send(0, CSV, len(CSV))
        await shelf.files.withdraw(kept.file_id, ANN)
        assert (await shelf.send(0, CSV, len(CSV))).sha256 == DIGEST

    async def test_two_that_send_the_same_at_once_make_one_file(self, shelf):
        async def send():
            try:
                return await shelf.send(0, CSV, len(CSV))
            except CafeVariomeError:
                return None

        made = {file.file_id for file in await asyncio.gather(send(), send(), send()) if file}
        assert len(made) == 1

    async def test_wrong_content_leaves_nothing_of_the_upload(self, shelf):
        picture = b"\x89PNG\0" * 20_000
        with pytest.raises(Invalid):
            await shelf.send(0, picture, 200_000)
        assert (await shelf.files.state(GRANT, "r")).received == 0
        # Too little to judge at once is judged when all is there.
        assert await shelf.send(0, picture[:10], len(picture)) is None
        with pytest.raises(Invalid):
            await shelf.send(10, picture[10:], len(picture))
        assert (await shelf.files.state(GRANT, "r")).received == 0


class TestCleaning:
    async def test_uploads_in_which_nothing_happened_for_a_week_go(self, shelf):
        await shelf.send(0, CSV[:5], len(CSV))
        await shelf.files.clean_up()
        assert (await shelf.files.state(GRANT, "r")).received == 5
        for folder in (shelf.folder / "uploads").iterdir():
            os.utime(folder, (1, 1))
        await shelf.files.clean_up()
        assert (await shelf.files.state(GRANT, "r")).received == 0

    async def test_leftovers_of_work_go_when_they_are_old(self, shelf):
        await shelf.keep()
        left = [shelf.folder / kind / "left" for kind in ("bin", "spool")]
        for path in left:
            path.parent.mkdir()
        left[0].mkdir()
        left[1].touch()
        await shelf.files.sweep()
        assert all(path.exists() for path in left)
        await shelf.files.sweep(grace=0)
        assert not any(path.exists() for path in left)
