"""What the log writes of secrets and of exceptions."""

import json
import logging

import pytest
import structlog

from cvf_app.backends import log
from cvf_app.errors import Invalid, Unavailable

CANARY = "CANARY-7f3a5d20"


@pytest.fixture
def lines():
    """What the logger of this test writes, line by line."""
    before = structlog.get_config()
    log.configure("cv3-test", "INFO")
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
