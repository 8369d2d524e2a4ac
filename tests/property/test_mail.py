"""Nothing that people type forges a header or a tag, and every address is what it says."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTP, default
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from cvf_app.config import EmailFrom
from cvf_app.errors import Invalid
from cvf_app.mail.model import Kind
from cvf_app.mail.writing import Writer

MOMENT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
HEADERS = ["From", "Sender", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"]
HEADERS += ["MIME-Version", "Content-Type"]
TAGS = {"html", "head", "meta", "title", "body", "p", "br", "a"}
# Often what an attacker would try, else anything.
NASTY = st.lists(
    st.sampled_from(
        ["é", "\r\n", "\n", "\r", "\u2028", "\x0b", "\x85", "Bcc: eve@evil.example", "To: ",
         "<script>", "{{ 7*7 }}", "{% include 'test.txt' %}", "=?utf-8?q?=0aBcc:_x?=", "x", " ",
         ",", "@", "a@b.example", "\0", "--===", "."]
    ),
    max_size=8,
).map("".join)  # fmt: skip
TEXT = st.one_of(NASTY, st.text(max_size=60))
WRITER = Writer(EmailFrom(address="cafe@hospital.example", name="Café"), "out@hospital.example")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, _attrs):
        self.seen.add(tag)


@st.composite
def letters(draw):
    kind = draw(st.sampled_from(Kind))
    return kind, {name: draw(TEXT) for name in sorted(kind.may_say)}


@given(letters())
def test_facts_forge_neither_headers_nor_tags(letter):
    kind, facts = letter
    made = WRITER.write(kind, "1234", "ada@example.org", facts, MOMENT)
    message = message_from_bytes(made.as_bytes(policy=SMTP), policy=default)
    assert message.keys() == HEADERS
    assert message["To"] == "ada@example.org"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    tags = Tags()
    tags.feed(message.get_body(("html",)).get_content())
    assert tags.seen <= TAGS


@given(TEXT.map(lambda text: text + "@x.example"))
def test_a_recipient_is_refused_or_the_only_one(recipient):
    try:
        made = WRITER.write(Kind.TEST, "1234", recipient, {}, MOMENT)
    except Invalid:
        return
    message = message_from_bytes(made.as_bytes(policy=SMTP), policy=default)
    assert message.keys() == HEADERS
    assert [address.addr_spec for address in message["To"].addresses] == [recipient]
