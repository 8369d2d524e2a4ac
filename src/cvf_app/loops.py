"""Work that goes on by itself: background loops, timers, threads and child processes.

Promises: this is the only place where a task is started. A loop that ends is a fault: it is logged
and the process is asked to end (TERM to itself), so that its guard starts it again. `in_process`
runs a pure function in a child process of its own, which is ended when the awaiting task is
cancelled and does not outlive this process. What goes to the child and back is JSON.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from typing import Any, ParamSpec, TypeVar, get_type_hints

import structlog

from cvf_app import errors
from cvf_app.backends.log import outline
from cvf_app.wire import Wire, convert, decode, plain

A = TypeVar("A", bound=Wire)
R = TypeVar("R", bound=Wire)
P = ParamSpec("P")
T = TypeVar("T")
Progress = Callable[[float], None]

THREADS = 8
GRACE_SECONDS = 5.0
_LINE_LIMIT = 64 * 2**20
_PR_SET_PDEATHSIG = 1
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from cvf_app.loops import child; child()"
)
log = structlog.get_logger("cv3.loops")


class ChildKilled(errors.CafeVariomeError):
    """A child process was ended by a signal that we did not send."""

    code = "childKilled"

    def __init__(self, number: int) -> None:
        """Keep the number of the signal."""
        super().__init__(
            f"The work was ended from outside (signal {number}); it may have run out of memory."
        )
        self.number = number


class ChildExited(errors.CafeVariomeError):
    """A child process ended without an answer."""

    code = "childExited"

    def __init__(self, status: int) -> None:
        """Keep the exit status."""
        super().__init__(f"The work ended without a result (exit status {status}).")
        self.status = status


class ChildRaised(Exception):
    """The function in the child raised what nobody foresaw; the text is its type.

    Where it was raised stands in the log, without messages: they may quote data.
    """


class Loops:
    """The named background loops of one process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

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
        log.critical("loop_ended", loop=name, exc_info=fault)
        os.kill(os.getpid(), signal.SIGTERM)


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
        ChildKilled: a signal ended the child.
        ChildExited: it ended without an answer.
        ChildRaised: the function raised anything else.
        TimedOut: it took longer than `seconds`.
    """
    if "." in function.__qualname__ or function.__module__ == "__main__":
        raise TypeError(f"{function.__qualname__} is no function of a module")
    order = {"module": function.__module__, "function": function.__name__, "task": plain(task)}
    child_process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _START,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            answer = await _converse(child_process, order, progress)
            status = await child_process.wait()
    except TimeoutError as fault:
        raise errors.TimedOut(f"The work took longer than {seconds:g} seconds.") from fault
    finally:
        await _end(child_process)
    if answer is None:
        raise ChildKilled(-status) if status < 0 else ChildExited(status)
    kind: type[R] = get_type_hints(function)["return"]
    return _result(answer, kind)


def child() -> None:
    """Be the child of `in_process`: read the order, run the function, write the answer as lines."""
    _die_with_parent()
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    # What the function or a library prints must not get among the answers.
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    _watch_parent()
    function = getattr(import_module(order["module"]), order["function"])
    kind = next(hint for name, hint in get_type_hints(function).items() if name != "return")

    def tell(**message: object) -> None:
        lines.write(json.dumps(message).encode() + b"\n")

    def progress(share: float) -> None:
        tell(progress=float(share))

    try:
        result = function(convert(order["task"], kind), progress)
    except errors.CafeVariomeError as fault:
        known = next(kind for kind in type(fault).__mro__ if kind.__module__ == errors.__name__)
        tell(error=known.__name__, sentence=fault.sentence, path=fault.path)
    except MemoryError:
        tell(
            error="StorageFull", sentence="The work needs more memory than it may have.", path=None
        )
    except BaseException as fault:  # noqa: BLE001 - it goes to the parent, and the child ends
        # Not raised again: Python would print the message, which may quote what we were reading.
        where = outline((type(fault), fault, fault.__traceback__))
        tell(raised=type(fault).__name__, where=where)
        sys.exit(1)
    else:
        tell(result=plain(result))


async def _converse(
    child_process: asyncio.subprocess.Process, order: dict[str, Any], progress: Progress | None
) -> dict[str, Any] | None:
    """Send the order and read lines until the answer; open input is a sign of life."""
    if child_process.stdin is None or child_process.stdout is None:
        raise RuntimeError("the child has no pipes")
    child_process.stdin.write(
        json.dumps(sys.path).encode() + b"\n" + json.dumps(order).encode() + b"\n"
    )
    try:
        await child_process.stdin.drain()
    except ConnectionError:
        return None
    async for line in child_process.stdout:
        message = decode(line, dict[str, Any])
        if "progress" not in message:
            return message
        if progress is not None:
            progress(message["progress"])
    return None


def _result(answer: dict[str, Any], kind: type[R]) -> R:
    if "result" in answer:
        return convert(answer["result"], kind)
    if "error" in answer:
        fault: type[errors.CafeVariomeError] = getattr(errors, answer["error"])
        raise fault(answer["sentence"], path=answer["path"])
    log.error("child_raised", kind=answer["raised"], where=answer["where"])
    raise ChildRaised(answer["raised"])


async def _end(child_process: asyncio.subprocess.Process) -> None:
    """End the child with all that it started: TERM, a few seconds, KILL."""
    if child_process.returncode is not None:
        return
    waiting = asyncio.ensure_future(child_process.wait())
    _signal(child_process.pid, signal.SIGTERM)
    try:
        await asyncio.wait({waiting}, timeout=GRACE_SECONDS)
    finally:
        # Also when we are cancelled once more while we wait.
        if child_process.returncode is None:
            _signal(child_process.pid, signal.SIGKILL)
    await waiting


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        log.debug("child_gone", pid=group)


def _die_with_parent() -> None:
    """Ask Linux to kill us when the parent dies, even while a library holds the interpreter."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only a child on Linux needs it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch_parent() -> None:
    """End ourselves when standard input ends, which it does when the parent is gone."""
    import threading  # noqa: PLC0415 - only a child needs it

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="cv3")
