"""Hearing early that the process is asked to end.

A web server first waits for open requests and tells the app last, and a stream of updates has no
end of its own: without this every stop would take the whole graceful time.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ASKED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_term(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` in this event loop when the process is asked to end, beside whoever else hears.

    Where nobody waits for the signal its meaning is left alone.
    """
    loop = asyncio.get_running_loop()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ASKED:
            found = signal.getsignal(number)
            # Python's own handler of ^C raises where it likes; asyncio's does nothing by itself.
            if callable(found) and found is not signal.default_int_handler:
                before[number] = found

    def hear(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(action)
        before[signal.Signals(number)](number, frame)

    for number in before:
        signal.signal(number, hear)
        # As asyncio does it: system calls are begun again after the signal.
        signal.siginterrupt(number, False)  # noqa: FBT003 - the standard library's form
    try:
        yield
    finally:
        for number, found in before.items():
            if signal.getsignal(number) is hear:
                signal.signal(number, found)
