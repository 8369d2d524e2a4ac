"""What the log writes of secrets and of exceptions."""

import gc
import json
import logging

import pytest
import structlog
from pymongo.errors import AutoReconnect

from cvf_app.backends import log
from cvf_app.errors import Invalid, Unavailable

CANARY = "CANARY-7f3a5d20"


@pytest.fixture
def lines():
    """What the logger of this test writes, line by line."""
    before = structlog.get_config()
    log.configure("cv3-test", "INFO")
    # What an earlier test left open tells of itself now, and not among our lines.
    gc.collect()
    written = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())
    logging.getLogger("cv3-test").handlers = [handler]
    yield written
    structlog.configure(**before)


def fails(raised):
    subject = {"subjectId": CANARY}
    raise raised if subject else AssertionError


def write(fault, level="error"):
    try:
        fails(fault)
    except Exception as caught:  # noqa: BLE001 - whatever it is, it is written
        getattr(structlog.get_logger("cv3.test"), level)("failed", exc_info=caught)


class TestMask:
    @pytest.mark.parametrize(
        "name", ["token", "upload_token", "X-Upload-Token", "Password", "client_secret", "api_key"]
    )
    def test_names_of_secrets_are_masked(self, lines, name):
        structlog.get_logger().info("seen", **{name: CANARY}, other="shown")
        (line,) = lines
        assert json.loads(line)[name] == "***"
        assert json.loads(line)["other"] == "shown"

    def test_secrets_inside_values_are_masked(self, lines):
        structlog.get_logger().info("seen", calls=[{"Authorization": CANARY, "Accept": "all"}])
        assert json.loads(lines[0])["calls"] == [{"Authorization": "***", "Accept": "all"}]

    def test_lower_levels_are_dropped(self, lines):
        structlog.get_logger().debug("quiet")
        assert lines == []


class TestOutline:
    def test_local_variables_are_not_written(self, lines):
        write(ZeroDivisionError())
        assert CANARY not in lines[0]
        (stack,) = json.loads(lines[0])["exception"]
        assert stack["exc_type"] == "ZeroDivisionError"
        assert [frame["name"] for frame in stack["frames"]] == ["write", "fails"]
        assert all("locals" not in frame for frame in stack["frames"])

    @pytest.mark.parametrize(
        "fault",
        [
            KeyError(CANARY),
            ValueError(f"no number: {CANARY}"),
            Invalid(f"no such term: {CANARY}"),
            ExceptionGroup(CANARY, [KeyError(CANARY)]),
        ],
        ids=lambda fault: type(fault).__name__,
    )
    def test_messages_that_may_quote_data_are_not_written(self, lines, fault):
        fault.add_note(CANARY)
        write(fault)
        assert CANARY not in lines[0]
        assert json.loads(lines[0])["exception"][0]["exc_type"] == type(fault).__name__

    def test_causes_are_told_by_their_type_alone(self, lines):
        try:
            fails(KeyError(CANARY))
        except KeyError as caught:
            fault = RuntimeError("above")
            fault.__cause__ = caught
        write(fault)
        assert CANARY not in lines[0]
        stacks = json.loads(lines[0])["exception"]
        assert [stack["exc_type"] for stack in stacks] == ["RuntimeError", "KeyError"]

    @pytest.mark.parametrize("fault", [Unavailable("The database is away."), OSError(28, "full")])
    def test_a_service_or_disk_at_fault_is_named(self, lines, fault):
        write(fault)
        assert json.loads(lines[0])["exception"][0]["exc_value"] == str(fault)

    def test_a_cause_that_may_quote_data_is_told_by_its_type(self, lines):
        fault = Unavailable("The database is away.")
        fault.__cause__ = KeyError(CANARY)
        structlog.get_logger("cv3.test").warning("away", cause=fault)
        assert CANARY not in lines[0]
        told = "Unavailable: The database is away. <- KeyError"
        assert json.loads(lines[0])["cause"] == told

    def test_a_connection_that_failed_is_named_with_its_host(self, lines):
        fault = AutoReconnect("db.example:27017: connection closed")
        structlog.get_logger("cv3.test").warning("away", cause=fault)
        told = "AutoReconnect: db.example:27017: connection closed"
        assert json.loads(lines[0])["cause"] == told


JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJDQU5BUlkifQ.c2lnbmF0dXJl-_x"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----"


class TestScrub:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            (f"sent {JWT} there", "sent *** there"),
            (f"next=%22{JWT}", "next=%22***"),
            (f"a {PEM} b", "a *** b"),
            (f"-----BEGIN PRIVATE KEY-----\n{CANARY} and cut off", "***"),
            ("login hvs.CAESIJabcdefgh failed", "login *** failed"),
            ("old s.AbCdEfGhIjKlMnOpQrStUvWx", "old ***"),
            ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer ***"),
            ("Authorization: Splunk 11111111-2222-3333", "Authorization: Splunk ***"),
            (f"https://u:{CANARY}@vault.example/x", "https://***@vault.example/x"),
            (f"redis://:{CANARY}@host:6379/0", "redis://***@host:6379/0"),
            (f"/v1?access_token={CANARY}&page=2", "/v1?access_token=***&page=2"),
            (f"/back?code={CANARY}&state=s", "/back?code=***&state=s"),
            (f'{{"password": "{CANARY} with words", "a": 1}}', '{"password": ***, "a": 1}'),
            (f"client_secret={CANARY}", "client_secret=***"),
            ("mail to ada.l@hospital.example now", "mail to <e-mail> now"),
        ],
    )
    def test_what_looks_like_a_secret_or_an_address_is_masked(self, text, shown):
        assert log.scrub(text) == shown

    @pytest.mark.parametrize(
        "text",
        [
            "The token has expired; get a new one.",
            "Basic authentication is not taken.",
            "127.0.0.1:27017: connection refused",
            "https://vault.example:8200/v1/sys/health",
            "HP:0001250",
        ],
    )
    def test_what_is_none_stays(self, text):
        assert log.scrub(text) == text

    @pytest.mark.parametrize(
        "piece", ["a", "eyJ", "a.", "a@b.", "http://a:", "token=", "-----BEGIN PRIVATE KEY-----"]
    )
    def test_long_texts_are_cut(self, piece):
        assert len(log.scrub(piece * 10**6)) < 2 * log.LONGEST_TEXT

    def test_secrets_are_masked_wherever_they_stand(self, lines):
        structlog.get_logger().info(
            f"seen {JWT}", calls=[{"at": {"url": JWT}}], raw=JWT.encode(), fault=OSError(JWT)
        )
        structlog.get_logger().info("seen", where={JWT: 1})
        write(OSError(13, f"no entry with {JWT}"))
        assert len(lines) == 3
        assert all(JWT not in line and "eyJzdWIi" not in line for line in lines)


class TestLibraries:
    @pytest.mark.parametrize("library", ["urllib3.connectionpool", "hvac", "aiohttp.client"])
    def test_their_warnings_are_masked_as_our_lines_are(self, lines, library):
        logging.getLogger(library).debug("header Bearer %s", JWT)
        logging.getLogger(library).info("header Bearer %s", JWT)
        logging.getLogger(library).warning("retrying ?token=%s", CANARY)
        (line,) = lines
        told = json.loads(line)
        assert (told["level"], told["library"]) == ("warning", library)
        assert told["text"] == "retrying ?token=***"

    def test_what_asyncio_quotes_of_an_exception_is_left_out(self, lines):
        fault = KeyError(CANARY)
        logging.getLogger("asyncio").error(
            "Task exception was never retrieved\nfuture: <Task exception=%r>", fault, exc_info=fault
        )
        assert CANARY not in lines[0]
        assert json.loads(lines[0])["exception"][0]["exc_type"] == "KeyError"

    def test_the_loggers_of_the_web_server_are_left_alone(self):
        server = logging.getLogger("hypercorn.error")
        before = server.level, list(server.handlers), server.propagate
        log.configure("cv3-test", "INFO")
        assert (server.level, list(server.handlers), server.propagate) == before
