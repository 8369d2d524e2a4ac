"""The side of a child process: it reads an order, runs the function and writes the answer as lines.

A child needs neither the event loop nor the log, so nothing here loads them.
"""

import json
import os
import signal
import sys
from importlib import import_module
from typing import Any, get_type_hints

from cvf_app import errors
from cvf_app.wire import Wire, convert, decode, plain

_PR_SET_PDEATHSIG = 1


class Call(Wire, frozen=True, kw_only=True):
    """A function of a module with what it is given."""

    module: str
    function: str
    task: dict[str, Any]


def work() -> None:
    """Be the child: read the order, run the function, write the answer as lines."""
    die_with_parent()
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    # What the function or a library prints must not get among the answers.
    os.dup2(2, 1)
    call = decode(sys.stdin.readline().encode(), Call)
    _watch_parent()
    function = getattr(import_module(call.module), call.function)
    kind = next(hint for name, hint in get_type_hints(function).items() if name != "return")

    def tell(**message: object) -> None:
        lines.write(json.dumps(message).encode() + b"\n")

    def progress(share: float) -> None:
        tell(progress=float(share))

    try:
        result = function(convert(call.task, kind), progress)
    except errors.CafeVariomeError as fault:
        known = next(kind for kind in type(fault).__mro__ if kind.__module__ == errors.__name__)
        tell(error=known.__name__, sentence=fault.sentence, path=fault.path)
    except MemoryError:
        tell(memory=True)
    except BaseException as fault:  # noqa: BLE001 - it goes to the parent, and the child ends
        # Not raised again: Python would print the message, which may quote what we were reading.
        from cvf_app.backends.log import outline  # noqa: PLC0415 - see above

        where = outline((type(fault), fault, fault.__traceback__))
        tell(raised=type(fault).__name__, where=where)
        sys.exit(1)
    else:
        tell(result=plain(result))


def die_with_parent() -> None:
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
