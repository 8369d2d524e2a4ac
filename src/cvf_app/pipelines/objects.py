"""JSON files with one object, a list of them, or one a line: the objects, one at a time, as bytes.

Promises: streaming; nothing larger than one object and a few pieces of the file is kept.
"""

import re
from collections.abc import Callable, Iterator
from typing import IO

import msgspec

from cvf_app.pipelines.model import Unreadable

LARGEST_OBJECT = 64 * 2**20
_PIECE = 256 * 2**10
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]|"', re.DOTALL)
_BEHIND = re.compile(r"trailing characters \(byte ([0-9]+)\)")
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
Advance = Callable[[int], None]


class Batch(msgspec.Struct, frozen=True):
    """Some objects that follow one another: whole lines, or items of a list, or the only one."""

    kind: str
    first: int
    texts: list[bytes]

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Yield each object with the words that say where it is (`line 3`, `item 3`, or none)."""
        if self.kind != "line":
            for number, text in enumerate(self.texts, self.first):
                yield (f"{self.kind} {number}" if self.kind else ""), text
            return
        for number, line in enumerate(self.texts[0].split(b"\n"), self.first):
            if line.strip():
                yield f"line {number}", line

    def head(self, most: int) -> "Batch":
        """Return the first so many objects as a batch."""
        if self.kind != "line":
            return Batch(self.kind, self.first, self.texts[:most])
        found: list[bytes] = []
        for line in self.texts[0].split(b"\n"):
            if not most:
                break
            found.append(line)
            most -= bool(line.strip())
        return Batch(self.kind, self.first, [b"\n".join(found)])


def objects(content: IO[bytes], advance: Advance) -> Iterator[tuple[str, bytes]]:
    """Yield each object with the words that say where it is.

    Raises:
        Unreadable: this is no JSON of that kind.
    """
    for batch in batches(content, advance):
        yield from batch.objects()


def batches(content: IO[bytes], advance: Advance) -> Iterator[Batch]:
    """Yield the objects, some hundred KiB of them at a time.

    Raises:
        Unreadable: this is no JSON of that kind.
    """
    number = 1
    first = _first(content, advance).removeprefix(_BOM)
    while first and not first.strip():
        number += first.endswith(b"\n")
        first = _first(content, advance)
    start = first.lstrip()
    if start[:1] == b"[":
        yield from _listed(start[1:], content, advance)
    elif start[:1] != b"{":
        raise Unreadable("This is no JSON: it begins with neither { nor [.")
    elif _whole(start):
        yield from _lines(start, number, content, advance)
    else:
        parts, size = [start], len(start)
        while piece := content.read(_PIECE):
            advance(len(piece))
            parts.append(piece)
            size += len(piece)
            if size > LARGEST_OBJECT:
                raise _too_large("")
        yield Batch("", 1, [b"".join(parts)])


def _whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _lines(first: bytes, number: int, content: IO[bytes], advance: Advance) -> Iterator[Batch]:
    held, size = [first], len(first)
    while piece := content.read(_PIECE):
        advance(len(piece))
        end = piece.rfind(b"\n") + 1
        if not end:
            held.append(piece)
            size += len(piece)
            if size > LARGEST_OBJECT:
                number += sum(part.count(b"\n") for part in held)
                raise _too_large(f"line {number}")
            continue
        block = b"".join((*held, piece[:end]))
        yield Batch("line", number, [block])
        number += block.count(b"\n")
        held, size = [piece[end:]], len(piece) - end
    yield Batch("line", number, [b"".join(held)])


def _first(content: IO[bytes], advance: Advance) -> bytes:
    """Read the first line; one without an end may be a whole list, of which a piece is enough."""
    line = content.readline(_PIECE)
    advance(len(line))
    if line[:1] != b"{":
        return line
    parts, size = [line], len(line)
    while size >= _PIECE and not parts[-1].endswith(b"\n"):
        more = content.readline(_PIECE)
        if not more:
            break
        advance(len(more))
        parts.append(more)
        size += len(more)
        if size > LARGEST_OBJECT:
            raise _too_large("line 1")
    return b"".join(parts)


def _listed(rest: bytes, content: IO[bytes], advance: Advance) -> Iterator[Batch]:
    items = _List(rest, content, advance)
    first, texts, size = 1, list[bytes](), 0
    try:
        for text in items.objects():
            texts.append(text)
            size += len(text)
            if size >= _PIECE:
                yield Batch("item", first, texts)
                first, texts, size = first + len(texts), [], 0
    except Unreadable as fault:
        # What came before the fault is looked at first: it may be worse.
        if texts:
            yield Batch("item", first, texts)
        raise Unreadable(fault.sentence) from fault
    if texts:
        yield Batch("item", first, texts)


class _List:
    """A JSON list that is read from its first item to its end."""

    def __init__(self, rest: bytes, content: IO[bytes], advance: Advance) -> None:
        self._buffer = rest
        self._place = 0
        self._content = content
        self._advance = advance

    def objects(self) -> Iterator[bytes]:
        number = 1
        while self._next() != b"]":
            where = f"item {number}"
            if number > 1:
                if self._next() != b",":
                    raise Unreadable(f"The JSON list is broken before {where}.")
                self._place += 1
            if self._next() != b"{":
                raise Unreadable(f"The JSON list is broken at {where}: an object is wanted there.")
            yield self._object(where)
            number += 1
        rest = self._buffer[self._place + 1 :]
        while not rest.strip():
            rest = self._content.read(_PIECE)
            if not rest:
                return
        raise Unreadable("There is something after the JSON list.")

    def _next(self) -> bytes:
        """Return the next character that is not blank, and stand before it."""
        while True:
            while (found := self._buffer[self._place : self._place + 1]) and found in _BLANK:
                self._place += 1
            if found:
                return found
            self._buffer, self._place = self._content.read(_PIECE), 0
            self._advance(len(self._buffer))
            if not self._buffer:
                raise Unreadable("The JSON list has no end.")

    def _object(self, where: str) -> bytes:
        """Return the object that begins here.

        The decoder passes over it and complains of what follows, which tells where it ends; what
        the decoder does not like is followed sign by sign, and somebody else says what is wrong.
        """
        while True:
            try:
                _ANYTHING.decode(memoryview(self._buffer)[self._place :])
                end = len(self._buffer)
            except msgspec.DecodeError as fault:
                said = str(fault)
                behind = _BEHIND.search(said)
                if behind is not None:
                    # It names the sign behind the one that should not be there.
                    end = self._place + int(behind[1]) - 1
                elif "truncated" in said:
                    self._more(where)
                    continue
                else:
                    end = self._followed(where)
            except (UnicodeDecodeError, RecursionError):
                end = self._followed(where)
            found = self._buffer[self._place : end].rstrip()
            self._place = end
            return found

    def _followed(self, where: str) -> int:
        """Return where the object ends by its braces alone."""
        depth, place = 0, self._place
        while True:
            for token in _TOKEN.finditer(self._buffer, place):
                sign = token[0]
                # A lone quotation mark begins a text that goes on in the next piece.
                if sign == b'"':
                    break
                place = token.end()
                depth += (sign == b"{") - (sign == b"}")
                if not depth:
                    return place
            behind = place - self._place
            self._more(where)
            place = behind

    def _more(self, where: str) -> None:
        """Read on, with the object that began at the beginning of the buffer."""
        held = self._buffer[self._place :]
        # As much again as is there: an object of many pieces is not gone over once for each.
        piece = self._content.read(max(_PIECE, len(held)))
        self._advance(len(piece))
        if not piece:
            raise Unreadable(f"The JSON list ends within {where}.")
        self._buffer, self._place = held + piece, 0
        if len(self._buffer) > 2 * LARGEST_OBJECT + _PIECE or len(held) > LARGEST_OBJECT:
            raise _too_large(where)


def _too_large(where: str) -> Unreadable:
    place = f" ({where})" if where else ""
    return Unreadable(f"A JSON object is larger than {LARGEST_OBJECT // 2**20} MiB{place}.")
