"""Where lines of the log go: handlers that take a line in microseconds and never wait.

Promises: a line is put into a bounded backlog and the caller goes on; when the backlog is full the
oldest line is dropped and counted (`cv3_log_dropped`), so that nothing grows while a receiver is
away. What stays arrives in the order of writing. Console and file are written by a thread each
(`Writer`), since a pipe that nobody reads or a slow disk blocks whoever writes; what goes over the
network is sent from the event loop (`shipping.py`). A file that cannot be written is tried again,
and meanwhile standard error goes on.
"""

import fcntl
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from cvf_app import metrics

MOST_LINES = 10_000
MOST_BYTES = 16 * 2**20
DROP_REASONS = ("full", "refused", "stopped")
_BATCH_LINES = 500
_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line as JSON, its fields, and when it was written (nanoseconds since 1970)."""

    moment: int
    text: str
    fields: Mapping[str, Any]


class Outlet(logging.Handler):
    """A bounded backlog of lines for one receiver; any thread may write, one reader takes."""

    def __init__(
        self, sink: str, *, most_lines: int = MOST_LINES, most_bytes: int = MOST_BYTES
    ) -> None:
        """Begin empty; `sink` is the receiver's name in metrics."""
        super().__init__()
        self.sink = sink
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._last = 0
        self.news = threading.Condition()
        for reason in DROP_REASONS:
            # A rate needs the 0 that was before.
            metrics.log_dropped.labels(sink, reason)
        metrics.log_shipped.labels(sink)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line; the oldest is dropped when there is no room."""
        text = record.getMessage()
        fields = getattr(record, "fields", {"event": text})
        with self.news:
            # Strictly rising: receivers sort by it, and take equal ones for repetitions.
            self._last = max(self._last + 1, time.time_ns())
            self._lines.append(Line(self._last, text, fields))
            self._bytes += len(text)
            dropped = 0
            while len(self._lines) > self._most_lines or self._bytes > self._most_bytes:
                self._bytes -= len(self._lines.popleft().text)
                dropped += 1
            waiting = len(self._lines)
            self.news.notify()
        metrics.log_waiting.labels(self.sink).set(waiting)
        if dropped:
            self.count_dropped("full", dropped)

    def take(self, most_lines: int, most_bytes: int) -> tuple[Line, ...]:
        """Take the oldest lines out, at least one if there is any."""
        taken: list[Line] = []
        size = 0
        with self.news:
            while self._lines and len(taken) < most_lines and size < most_bytes:
                line = self._lines.popleft()
                taken.append(line)
                size += len(line.text)
            self._bytes -= size
            waiting = len(self._lines)
        metrics.log_waiting.labels(self.sink).set(waiting)
        return tuple(taken)

    @property
    def waiting(self) -> int:
        """How many lines wait."""
        return len(self._lines)

    def count_dropped(self, reason: str, number: int) -> None:
        """Count lines that the receiver does not get."""
        metrics.log_dropped.labels(self.sink, reason).inc(number)


class Tally(logging.Handler):
    """Counts the lines by level."""

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        metrics.log_lines.labels(record.levelname.lower()).inc()


class Writer(Outlet):
    """An outlet whose lines a thread of its own writes, with what `write` does of a batch."""

    def __init__(self, sink: str, write: Callable[[list[Line]], None]) -> None:
        """Start the thread; `write` takes out of the list what it has written."""
        super().__init__(sink)
        self._write = write
        self._closing = False
        self._busy = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=f"cv3-log-{sink}", daemon=True)
        self._thread.start()

    def flush(self, seconds: float = 2.0) -> None:
        """Wait until everything is written, but no longer than that."""
        until = time.monotonic() + seconds
        with self.news:
            while (self._lines or self._busy) and time.monotonic() < until and not self._failing:
                self.news.wait(0.02)

    def close(self) -> None:
        """Write what is there, within the limit of `flush`, and end the thread."""
        self.flush()
        with self.news:
            self._closing = True
            self.news.notify_all()
        super().close()

    def _run(self) -> None:
        while True:
            with self.news:
                while not self._lines and not self._closing:
                    self.news.wait()
                if self._closing and not self._lines:
                    return
                self._busy = True
            batch = list(self.take(_BATCH_LINES, MOST_BYTES))
            while batch and not (self._failing and self._closing):
                self._deliver(batch)
            if batch:
                self.count_dropped("stopped", len(batch))
            with self.news:
                self._busy = False
                self.news.notify_all()

    def join(self) -> None:
        """Wait for the end of the thread; after `close`."""
        self._thread.join()

    def _deliver(self, batch: list[Line]) -> None:
        number = len(batch)
        try:
            self._write(batch)
        except (OSError, ValueError) as fault:
            # ValueError: the stream was closed, as standard error is at the very end.
            if not self._failing and self.sink != "console":
                log = structlog.get_logger("cv3.log")
                log.error(  # noqa: TRY400 - the cause is enough, where it was raised is known
                    "log_cannot_be_written", to=self.sink, cause=fault
                )
            self._failing = True
            with self.news:
                if not self._closing:
                    self.news.wait_for(lambda: self._closing, _PAUSE_SECONDS)
        else:
            self._failing = False
        finally:
            metrics.log_shipped.labels(self.sink).inc(number - len(batch))


def console() -> Writer:
    """Make the outlet to standard error: JSON, or readable lines where a person looks on."""
    readable = structlog.dev.ConsoleRenderer(colors=True) if _is_terminal() else None

    def write(batch: list[Line]) -> None:
        lines = (line.text if readable is None else _for_people(line, readable) for line in batch)
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
        batch.clear()

    return Writer("console", write)


def file(path: Path, most_bytes: int, backups: int) -> Writer:
    """Make the outlet to a file that is rotated; several processes may write to the same one."""
    return Writer("file", RotatingFile(path, most_bytes, backups).write)


class RotatingFile:
    """A file of lines, `name`, with its older ones `name.1` (the newest) to `name.<backups>`.

    The standard library's handler loses lines when several processes rotate one file. Here a
    process that writes holds a lock, looks whether the file is still the one that it has open,
    and appends whole lines in one call.
    """

    def __init__(self, path: Path, most_bytes: int, backups: int) -> None:
        """Remember where; the file is opened with the first line. 0 bytes: never rotated."""
        self._path = path
        self._most = most_bytes
        self._backups = backups
        self._handle = -1

    def write(self, batch: list[Line]) -> None:
        """Append lines and take out of the list what is written; no line is written by half.

        Raises:
            OSError: the folder or the file cannot be written, as when the disk is full.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            room = self._open()
            while batch:
                if self._most and len(batch[0].text.encode()) >= room < self._most:
                    room = self._rotate()
                room -= self._append(batch, room if self._most else MOST_BYTES)
        finally:
            os.close(lock)

    def _open(self) -> int:
        """Open the file, anew if another process has moved it away; return the room in it."""
        if self._handle >= 0:
            ours = os.fstat(self._handle)
            with suppress(FileNotFoundError):
                there = self._path.stat()
                if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                    return self._most - ours.st_size
            self._shut()
        self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return self._most - os.fstat(self._handle).st_size

    def _rotate(self) -> int:
        self._shut()
        if self._backups <= 0:
            self._path.unlink(missing_ok=True)
        for number in range(self._backups, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}")
            with suppress(FileNotFoundError):
                (self._path if number == 1 else newer).replace(older)
        return self._open()

    def _append(self, batch: list[Line], room: int) -> int:
        """Append the lines for which there is room, one at least; return how many bytes."""
        raw, number = b"", 0
        for line in batch:
            one = f"{line.text}\n".encode()
            if number and len(raw) + len(one) > room:
                break
            raw += one
            number += 1
        before = os.fstat(self._handle).st_size
        try:
            rest = raw
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._handle, before)
            raise
        del batch[:number]
        return len(raw)

    def _shut(self) -> None:
        os.close(self._handle)
        self._handle = -1


def _for_people(line: Line, render: structlog.dev.ConsoleRenderer) -> str:
    fields = dict(line.fields)
    stacks = fields.pop("exception", ())
    told = [str(render(None, "", fields))]
    for stack in stacks:
        told.append(f"  {stack['exc_type']}: {stack['exc_value']}")
        told += [f"    {at['filename']}:{at['lineno']} {at['name']}" for at in stack["frames"]]
    # A terminal takes no half characters, which a text of JSON may hold.
    return "\n".join(told).encode("utf-8", "backslashreplace").decode()


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
