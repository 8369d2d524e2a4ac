"""Letters on their way: a real database, a real mail server on loopback, a clock that is moved."""

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.uri_parser import parse_uri

from cvf_app.backends.keystore import FileKeyStore
from cvf_app.backends.mail import SECRET, LetterRefused, LoginRefused, MailDown, Relay
from cvf_app.backends.mongo import Mongo
from cvf_app.config import EmailFrom, Smtp, SmtpAuthentication
from cvf_app.errors import Conflict, NotFound, Unavailable
from cvf_app.ids import new_id
from cvf_app.mail.delivery import Delivery
from cvf_app.mail.model import Kind, State
from cvf_app.mail.service import Mails
from cvf_app.mail.store import HOURS, LETTERS, MailStore
from cvf_app.mail.writing import Writer
from tests.support.certificates import authority
from tests.support.services import free_port
from tests.support.sink import LOGIN, silent, sink

ADA, EVE = "ada@example.org", "eve@example.org"
FROM = EmailFrom(address="cafe@hospital.example", name="Hospital")
PASSWORD = SmtpAuthentication(required=True, username=LOGIN[0], password=LOGIN[1])


class Office:
    """An outbox on a database of its own, and the postmen of several processes."""

    def __init__(self, mongo, database, keys):
        self.mongo, self.database, self.keys = mongo, database, keys
        self.moment = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
        self.store = MailStore(mongo)
        self.mails = self.outbox()

    def outbox(self, *, configured=True):
        return Mails(self.store, self.keys, lambda: self.moment, configured=configured)

    def postman(self, port, *, mails=None, patience=5.0, **more):
        settings = Smtp(**{"host": "127.0.0.1", "port": port, **more})
        writer = Writer(FROM, "bounces@hospital.example")
        relay = Relay(settings, self.keys, writer.domain, patience)
        return Delivery(mails or self.mails, self.store, relay, writer, lambda: self.moment)

    async def tell(self, event="one", *to, kind=Kind.LOGIN_PERMITTED):
        await self.mails.send(kind, event, to or (ADA,), {"username": "ada"})

    async def letter(self):
        (only,) = await self.mails.page(None, 10, 0)
        return only

    async def states(self):
        return {state: n for state, n in (await self.store.counts()).items() if n}

    def later(self, **time):
        self.moment += timedelta(**time)


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


@pytest.fixture(scope="module")
def trusted(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("authority"))


class TestServers:
    async def test_a_plain_one_takes_a_letter_as_configured(self, office):
        async with sink() as server:
            await office.tell()
            await office.postman(server.port).work()
        (taken,) = server.taken
        assert (taken.sender, taken.recipient) == ("bounces@hospital.example", ADA)
        assert taken.message["Sender"] == "bounces@hospital.example"
        assert taken.message["From"] == "Hospital <cafe@hospital.example>"
        assert "you may log in" in taken.message["Subject"]
        assert not taken.encrypted
        assert await office.states() == {State.SENT: 1}

    @pytest.mark.parametrize("security", ["auto", "starttls"])
    async def test_starttls_with_an_authority_of_ones_own(self, office, trusted, security):
        more = {"security": security, "ca_file": str(trusted.ca_file), "authentication": PASSWORD}
        async with sink(starttls=trusted.server, login=True) as server:
            await office.tell()
            await office.postman(server.port, **more).work()
            told = await office.postman(server.port, **more).test(EVE)
        (taken,) = server.to(ADA)
        assert taken.encrypted
        assert taken.logged_in
        assert told.encryption.startswith("TLSv1.")
        assert told.logged_in

    async def test_tls_at_once(self, office, trusted):
        async with sink(tls=trusted.server) as server:
            more = {"security": "tls", "ca_file": str(trusted.ca_file)}
            told = await office.postman(server.port, **more).test(ADA)
        assert told.encryption.startswith("TLSv1.")
        assert len(server.taken) == 1

    @pytest.mark.parametrize("security", ["auto", "starttls", "tls"])
    async def test_a_certificate_that_nobody_vouches_for_is_refused(
        self, office, trusted, security
    ):
        served = {"tls": trusted.server} if security == "tls" else {"starttls": trusted.server}
        async with sink(**served) as server:
            with pytest.raises(MailDown, match="not trusted"):
                await office.postman(server.port, security=security).test(ADA)
            assert server.taken == []

    async def test_a_certificate_of_another_name_is_refused(self, office, trusted):
        more = {"security": "starttls", "ca_file": str(trusted.ca_file), "host": "127.0.0.2"}
        async with sink(starttls=trusted.server, host="127.0.0.2") as server:
            with pytest.raises(MailDown, match="not trusted"):
                await office.postman(server.port, **more).test(ADA)

    async def test_starttls_that_is_not_offered_is_an_error_where_it_is_wanted(self, office):
        async with sink() as server:
            with pytest.raises(MailDown):
                await office.postman(server.port, security="starttls").test(ADA)
            assert server.taken == []

    async def test_the_password_comes_from_the_key_store_if_it_is_not_configured(self, office):
        await office.keys.write_secret(SECRET, {"username": LOGIN[0], "password": LOGIN[1]})
        more = {"security": "none", "authentication": SmtpAuthentication(required=True)}
        async with sink(login=True) as server:
            await office.postman(server.port, **more).test(ADA)
        assert set(server.logins) == {LOGIN}

    async def test_a_password_does_not_go_over_an_open_line_unasked(self, office):
        async with sink(login=True) as server:
            with pytest.raises(MailDown, match="offers no encryption"):
                await office.postman(server.port, authentication=PASSWORD).test(ADA)
        assert server.logins == []

    async def test_a_wrong_password_is_an_alarm_and_the_letter_waits(self, office):
        wrong = SmtpAuthentication(required=True, username=LOGIN[0], password="Tr0ub4dor")
        async with sink(login=True) as server:
            await office.tell()
            with pytest.raises(LoginRefused) as refused:
                await office.postman(server.port, security="none", authentication=wrong).work()
            assert "Tr0ub4dor" not in refused.value.sentence
            assert (await office.letter()).state is State.WAITING
            office.later(minutes=1)
            right = {"security": "none", "authentication": PASSWORD}
            await office.postman(server.port, **right).work()
        assert len(server.to(ADA)) == 1

    async def test_a_server_that_wants_a_login_that_we_do_not_give(self, office):
        async with sink(login=True) as server:
            with pytest.raises(MailDown, match="530"):
                await office.postman(server.port).test(ADA)

    async def test_one_that_takes_the_connection_and_hangs_is_given_up(self, office):
        async with silent() as port:
            await office.tell()
            await office.postman(port, patience=0.3).work()
        letter = await office.letter()
        assert (letter.state, letter.attempts) == (State.WAITING, 1)
        assert "within 0.3 seconds" in letter.reason

    async def test_one_that_hangs_with_a_letter_is_given_up_and_others_wait(self, office):
        async with sink() as server:
            server.talking.clear()
            await office.tell("one", ADA, EVE)
            await office.postman(server.port, patience=0.3).work()
            assert len(server.taken) == 1
            assert await office.states() == {State.WAITING: 2}


class TestRefusals:
    async def test_an_unknown_recipient_is_final_and_shown_without_the_address(self, office):
        async with sink() as server:
            server.refuses[ADA] = f"550 5.1.1 <{ADA}> unknown"
            await office.tell("one", ADA, EVE)
            await office.postman(server.port).work()
        assert [each.recipient for each in server.taken] == [EVE]
        (failed,) = await office.mails.page(State.FAILED, 10, 0)
        assert failed.reason == "The mail server refuses this letter (550 5.1.1)."
        with pytest.raises(Unavailable, match="could not be sent since yesterday: 1"):
            await office.mails.health()
        office.later(hours=25)
        assert await office.mails.health() == "Letters that wait: 0."

    async def test_one_that_is_put_off_is_tried_again(self, office):
        async with sink() as server:
            server.refuses[ADA] = "451 4.7.1 greylisted"
            await office.tell()
            postman = office.postman(server.port)
            await postman.work()
            assert (await office.letter()).state is State.WAITING
            server.refuses.clear()
            office.later(minutes=1)
            await postman.work()
        assert len(server.taken) == 1

    async def test_what_is_no_address_fails_and_harms_no_other(self, office):
        async with sink() as server:
            await office.tell("one", "no address", ADA)
            await office.postman(server.port).work()
        assert [each.recipient for each in server.taken] == [ADA]
        assert await office.states() == {State.FAILED: 1, State.SENT: 1}

    async def test_a_failed_letter_can_be_tried_again(self, office):
        async with sink() as server:
            server.refuses[ADA] = "550 no"
            await office.tell()
            await office.postman(server.port).work()
            server.refuses.clear()
            await office.mails.retry((await office.letter()).letter_id)
            await office.postman(server.port).work()
        assert len(server.taken) == 1
        with pytest.raises(NotFound):
            await office.mails.retry((await office.letter()).letter_id)

    async def test_a_letter_of_trial_says_at_once_what_is_wrong(self, office):
        async with sink() as server:
            server.refuses[ADA] = "550 no"
            with pytest.raises(LetterRefused):
                await office.postman(server.port).test(ADA)


class TestOnce:
    async def test_the_same_event_is_one_letter_to_each(self, office):
        async with sink() as server:
            for _ in range(3):
                await office.tell("one", ADA, EVE, f" {ADA.upper()} ")
            await office.tell("two", ADA)
            await office.postman(server.port).work()
            await office.tell("one", ADA)
            await office.postman(server.port).work()
        assert (len(server.to(ADA)), len(server.to(EVE))) == (2, 1)

    async def test_a_server_that_was_down_gets_each_letter_once(self, office):
        port = free_port()
        postman = office.postman(port)
        await office.tell("one", ADA, EVE)
        for minutes in (0, 1, 5, 15, 60):
            office.later(minutes=minutes)
            await postman.work()
        assert [each.attempts for each in await office.mails.page(None, 10, 0)] == [5, 5]
        with pytest.raises(Unavailable, match="cannot be reached"):
            await office.mails.health()
        await office.tell("two", ADA)
        async with sink(port=port) as server:
            # A new letter finds the server back, and those that waited for it follow at once.
            await postman.work()
            await postman.work()
            await office.postman(port).work()
        assert (len(server.to(ADA)), len(server.to(EVE))) == (2, 1)
        assert await office.states() == {State.SENT: 3}

    async def test_tries_are_a_minute_five_fifteen_and_then_an_hour_apart_for_a_day(self, office):
        postman = office.postman(free_port())
        await office.tell()
        tries, begin = [], office.moment
        while (await office.letter()).state is State.WAITING:
            before = (await office.letter()).attempts
            await postman.work()
            if (await office.letter()).attempts > before:
                tries.append((office.moment - begin) // timedelta(minutes=1))
            office.later(minutes=1)
        assert tries[:6] == [0, 1, 6, 21, 81, 141]
        assert tries[-1] == 24 * 60
        assert (await office.letter()).state is State.FAILED
        assert (await office.letter()).reason.startswith("Tried for a day.")

    async def test_several_processes_send_each_letter_once(self, office):
        async with sink() as server:
            await office.tell("one", *(f"p{n}@example.org" for n in range(30)))
            postmen = [office.postman(server.port) for _ in range(4)]
            for _ in range(3):
                await asyncio.gather(*(postman.work() for postman in postmen))
        assert len(server.taken) == 30
        assert len({each.recipient for each in server.taken}) == 30

    async def test_a_crash_between_taking_and_noting_gives_one_copy_more_and_no_third(self, office):
        async with sink() as server:
            await office.tell()
            for copies in (1, 2):
                server.talking.clear()
                server.heard.clear()
                dying = asyncio.create_task(office.postman(server.port).work())
                await server.heard.wait()
                dying.cancel()
                with suppress(asyncio.CancelledError):
                    await dying
                server.talking.set()
                assert len(server.taken) == copies
                await office.postman(server.port).work()
                assert len(server.taken) == copies
                office.later(minutes=3)
            await office.postman(server.port).work()
        assert len({each.message["Message-ID"] for each in server.taken}) == 1
        assert len(server.taken) == 2
        assert (await office.letter()).state is State.FAILED
        assert "may have arrived" in (await office.letter()).reason

    async def test_a_database_that_is_away_when_a_letter_was_taken_gives_no_second_copy(
        self, office, mongo_url
    ):
        async with sink() as server, forwarding(mongo_url) as forward:
            mongo = Mongo.open(forward.uri, office.database, 5)
            far = MailStore(mongo)
            near, office.store = office.store, far
            postman = office.postman(server.port)
            office.store = near
            await office.tell()
            server.talking.clear()
            working = asyncio.create_task(postman.work())
            await server.heard.wait()
            await forward.cut()
            server.talking.set()
            with pytest.raises(Unavailable):
                await working
            assert (await office.letter()).state is State.SENDING
            await forward.mend()
            office.later(minutes=3)
            async with asyncio.timeout(30):
                while (await office.letter()).state is State.SENDING:
                    with suppress(Unavailable):
                        await postman.work()
            assert (await office.letter()).state is State.SENT
            assert len(server.taken) == 1
            mongo.close()

    async def test_a_stranger_gets_one_letter_of_a_kind_an_hour(self, office):
        async with sink() as server:
            postman = office.postman(server.port)

            async def ask(event, address=EVE):
                await office.mails.send(Kind.ACCESS_REQUEST_RECEIVED, event, (address,), {})
                await postman.work()

            await ask("one")
            await ask("two")
            await ask("three", ADA)
            office.later(minutes=59)
            await ask("four")
            assert (len(server.to(EVE)), len(server.to(ADA))) == (1, 1)
            office.later(minutes=2)
            await ask("one")
            assert len(server.to(EVE)) == 1
            await ask("five")
            assert len(server.to(EVE)) == 2

    async def test_facts_outside_the_list_of_a_kind_are_refused(self, office):
        with pytest.raises(ValueError, match="justification"):
            await office.mails.send(
                Kind.ACCESS_REQUEST_RECEIVED, "one", (EVE,), {"justification": "buy now"}
            )
        with pytest.raises(ValueError, match="username"):
            await office.mails.send(Kind.LOGIN_PERMITTED, "one", (EVE,), {})
        assert await office.states() == {}


class TestOutbox:
    async def test_the_database_tells_neither_who_nor_what(self, office):
        async with sink() as server:
            server.refuses[EVE] = f"550 {EVE} unknown"
            facts = {"name": "Ada Lovelace", "email": ADA, "justification": "for my study"}
            kinds = (Kind.ACCESS_REQUEST_WAITING, "one", (ADA, EVE), facts)
            await office.mails.send(*kinds)
            await office.mails.send(Kind.ACCESS_REQUEST_RECEIVED, "one", (EVE,), {})
            await _dumped_without(office, ADA, EVE, "Lovelace", "study", "example.org")
            await office.postman(server.port).work()
        await _dumped_without(office, ADA, EVE, "Lovelace", "study", "example.org")
        sent = await office.mongo.collection(LETTERS).find({"state": "sent"})
        assert [each["sealed"] for each in sent] == [""]

    async def test_without_a_server_letters_are_kept_and_sent_within_a_day(self, office):
        office.mails = office.outbox(configured=False)
        await office.tell("old", EVE)
        office.later(hours=25)
        await office.tell("new", ADA)
        await office.postman(free_port(), mails=office.mails).work()
        assert await office.states() == {State.NOT_CONFIGURED: 2}
        assert "Letters kept and not sent: 2" in await office.mails.health()
        with pytest.raises(Conflict):
            await office.postman(free_port(), mails=office.mails).test(ADA)
        office.mails = office.outbox()
        async with sink() as server:
            await office.postman(server.port).work()
        assert [each.recipient for each in server.taken] == [ADA]

    async def test_old_letters_are_removed_after_a_month_and_waiting_ones_are_not(self, office):
        async with sink() as server:
            await office.tell("one", ADA)
            await office.mails.send(Kind.ACCESS_REQUEST_RECEIVED, "two", (EVE,), {})
            await office.postman(server.port).work()
        office.later(days=29)
        await office.tell("three", EVE)
        assert await office.mails.forget() == 0
        office.later(days=2)
        assert await office.mails.forget() == 2
        assert await office.states() == {State.WAITING: 1}
        assert await office.mongo.collection(HOURS).count({}) == 0

    async def test_a_letter_that_cannot_be_opened_now_waits(self, office, tmp_path):
        other = FileKeyStore.open(tmp_path / "other", create=True)
        elsewhere = Mails(office.store, other, lambda: office.moment, configured=True)
        async with sink() as server:
            await office.tell()
            await office.postman(server.port, mails=elsewhere).work()
            assert server.taken == []
            assert (await office.letter()).state is State.WAITING
            office.later(minutes=1)
            await office.postman(server.port).work()
            assert len(server.taken) == 1
        await other.close()


async def _dumped_without(office, *secrets):
    for name in (LETTERS, HOURS):
        for document in await office.mongo.collection(name).find({}):
            for secret in secrets:
                assert secret.casefold() not in repr(document).casefold()


class Forward:
    """A way to a server that can be cut."""

    def __init__(self, uri):
        (self._host, self._port), *_ = parse_uri(uri)["nodelist"]
        self._server, self._open, self.port = None, set(), 0
        self._uri = uri

    @property
    def uri(self):
        return self._uri.replace(f":{self._port}", f":{self.port}")

    async def mend(self):
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self):
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _pass_on(self, reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection(self._host, self._port)
        self._open |= {writer, inner_writer}
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


@asynccontextmanager
async def forwarding(uri):
    forward = Forward(uri)
    await forward.mend()
    try:
        yield forward
    finally:
        await forward.cut()


async def _copy(source, target):
    with suppress(ConnectionError):
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
    target.close()
