"""Reading a multipart form as a stream: its fields, and its files piece by piece (RFC 7578).

Promises: memory does not grow with the files; a form that breaks off or is none is `Invalid`, one
with too many or too large fields `TooLarge`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from cvf_app.errors import Invalid, TooLarge

_SLICE = 64 * 1024
_BUFFER = 4 * 2**20
_LARGEST_FIELD = 8 * 1024
_BOUNDARY = 200
_AROUND = 64
_BROKEN = "The form is broken off or malformed."


@dataclass(frozen=True)
class Incoming:
    """A file in a form: the name it has there, and its bytes, to be read before the next."""

    filename: str
    content: AsyncIterator[bytes]


@dataclass
class Form:
    """A form that is being read; `fields` fill while `files` is walked to its end."""

    body: AsyncIterator[bytes]
    mark: bytes
    most_parts: int
    fields: dict[str, str] = field(default_factory=dict)

    async def files(self) -> AsyncIterator[Incoming]:
        """Yield the files of the fields named `file`, in order.

        Raises:
            Invalid: the form is broken off or malformed, or has another file.
            TooLarge: a field is larger than we take, or there are too many parts.
        """
        events = self._events()
        async for event in events:
            if isinstance(event, File):
                if event.name != "file":
                    raise Invalid("A file is sent in a field named file.", path="$.file")
                content = _content(events)
                yield Incoming(event.filename or "", content)
                # What was not read must not be taken for the next part.
                async for _ in content:
                    continue
            elif isinstance(event, Field):
                if not isinstance(event.name, str):
                    raise Invalid("A field of the form has no name.", path="$")
                self.fields[event.name] = await _text(events)

    async def _events(self) -> AsyncIterator[Event]:
        decoder = MultipartDecoder(self.mark, _BUFFER, max_parts=self.most_parts)
        marker, waiting = b"--" + self.mark, b""
        async for received in self.body:
            for start in range(0, len(received), _SLICE):
                waiting += received[start : start + _SLICE]
                cut = _cut(waiting, marker)
                for event in _decoded(decoder, waiting[:cut]):
                    yield event
                waiting = waiting[cut:]
        for rest in (waiting, None):
            for event in _decoded(decoder, rest):
                yield event


def boundary(content_type: str) -> bytes:
    """Return the boundary of a multipart form from its content type.

    Raises:
        Invalid: it announces no such form.
    """
    kind, options = parse_options_header(content_type)
    mark = options.get("boundary", "")
    if kind != "multipart/form-data" or not mark or len(mark) > _BOUNDARY or not mark.isascii():
        raise Invalid("This is sent as multipart/form-data with a field named file.", path="$")
    return mark.encode()


def _cut(waiting: bytes, marker: bytes) -> int:
    """Return how much may go to the decoder: never a boundary without what follows it.

    Werkzeug 3.1 takes the line break before a boundary for content when its bytes end just after
    the boundary, which would add a byte to the file.
    """
    cut = max(0, len(waiting) - len(marker) - _AROUND)
    found = waiting.find(marker, max(0, cut - len(marker) - _AROUND))
    return cut if found < 0 else min(cut, max(0, found - len(b"\r\n")))


def _decoded(decoder: MultipartDecoder, received: bytes | None) -> list[Event]:
    found: list[Event] = []
    try:
        decoder.receive_data(received)
        while not isinstance(event := decoder.next_event(), NeedData):
            found.append(event)
            if isinstance(event, Epilogue):
                break
    except RequestEntityTooLarge as fault:
        raise TooLarge("The form has more or larger fields than are needed.") from fault
    except (ValueError, AttributeError) as fault:
        raise Invalid(_BROKEN, path="$") from fault
    return found


async def _content(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async for event in events:
        if not isinstance(event, Data):
            raise Invalid(_BROKEN, path="$")
        if event.data:
            yield event.data
        if not event.more_data:
            return


async def _text(events: AsyncIterator[Event]) -> str:
    value = bytearray()
    async for piece in _content(events):
        value += piece
        if len(value) > _LARGEST_FIELD:
            raise TooLarge(f"A field beside the file may have at most {_LARGEST_FIELD} bytes.")
    try:
        return value.decode()
    except UnicodeDecodeError as fault:
        raise Invalid("A field of the form is not UTF-8.", path="$") from fault
