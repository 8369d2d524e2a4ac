"""JSON files with one object, a list of them, or one a line: the objects, one at a time, as bytes.

Promises: streaming; nothing larger than one object and one piece of the file is kept.
"""

import re
from collections.abc import Callable, Iterator
from typing import IO

import msgspec

from cvf_app.pipelines.model import Unreadable

LARGEST_OBJECT = 64 * 2**20
_PIECE = 256 * 2**10
_BOM = b"\xef\xbb\xbf"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]|"', re.DOTALL)


def objects(content: IO[bytes], advance: Callable[[int], None]) -> Iterator[tuple[str, bytes]]:
    """Yield each object with the words that say where it is (`line 3`, `item 3`, or nothing).

    Raises:
        Unreadable: this is no JSON of that kind.
    """
    first = _line(content, advance, 1).removeprefix(_BOM)
    while first and not first.strip():
        first = _line(content, advance, 1)
    start = first.lstrip()
    if start[:1] == b"[":
        yield from _listed(start[1:], content, advance)
    elif start[:1] != b"{":
        raise Unreadable("This is no JSON: it begins with neither { nor [.")
    elif _whole(start):
        yield from _lines(start, content, advance)
    else:
        parts, size = [start], len(start)
        while piece := content.read(_PIECE):
            advance(len(piece))
            parts.append(piece)
            size += len(piece)
            if size > LARGEST_OBJECT:
                raise _too_large("")
        yield "", b"".join(parts)


def _whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _lines(
    first: bytes, content: IO[bytes], advance: Callable[[int], None]
) -> Iterator[tuple[str, bytes]]:
    number, line = 1, first
    while line:
        if line.strip():
            yield f"line {number}", line
        number += 1
        line = _line(content, advance, number)


def _line(content: IO[bytes], advance: Callable[[int], None], number: int) -> bytes:
    line = content.readline(_PIECE if number == 1 else LARGEST_OBJECT + 1)
    advance(len(line))
    if len(line) > LARGEST_OBJECT:
        raise _too_large(f"line {number}")
    # A first line without an end may be a whole list on one line: that is read in pieces.
    while number == 1 and len(line) >= _PIECE and not line.endswith(b"\n") and line[:1] == b"{":
        more = content.readline(_PIECE)
        if not more:
            break
        advance(len(more))
        line += more
        if len(line) > LARGEST_OBJECT:
            raise _too_large("line 1")
    return line


def _listed(
    rest: bytes, content: IO[bytes], advance: Callable[[int], None]
) -> Iterator[tuple[str, bytes]]:
    number = 1
    buffer = _until(rest.lstrip(), content, advance)
    while buffer[:1] != b"]":
        where = f"item {number}"
        if number > 1:
            if buffer[:1] != b",":
                raise Unreadable(f"The JSON list is broken before {where}.")
            buffer = _until(buffer[1:].lstrip(), content, advance)
        if buffer[:1] != b"{":
            raise Unreadable(f"The JSON list is broken at {where}: an object is wanted there.")
        found, buffer = _object(buffer, content, advance, where)
        yield where, found
        buffer = _until(buffer.lstrip(), content, advance)
        number += 1
    _check_end(buffer[1:], content)


def _object(
    buffer: bytes, content: IO[bytes], advance: Callable[[int], None], where: str
) -> tuple[bytes, bytes]:
    depth = place = 0
    while True:
        for token in _TOKEN.finditer(buffer, place):
            sign = token[0]
            # A lone quotation mark begins a text that goes on in the next piece.
            if sign == b'"':
                break
            place = token.end()
            depth += (sign == b"{") - (sign == b"}")
            if not depth:
                return buffer[:place], buffer[place:]
        piece = content.read(_PIECE)
        advance(len(piece))
        if not piece:
            raise Unreadable(f"The JSON list ends within {where}.")
        buffer += piece
        if len(buffer) > LARGEST_OBJECT + _PIECE:
            raise _too_large(where)


def _until(buffer: bytes, content: IO[bytes], advance: Callable[[int], None]) -> bytes:
    while not buffer:
        piece = content.read(_PIECE)
        if not piece:
            raise Unreadable("The JSON list has no end.")
        advance(len(piece))
        buffer = piece.lstrip()
    return buffer


def _check_end(rest: bytes, content: IO[bytes]) -> None:
    while True:
        if rest.strip():
            raise Unreadable("There is something after the JSON list.")
        rest = content.read(_PIECE)
        if not rest:
            return


def _too_large(where: str) -> Unreadable:
    place = f" ({where})" if where else ""
    return Unreadable(f"A JSON object is larger than {LARGEST_OBJECT // 2**20} MiB{place}.")
