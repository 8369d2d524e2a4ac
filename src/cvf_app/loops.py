"""Work that goes on by itself: background loops, timers, threads and child processes.

Promises: this is the only place where a task is started. A loop that ends is a fault: it is logged
and the process is asked to end (TERM to itself), so that its guard starts it again. `in_process`
runs a pure function in a child process of its own, which is ended when the awaiting task is
cancelled and does not outlive this process; it is the thin, unlimited form of what
`jobs/workload` does for the work of a job.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar

import structlog

from cvf_app import errors, metrics
from cvf_app.child import A, Child, Progress, R, call_of, result_of

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
GRACE_SECONDS = 5.0
LAG_SECONDS = 0.5
log = structlog.get_logger("cv3.loops")


class Loops:
    """The named background loops of one process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._dead: list[str] = []

    def start(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop until `stop`; if it ends before, the process ends too."""
        task = asyncio.create_task(loop(), name=name)
        task.add_done_callback(partial(self._ended, name))
        self._tasks[name] = task

    def every(self, name: str, seconds: float, action: Callable[[], Awaitable[object]]) -> None:
        """Do something now and again so many seconds after each end; log failures."""

        async def timer() -> None:
            while True:
                try:
                    await action()
                except Exception:
                    log.exception("timer_failed", timer=name)
                await asyncio.sleep(seconds)

        self.start(name, timer)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the loops that run."""
        return tuple(name for name, task in self._tasks.items() if not task.done())

    @property
    def dead(self) -> tuple[str, ...]:
        """The names of the loops that ended although they should not have."""
        return tuple(self._dead)

    async def stop(self) -> None:
        """Cancel every loop and wait until each has put its things away."""
        self._stopping = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def _ended(self, name: str, task: "asyncio.Task[None]") -> None:
        if self._stopping:
            return
        fault = None if task.cancelled() else task.exception()
        self._dead.append(name)
        log.critical("loop_ended", loop=name, exc_info=fault)
        os.kill(os.getpid(), signal.SIGTERM)


async def feel_lag() -> None:
    """Measure, twice a second, how late the event loop comes to what is due."""
    while True:
        due = time.perf_counter() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.loop_lag_seconds.observe(max(0.0, time.perf_counter() - due))


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that waits in one of a few threads; cancelling does not stop it."""
    return await asyncio.get_running_loop().run_in_executor(
        _threads(), partial(function, *args, **kwargs)
    )


async def in_process(
    function: Callable[[A, Progress], R],
    task: A,
    progress: Progress | None = None,
    *,
    seconds: float | None = None,
) -> R:
    """Run a pure, annotated function of a module in a child process: `function(task, progress)`.

    Raises:
        CafeVariomeError: the function raised one of ours; it arrives as its class in `errors`.
        LimitReached: it ran out of memory.
        ChildKilled: a signal ended the child.
        ChildExited: it ended without an answer.
        ChildRaised: the function raised anything else.
        TimedOut: it took longer than `seconds`.
    """
    call = call_of(function, task)
    child = await Child.start(call.module)
    try:
        async with asyncio.timeout(seconds):
            await child.order(call)
            answer = await child.answer(progress)
    except TimeoutError as fault:
        raise errors.TimedOut(f"The work took longer than {seconds:g} seconds.") from fault
    finally:
        await child.end(GRACE_SECONDS)
    return result_of(function, answer)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="cv3")
