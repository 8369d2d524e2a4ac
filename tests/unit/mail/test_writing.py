"""A letter as an e-mail."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTP, default

import pytest

from cvf_app.config import EmailFrom
from cvf_app.errors import Invalid
from cvf_app.mail.model import Kind
from cvf_app.mail.writing import Writer

FROM = EmailFrom(address="cafe@hospital.example", name="Hospital")
MOMENT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def written(kind, facts=None, recipient="ada@example.org", writer=None):
    given = {name: f"the {name}" for name in kind.needs} if facts is None else facts
    made = (writer or Writer(FROM, "")).write(kind, "0123456789", recipient, given, MOMENT)
    return message_from_bytes(made.as_bytes(policy=SMTP), policy=default)


def text_of(message):
    return message.get_body(("plain",)).get_content().replace("\r\n", "\n")


def html_of(message):
    return message.get_body(("html",)).get_content()


class TestWriter:
    @pytest.mark.parametrize("kind", Kind)
    def test_every_kind_has_a_subject_a_text_and_the_same_in_html(self, kind):
        message = written(kind, {name: f"the {name}" for name in kind.may_say})
        assert "Hospital" in message["Subject"]
        for name in kind.may_say - {"email"}:
            assert f"the {name}" in text_of(message) or f"the {name}" in message["Subject"]
        for line in text_of(message).splitlines():
            assert line.replace("> ", "&gt; ") in html_of(message)

    @pytest.mark.parametrize("kind", Kind)
    def test_facts_that_need_not_be_there_may_be_missing(self, kind):
        assert "{{" not in text_of(written(kind))

    def test_sender_and_from_are_as_configured(self):
        plain = written(Kind.TEST)
        assert plain["From"] == "Hospital <cafe@hospital.example>"
        assert "Sender" not in plain
        writer = Writer(FROM, "bounces@hospital.example")
        assert written(Kind.TEST, writer=writer)["Sender"] == "bounces@hospital.example"
        assert writer.envelope_sender == "bounces@hospital.example"

    def test_the_same_letter_has_the_same_id_and_date(self):
        first, second = written(Kind.TEST), written(Kind.TEST)
        assert first["Message-ID"] == second["Message-ID"] == "<0123456789@hospital.example>"
        assert first["Date"] == second["Date"]

    @pytest.mark.parametrize(
        "address",
        ["", "ada", "ada@", "@x.org", "ada@x.org,eve@y.org", "a b@x.org", "ada@x.org\nBcc: e@y.org",
         "x" * 250 + "@x.org", "ada@x..y", "ada@-x.org", ".ada@x.org", "a..b@x.org", "ada@x..",
         "Ada <ada@x.org>", "ada@x.org\r\n", '"ada"@x.org', "ödön@x.org", "a\0da@x.org"],
    )  # fmt: skip
    def test_no_mail_goes_to_what_is_no_address(self, address):
        with pytest.raises(Invalid):
            written(Kind.TEST, recipient=address)

    def test_words_of_strangers_are_quoted_text_and_no_link(self):
        facts = {
            "name": "Eve\r\nBcc: x@y.org <b>",
            "email": "eve@example.org",
            "justification": "<script>alert(1)</script>\n\nPlease log in: http://evil.example/",
        }
        message = written(Kind.ACCESS_REQUEST_WAITING, facts)
        assert "Bcc" not in message
        assert "> Please log in" in text_of(message)
        assert "Name: Eve Bcc: x@y.org <b>" in text_of(message)
        html = html_of(message)
        assert "<script" not in html
        assert "<b>" not in html
        assert "href" not in html

    def test_only_addresses_of_the_web_become_links(self):
        good = {"username": "ada", "link": "https://cafe.example/login"}
        assert 'href="https://cafe.example/login"' in html_of(written(Kind.LOGIN_PERMITTED, good))
        bad = {"username": "ada", "link": "javascript:alert(1)"}
        assert "href" not in html_of(written(Kind.LOGIN_PERMITTED, bad))

    def test_a_stranger_reads_nothing_that_was_typed(self):
        assert Kind.ACCESS_REQUEST_RECEIVED.may_say == frozenset()
