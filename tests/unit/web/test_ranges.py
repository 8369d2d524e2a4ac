"""Ranges as RFC 9110 writes them."""

import pytest
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from cvf_app.errors import Invalid
from cvf_app.web.ranges import Sent, asked_range, disposition, sent_range


class TestAsked:
    @pytest.mark.parametrize(
        ("header", "wanted"),
        [
            (None, None),
            ("bytes=0-9", (0, 9)),
            ("bytes=90-", (90, 99)),
            ("bytes=-10", (90, 99)),
            ("bytes=-1000", (0, 99)),
            ("bytes=50-1000", (50, 99)),
            ("bytes=9-0", None),
            ("bytes=-", None),
            ("bytes=0-1,5-6", None),
            ("lines=1-2", None),
            ("bytes=x-y", None),
        ],
    )
    def test_the_bytes_are_found_or_the_whole_is_meant(
        self, header: str | None, wanted: tuple[int, int] | None
    ) -> None:
        assert asked_range(header, 100) == wanted

    @pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=0-0", 0),
                                                  ("bytes=-0", 100)])  # fmt: skip
    def test_bytes_that_are_not_there_cannot_be_given(self, header: str, size: int) -> None:
        with pytest.raises(RequestedRangeNotSatisfiable):
            asked_range(header, size)


class TestSent:
    def test_a_range_and_a_question_are_read(self) -> None:
        assert sent_range("bytes 0-9/100", 10) == Sent(0, 9, 100)
        assert sent_range("bytes 0-9/100", None) == Sent(0, 9, 100)
        assert sent_range("bytes */100", 0) == Sent(None, -1, 100)

    @pytest.mark.parametrize(
        ("header", "length"),
        [(None, 10), ("", 10), ("bytes 0-9/*", 10), ("bytes 9-0/100", 10), ("bytes 0-100/100", 101),
         ("bytes 0-9/100", 11), ("0-9/100", 10), ("bytes */*", 0)],
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, header: str | None, length: int) -> None:
        with pytest.raises(Invalid):
            sent_range(header, length)


class TestDisposition:
    def test_a_name_is_quoted_for_old_and_new_readers(self) -> None:
        told = disposition('f/ü "a".csv')
        assert told == ("attachment; filename=\"_ _a_.csv\"; filename*=UTF-8''%C3%BC%20%22a%22.csv")
        assert "\n" not in disposition("a\r\nSet-Cookie: b.csv")
