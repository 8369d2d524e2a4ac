"""When a tool says it is."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from cvf_app.settings.operators import read_moment

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class TestReadMoment:
    @pytest.mark.parametrize(
        "text",
        [
            str(int(NOON.timestamp())),
            "2026-11-21T12:00:00Z",
            "2026-11-21T12:00:00.000+00:00",
            "2026-11-21T13:00:00+01:00",
            "2026-11-21 12:00:00",
        ],
    )
    def test_seconds_and_written_times_are_the_same_moment(self, text):
        assert read_moment(text) == NOON

    def test_every_moment_can_be_compared(self):
        moment = read_moment("2026-11-21T14:00:00+02:00")
        assert moment.tzinfo == timezone(timedelta(hours=2))
        assert moment - NOON == timedelta()

    @pytest.mark.parametrize("text", ["", "now", "-1", "1.5", "9" * 40, "²", "2026-13-01", "\n"])
    def test_anything_else_is_none(self, text):
        assert read_moment(text) is None
