"""A table as text, cut into pieces of whole rows.

Pure. A row ends with a line before whose end the quotation marks are even: nothing else of the
table has to be understood. Memory is bounded: a piece that finds no end is not gone on with.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO

PIECE = 256 * 2**10
LONGEST_OPEN = 8 * 2**20


class Cutter:
    """Cuts the rest of a file; `line` counts the lines before what is not cut yet."""

    def __init__(self, file: BinaryIO, line: int, advance: Callable[[int], None]) -> None:
        """Begin where the file stands, behind so many lines; `advance` hears of bytes cut."""
        self.line = line
        self._file = file
        self._advance = advance

    def pieces(self, size: int = PIECE) -> Iterator[tuple[int, bytes]]:
        """Yield pieces, each with the number of lines before it.

        The file stands at its end afterwards, or before rows that go on for too long.
        """
        held = b""
        wanted = size
        while piece := self._file.read(wanted):
            held += piece
            end = _end(held)
            if end:
                yield self._cut(held[:end])
                held, wanted = held[end:], size
            elif len(held) > LONGEST_OPEN:
                self._file.seek(-len(held), 1)
                return
            else:
                wanted = len(held)
        if held:
            yield self._cut(held)

    def _cut(self, content: bytes) -> tuple[int, bytes]:
        line = self.line
        self.line += content.count(b"\n")
        self._advance(len(content))
        return line, content


def _end(held: bytes) -> int:
    """Return where the last whole row ends, 0 if none does."""
    end = held.rfind(b"\n") + 1
    odd = held.count(b'"', 0, end) % 2 == 1
    while odd:
        # The mark that is open here has even ones before it: look in front of its line.
        opened = held.rfind(b'"', 0, end)
        before = held.rfind(b"\n", 0, opened) + 1
        odd ^= held.count(b'"', before, end) % 2 == 1
        end = before
    return end
