"""Parts of contents in HTTP: `Range`, `Content-Range` and file names (RFC 9110, 14; RFC 6266)."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from werkzeug.exceptions import RequestedRangeNotSatisfiable

from cvf_app.errors import Invalid

_ASKED = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_SENT = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18})", re.ASCII)


@dataclass(frozen=True)
class Sent:
    """Which bytes a body has of how many; `first` is nothing when it has none and only asks."""

    first: int | None
    last: int
    total: int


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and last byte that are asked for; nothing means the whole.

    Several ranges at once are answered with the whole, which a server is free to do.

    Raises:
        RequestedRangeNotSatisfiable: there are no such bytes.
    """
    found = _ASKED.fullmatch((header or "").replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
        if found[2] and int(found[2]) < int(found[1]):
            return None
    else:
        first, last = max(0, size - int(found[2])), size - 1
    if first > last:
        raise RequestedRangeNotSatisfiable(length=size)
    return first, last


def sent_range(header: str | None, length: int | None) -> Sent:
    """Read which bytes a body has: `bytes 0-99/1000`, or `bytes */1000` to ask what has arrived.

    Raises:
        Invalid: it says nothing of the kind, or something else than the body's length.
    """
    found = _SENT.fullmatch((header or "").strip())
    if found is None:
        raise Invalid(
            "Say which bytes these are: Content-Range: bytes FIRST-LAST/TOTAL.",
            path="$.Content-Range",
        )
    total = int(found[3])
    if found[1] is None:
        return Sent(None, -1, total)
    first, last = int(found[1]), int(found[2])
    if not first <= last < total:
        raise Invalid("Content-Range names bytes that cannot be.", path="$.Content-Range")
    if length is not None and length != last - first + 1:
        raise Invalid(
            f"The body has {length} bytes, and its Content-Range says {last - first + 1}.",
            path="$.Content-Range",
        )
    return Sent(first, last, total)


def disposition(name: str) -> str:
    """Write the header by which a browser saves a file under its own name."""
    last = name.rpartition("/")[2]
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\%' else "_"
        for letter in last
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"
