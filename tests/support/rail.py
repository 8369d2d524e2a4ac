"""A worker of the job rail for tests, with jobs whose every step can be told from outside."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cvf_app.backends.mongo import Mongo
from cvf_app.backends.queue import Queue
from cvf_app.clock import now
from cvf_app.config import Jobs as Settings
from cvf_app.config import JobSize
from cvf_app.errors import Invalid, Unavailable
from cvf_app.jobs.handler import Handler, Handlers, Steps
from cvf_app.jobs.ledger import Ledger
from cvf_app.jobs.service import Jobs
from cvf_app.jobs.sizes import Sizes
from cvf_app.jobs.store import JobStore
from cvf_app.jobs.worker import Worker
from cvf_app.loops import in_process
from cvf_app.wire import Job, Wire


class Slow(Job, frozen=True, kw_only=True, tag="slow"):
    """Sleep in steps, leaving a line in a file for each thing that happens."""

    path: str
    seconds: float = 0.0
    steps: int = 1


class Failing(Job, frozen=True, kw_only=True, tag="failing"):
    """Fail in a named way."""

    path: str
    how: str


class Order(Wire, frozen=True, kw_only=True):
    """What the child process is to do."""

    seconds: float = 0.0
    how: str = ""
    pid_file: str = ""


class Answer(Wire, frozen=True, kw_only=True):
    """What the child process answers."""

    pid: int


def toil(order: Order, progress: Callable[[float], None]) -> Answer:
    """Be the work of a child process."""
    print("what is printed must not disturb the answers")
    if order.pid_file:
        Path(order.pid_file).write_text(str(os.getpid()))
    match order.how:
        case "invalid":
            raise Invalid("Line 3 has no subject.", path="$[2]")
        case "surprise":
            raise ZeroDivisionError
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case _:
            pass
    for step in range(4):
        signal.sigtimedwait([], order.seconds / 4)
        progress((step + 1) / 4)
    return Answer(pid=os.getpid())


def note(path: str, line: str) -> None:
    """Append a line in one write."""
    with Path(path).open("a") as out:
        out.write(line + "\n")


async def _slow(job: Slow, steps: Steps) -> dict[str, Any]:
    note(job.path, f"begin {steps.attempt} {os.getpid()}")
    for step in range(job.steps):
        await steps.report(f"step {step}", step / job.steps)
        await asyncio.sleep(job.seconds / job.steps)
    note(job.path, f"done {steps.attempt}")
    return {"attempt": steps.attempt}


async def _failing(job: Failing, steps: Steps) -> dict[str, Any]:
    note(job.path, f"begin {steps.attempt}")
    failures: dict[str, Callable[[], Awaitable[object]]] = {
        "timeout": lambda: asyncio.wait_for(asyncio.sleep(5), 0.01),
        "limit": _memory,
        "silence": _silence,
    }
    if job.how in failures:
        await failures[job.how]()
    await in_process(toil, Order(how=job.how))
    return {}


async def _memory() -> None:
    raise MemoryError


async def _silence() -> None:
    raise Unavailable("The secret store does not answer.")


async def _undo(job: Slow | Failing) -> None:
    note(job.path, "undo")


HANDLERS: Handlers = {Slow: Handler(_slow, _undo), Failing: Handler(_failing, _undo)}


BUDGET = Sizes.of(
    Settings(
        sizes={
            "small": JobSize(cores=1, memory_mib=256, minutes=10),
            "large": JobSize(cores=2, memory_mib=512, minutes=10),
        }
    ),
    (8, 4096),
)


def rail(mongo: Mongo, redis_url: str, name: str) -> tuple[Jobs, Queue, JobStore]:
    """Make the service, the queue and the store of one rail."""
    store = JobStore(mongo.collection("jobs"))
    queue = Queue(redis_url, name)
    return Jobs(store, queue, now, BUDGET), queue, store


def worker(jobs: Jobs, queue: Queue, slots: int = 4, ledger: Ledger | None = None) -> Worker:
    """Make a worker for the jobs above."""
    return Worker(jobs, queue, HANDLERS, slots=slots, ledger=ledger)
