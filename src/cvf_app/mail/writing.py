"""A letter as an e-mail (RFC 5322): plain text and HTML from one template, and nothing forged.

Promises: headers are set on an `EmailMessage`, which refuses line breaks, and hold no fact of a
letter but its recipient, whose address is checked first. The same letter always has the same
`Message-ID` and `Date`, so that a second copy can be known as one. Facts are text: in the HTML they
are escaped, and what strangers wrote is quoted line by line, never a link.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from cvf_app.config import EmailFrom, is_address
from cvf_app.errors import Invalid
from cvf_app.mail.model import Kind, LetterId

_TEMPLATES = Path(__file__).parent / "templates"
_LONGEST = 4000
_ID_LENGTH = 36
_SEVERAL_LINES = frozenset({"justification", "reason", "details"})


class Writer:
    """Writes letters in the name of this instance."""

    def __init__(self, sender: EmailFrom, on_behalf: str) -> None:
        """Write from this sender; `on_behalf` (`Email.Sender`) is who hands letters over, if other.

        Both addresses were checked with the configuration.
        """
        self._from = Address(sender.name, addr_spec=sender.address) if sender.address else None
        self.envelope_sender = on_behalf or sender.address
        self._address = sender.address
        self.domain = sender.address.rpartition("@")[2]
        self._instance = sender.name or "Cafe Variome"
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            undefined=StrictUndefined,
            autoescape=select_autoescape(enabled_extensions=("html",), default=False),
            keep_trailing_newline=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["quoted"] = _quoted

    def write(
        self,
        kind: Kind,
        letter_id: LetterId,
        recipient: str,
        facts: Mapping[str, str],
        created: datetime,
    ) -> EmailMessage:
        """Write a letter.

        Raises:
            Invalid: no mail can go to this address.
        """
        if not is_address(recipient):
            raise Invalid("This is no address that mail can go to.")
        subject, text = self._words(kind, facts)
        message = EmailMessage()
        message["From"] = self._from
        if self.envelope_sender != self._address:
            message["Sender"] = Address(addr_spec=self.envelope_sender)
        message["To"] = Address(addr_spec=recipient)
        message["Subject"] = subject
        message["Date"] = created.astimezone(UTC)
        message["Message-ID"] = f"<{letter_id[:_ID_LENGTH]}@{self.domain}>"
        # RFC 3834: nobody's absence note answers.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        message.add_alternative(self._html(subject, text, facts.get("link", "")), subtype="html")
        return message

    def _words(self, kind: Kind, facts: Mapping[str, str]) -> tuple[str, str]:
        told = dict.fromkeys(kind.may_say, "") | {
            name: _tidy(name, fact) for name, fact in facts.items()
        }
        template = self._templates.get_template(f"{kind.value}.txt")
        subject, _, body = template.render(told, instance=self._instance).partition("\n")
        return " ".join(subject.split()), body.strip() + "\n"

    def _html(self, subject: str, text: str, link: str) -> str:
        template = self._templates.get_template("letter.html")
        paragraphs = [part.splitlines() for part in text.strip().split("\n\n")]
        return template.render(
            subject=subject,
            paragraphs=paragraphs,
            link=link if urlsplit(link).scheme in {"http", "https"} else "",
        )


def _tidy(name: str, fact: str) -> str:
    """Leave printable text of a bearable length, of one line unless it may have several."""
    short = fact if len(fact) <= _LONGEST else fact[:_LONGEST] + " …"
    lines = ["".join(c for c in line if c.isprintable()) for line in short.splitlines()]
    return "\n".join(lines) if name in _SEVERAL_LINES else " ".join(lines).strip()


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
