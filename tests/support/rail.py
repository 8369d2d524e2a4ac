"""A worker of the job rail for tests, with jobs whose every step can be told from outside."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvf_app.backends.mongo import Mongo
from cvf_app.backends.queue import Queue
from cvf_app.backends.redis import Redis
from cvf_app.clock import now
from cvf_app.errors import Invalid, Unavailable
from cvf_app.ids import new_id
from cvf_app.jobs.handler import Handler, Handlers, Steps
from cvf_app.jobs.ledger import Ledger, Settle
from cvf_app.jobs.model import JobDocument
from cvf_app.jobs.service import Jobs
from cvf_app.jobs.sizes import Sizes
from cvf_app.jobs.store import JobStore
from cvf_app.jobs.worker import Worker
from cvf_app.jobs.workload import Limits
from cvf_app.loops import in_process
from cvf_app.wire import Job, Wire
from tests.support.toil import Toil
from tests.support.toil import toil as toil_hard


class Slow(Job, frozen=True, kw_only=True, tag="slow"):
    """Sleep in steps, leaving a line in a file for each thing that happens."""

    path: str
    seconds: float = 0.0
    steps: int = 1


class Failing(Job, frozen=True, kw_only=True, tag="failing"):
    """Fail in a named way."""

    path: str
    how: str


class Heavy(Job, frozen=True, kw_only=True, tag="heavy"):
    """Leave lines as a slow one does, and need the whole host."""

    path: str
    seconds: float = 0.0


class Work(Job, frozen=True, kw_only=True, tag="work"):
    """Run the toil of a child process as the work of the job."""

    path: str
    how: str = ""
    mib: int = 0


class Brief(Work, frozen=True, kw_only=True, tag="brief"):
    """The same with little time."""


class Order(Wire, frozen=True, kw_only=True):
    """What the child process is to do."""

    seconds: float = 0.0
    how: str = ""
    pid_file: str = ""


class Answer(Wire, frozen=True, kw_only=True):
    """What the child process answers."""

    pid: int


class Opened(Wire, frozen=True, kw_only=True):
    """The descriptors of a process."""

    descriptors: tuple[str, ...]


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


def look(_: Order, __: Callable[[float], None]) -> Opened:
    """Return what a child has open."""
    return Opened(descriptors=tuple(map(str, Path("/proc/self/fd").iterdir())))


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


async def _heavy(job: Heavy, steps: Steps) -> None:
    note(job.path, f"heavy begins on {steps.cores}")
    await asyncio.sleep(job.seconds)
    note(job.path, "heavy ends")


async def _work(job: Work, steps: Steps) -> dict[str, Any]:
    note(job.path, f"begin {steps.attempt}")
    shares: list[float] = []
    done = await steps.run(toil_hard, Toil(how=job.how, mib=job.mib), shares.append)
    return {"number": done.number, "shares": shares}


async def _undo(job: Slow | Failing | Heavy | Work) -> None:
    note(job.path, "undo")


HANDLERS: Handlers = {
    Slow: Handler(_slow, _undo),
    Failing: Handler(_failing, _undo),
    Heavy: Handler(_heavy, _undo, size="large"),
    Work: Handler(_work, _undo),
    Brief: Handler(_work, _undo, size="brief"),
}


ROOT = Path(__file__).parents[2]
SIZES = Sizes(
    cores=4,
    memory_mib=4096,
    limits={
        "small": Limits(1, 256, 600.0),
        "large": Limits(4, 1024, 600.0),
        "brief": Limits(1, 256, 1.5),
    },
    types={},
    stalled_after=8.0,
    grace=2.0,
)


def rail(mongo: Mongo, redis_url: str, name: str) -> tuple[Jobs, Queue, JobStore]:
    """Make the service, the queue and the store of one rail."""
    store = JobStore(mongo.collection("jobs"))
    queue = Queue(redis_url, name)
    return Jobs(store, queue, now, SIZES), queue, store


def worker(jobs: Jobs, queue: Queue, slots: int = 4, ledger: Ledger | None = None) -> Worker:
    """Make a worker for the jobs above."""
    return Worker(jobs, queue, HANDLERS, slots=slots, ledger=ledger)


def ledger(redis: Redis, name: str) -> Ledger:
    """Make the hand of one process in the books of a host that is the test's own."""
    return Ledger(redis, now, SIZES, name=name, settle=Settle(0, 0))


@dataclass
class Rail:
    """One rail with a database and a host of its own, and a file in which its jobs leave lines."""

    mongo_uri: str
    database: str
    redis_url: str
    jobs: Jobs
    queue: Queue
    store: JobStore
    notes: Path

    def lines(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    @asynccontextmanager
    async def working(self, slots: int = 4) -> AsyncIterator[None]:
        redis = Redis.open(self.redis_url, 4)
        books = ledger(redis, self.database)
        running = asyncio.create_task(worker(self.jobs, self.queue, slots, books).run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait({running})
            await redis.close()

    async def process(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.worker_process",
            *(self.mongo_uri, self.database, self.redis_url, self.database),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )

    async def until(
        self, job: JobDocument, seconds: float, holds: Callable[[JobDocument], bool] | None = None
    ) -> JobDocument:
        pause = 0.02
        async with asyncio.timeout(seconds):
            while True:
                found = await self.jobs.get(job.job_id)
                if holds(found) if holds else found.state.ended:
                    return found
                await asyncio.sleep(pause)
                pause = min(1.2 * pause, 0.1)


@asynccontextmanager
async def opened(mongo_uri: str, redis_url: str, folder: Path) -> AsyncIterator[Rail]:
    """Open a rail on an empty database, which is dropped afterwards."""
    database = f"cv3_test_{new_id()[:8]}"
    mongo = Mongo.open(mongo_uri, database, 20)
    jobs, queue, store = rail(mongo, redis_url, database)
    await store.prepare()
    yield Rail(mongo_uri, database, redis_url, jobs, queue, store, folder / "notes")
    await queue.close()
    await mongo.drop()
    mongo.close()
