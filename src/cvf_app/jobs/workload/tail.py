"""The end of what a program prints: bounded, as text that a page can show."""

import asyncio
import os
from typing import Self

TAIL_BYTES = 16 * 1024
_PIECE = 64 * 1024


class Tail:
    """Keep the last bytes of a pipe; `descriptor` is the end that a program writes to."""

    def __init__(self) -> None:
        """Open the pipe and read from it as the loop finds time."""
        self._reading, self.descriptor = os.pipe()
        os.set_blocking(self._reading, False)
        self._kept = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reading, self._read)
        self._open = True

    def given(self) -> Self:
        """Close our side of the writing end once the program has its own."""
        os.close(self.descriptor)
        return self

    def text(self) -> str:
        """Return what is kept, from the first whole line on when more was printed."""
        return text_of(bytes(self._kept))

    def close(self) -> None:
        """Take what is in the pipe still and stop reading."""
        if self._open:
            self._read()
        if self._open:
            self._stop()

    def _read(self) -> None:
        try:
            piece = os.read(self._reading, _PIECE)
        except BlockingIOError:
            return
        if not piece:
            self._stop()
            return
        self._kept += piece
        del self._kept[: -TAIL_BYTES - 1]

    def _stop(self) -> None:
        self._open = False
        self._loop.remove_reader(self._reading)
        os.close(self._reading)


def text_of(kept: bytes) -> str:
    """Read bytes as text; of more than `TAIL_BYTES` only the last whole lines."""
    if len(kept) > TAIL_BYTES:
        kept = kept[-TAIL_BYTES:]
        _, newline, rest = kept.partition(b"\n")
        kept = rest if newline else kept
    return kept.decode(errors="replace").replace("\0", "")
