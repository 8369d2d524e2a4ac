"""Reading one chunk of an upload from a multipart form, straight to disk.

Promises: memory does not grow with the chunk; what is written is removed unless the caller
takes it; a form that breaks off or is none is `Invalid`, one that is too large `TooLarge`.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from cvf_app.errors import Invalid, TooLarge
from cvf_app.files.place import room
from cvf_app.loops import in_thread

LARGEST_CHUNK = 64 * 2**20
_SLICE = 64 * 1024
_WRITE = 2**20
_MOST_PARTS = 32
_LARGEST_FIELD = 8 * 1024
_BOUNDARY = 200


@dataclass
class Form:
    """The fields of a form and the SHA-256 and size of its file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    sha256: str = ""
    size: int = 0


def boundary(content_type: str) -> bytes:
    """Return the boundary of a multipart form from its content type.

    Raises:
        Invalid: it announces no such form.
    """
    kind, options = parse_options_header(content_type)
    mark = options.get("boundary", "")
    if kind != "multipart/form-data" or not mark or len(mark) > _BOUNDARY or not mark.isascii():
        raise Invalid("A chunk is sent as multipart/form-data with a field named file.", path="$")
    return mark.encode()


async def receive(body: AsyncIterator[bytes], mark: bytes, target: Path) -> Form:
    """Read a form; its field `file` is written to `target` and synced.

    Raises:
        Invalid: the form is broken or has no file.
        TooLarge: the file or a field is larger than we take.
        StorageFull: there is no room.
    """
    reading = _Reading(mark)
    with room():
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb", buffering=0) as out:
            async for received in body:
                for start in range(0, len(received), _SLICE):
                    reading.take(received[start : start + _SLICE])
                    if len(reading.pending) >= _WRITE:
                        await in_thread(reading.flush, out)
            reading.take(None)
            await in_thread(reading.finish, out)
    if not reading.seen_file:
        raise Invalid("The form has no field named file.", path="$.file")
    return reading.form


class _Reading:
    """The state of a form that is being read; `pending` are bytes of the file not yet written."""

    def __init__(self, mark: bytes) -> None:
        self.form = Form()
        self.pending = bytearray()
        self.seen_file = False
        self._decoder = MultipartDecoder(mark, 4 * _WRITE, max_parts=_MOST_PARTS)
        self._digest = hashlib.sha256()
        self._name: str | None = None
        self._in_file = False
        self._value = bytearray()
        self._done = False

    def take(self, received: bytes | None) -> None:
        try:
            self._decoder.receive_data(received)
            for event in self._events():
                self._event(event)
        except RequestEntityTooLarge as fault:
            raise TooLarge("The form has more or larger fields than a chunk needs.") from fault
        except (ValueError, AttributeError) as fault:
            raise Invalid("The form is broken off or malformed.", path="$") from fault

    def flush(self, out: BinaryIO) -> None:
        if self.pending:
            self._digest.update(self.pending)
            view = memoryview(self.pending)
            while view:
                view = view[out.write(view) :]
            view.release()
            self.pending = bytearray()

    def finish(self, out: BinaryIO) -> None:
        self.flush(out)
        os.fsync(out.fileno())
        self.form.sha256 = self._digest.hexdigest()

    def _events(self) -> Iterator[Event]:
        while not self._done:
            event = self._decoder.next_event()
            if isinstance(event, NeedData):
                return
            self._done = isinstance(event, Epilogue)
            yield event

    def _event(self, event: Event) -> None:
        if isinstance(event, File | Field):
            self._begin(
                event.name, event.filename if isinstance(event, File) else None, event.headers
            )
        elif isinstance(event, Data) and self._in_file:
            self.form.size += len(event.data)
            if self.form.size > LARGEST_CHUNK:
                raise TooLarge(f"A chunk may have at most {LARGEST_CHUNK} bytes.")
            self.pending += event.data
        elif isinstance(event, Data):
            self._value += event.data
            if len(self._value) > _LARGEST_FIELD:
                raise TooLarge(f"A field beside the file may have at most {_LARGEST_FIELD} bytes.")
            if not event.more_data and self._name is not None:
                self.form.fields[self._name] = self._value.decode("utf-8", "strict")

    def _begin(self, name: str, filename: str | None, _headers: Headers) -> None:
        self._name = name
        self._value = bytearray()
        self._in_file = name == "file"
        if self._in_file:
            if self.seen_file:
                raise Invalid("The form has more than one field named file.", path="$.file")
            self.seen_file = True
            self.form.filename = filename or ""
