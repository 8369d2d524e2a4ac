"""Writing a stream to a file of this machine, in a thread, with its digest.

Promises: memory holds one piece of the stream; the file is synced when `write` returns; nothing of
it stays when the stream breaks off or the disk is full. A cancelled wait for a thread loses no
bytes and leaves no file behind: whoever comes next for the lock writes what is still pending.
"""

import hashlib
import os
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from cvf_app.errors import TooLarge
from cvf_app.files.formats import HEAD
from cvf_app.files.place import Staged, room
from cvf_app.loops import in_thread


async def write(
    content: AsyncIterator[bytes], target: Path, limit: int, piece_bytes: int
) -> Staged:
    """Write a stream to a file; the token of what is returned is the file's name.

    Raises:
        TooLarge: it has more bytes than `limit`.
        StorageFull: there is no room.
    """
    writer = _Writer(target)
    done = False
    waiting = size = 0
    try:
        async for received in content:
            size += len(received)
            if size > limit:
                raise TooLarge(f"At most {limit} bytes are taken at once here.")
            writer.pending.append(received)
            waiting += len(received)
            if waiting >= piece_bytes:
                await in_thread(writer.flush)
                waiting = 0
        staged = await in_thread(writer.finish)
        done = True
    finally:
        if not done:
            await in_thread(writer.abandon)
    return staged


class _Writer:
    """A file that is being written; its methods wait for the disk."""

    def __init__(self, target: Path) -> None:
        self.pending: deque[bytes] = deque()
        self._target = target
        self._lock = Lock()
        self._out: BinaryIO | None = None
        self._over = False
        self._digest = hashlib.sha256()
        self._head = b""
        self._size = 0

    def flush(self) -> None:
        with self._lock, room():
            self._write()

    def finish(self) -> Staged:
        with self._lock, room():
            out = self._write()
            if out is not None:
                os.fsync(out.fileno())
                out.close()
            self._over = True
        return Staged(self._target.name, self._size, self._digest.hexdigest(), self._head)

    def abandon(self) -> None:
        with self._lock:
            self._over = True
            if self._out is not None:
                self._out.close()
            self._target.unlink(missing_ok=True)

    def _write(self) -> BinaryIO | None:
        if self._over:
            return None
        if self._out is None:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._out = self._target.open("wb", buffering=0)
        while self.pending:
            data = self.pending.popleft()
            if len(self._head) < HEAD:
                self._head = (self._head + data)[:HEAD]
            self._digest.update(data)
            self._size += len(data)
            view = memoryview(data)
            while view:
                view = view[self._out.write(view) :]
        return self._out
