"""Work for child processes in tests: each misbehaves in its own way."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cvf_app.errors import Invalid
from cvf_app.wire import Wire

MIB = 2**20


class Toil(Wire, frozen=True, kw_only=True):
    """What the child is to do."""

    how: str = ""
    mib: int = 0
    path: str = ""


class Toiled(Wire, frozen=True, kw_only=True):
    """What came of it."""

    number: int = 0


def toil(order: Toil, progress: Callable[[float], None]) -> Toiled:  # noqa: C901, PLR0912 - each way of going wrong
    """Do it."""
    print("printed")
    print("complained", file=sys.stderr, flush=True)
    if order.path:
        Path(order.path).write_text(str(os.getpid()))
    match order.how:
        case "invalid":
            raise Invalid("Line 3 has no subject.", path="$[2]")
        case "surprise":
            raise ZeroDivisionError
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            _fill(order.mib)
        case "tree":
            _grow(order.mib)
        case "forked":
            _leave(order.path)
        case "endless" | "stubborn":
            if order.how == "stubborn":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(0.1)
        case "busy":
            return Toiled(number=_burn())
        case "flood":
            for number in range(200_000):
                print(f"line {number}")
        case _:
            pass
    sys.stdout.flush()
    for step in range(4):
        progress((step + 1) / 4)
    return Toiled(number=os.getpriority(os.PRIO_PROCESS, 0))


def _fill(mib: int) -> None:
    """Touch so much memory, a little at a time."""
    held = [bytearray(os.urandom(1024) * 1024) for _ in range(mib)]
    time.sleep(30 if held else 0)


def _grow(mib: int) -> None:
    """Let four children touch a quarter each, so that no process is over by itself."""
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_fill, args=(mib // 4,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()


def _leave(path: str) -> None:
    """End while a child of ours runs on that holds our pipes and ignores TERM."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(path).write_text(str(os.getpid()))
        time.sleep(60)
        os._exit(0)
    while not Path(path).read_text().isdecimal() or Path(path).read_text() == str(os.getpid()):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def _burn() -> int:
    """Use two processes as hard as they can for a second; return the CPU time in milliseconds."""
    fork = multiprocessing.get_context("fork")
    began = time.monotonic()
    children = [fork.Process(target=_spin, args=(began + 2,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    used = os.times()
    return int((used.children_user + used.children_system) * 1000)


def _spin(until: float) -> None:
    while time.monotonic() < until:
        pass
