"""The fork server: one process that holds loaded what children need, and forks each of them.

An interpreter of its own costs a child a fifth of a second, nearly all of it numpy and msgspec;
a fork is there in milliseconds. Promises: the server sees no data, so no child finds another's; it
has one thread, so that a fork is safe; it ends with the process that uses it, and its children with
it, however that ends.
"""

import atexit
import errno
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

from cvf_app.in_child import die_with_parent, work

_HEAD = 4
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from cvf_app.fork_server import serve; serve(int(sys.argv[1]))"
)
_current: list["ForkServer"] = []


class ForkServer:
    """The server of this process, as its user sees it."""

    def __init__(self) -> None:
        """Start it; it loads what a child needs when one is first asked for."""
        # Nothing may start threads, which a fork loses, nor count in files that would stay.
        around = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # house: libraries' own variables
        around.pop("PROMETHEUS_MULTIPROC_DIR", None)
        self._orders, theirs = socket.socketpair()
        with theirs:
            # A session of its own, so that what is sent to our group does not end it before us.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
                [sys.executable, "-c", _START, str(theirs.fileno()), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=around,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Say whether it is gone."""
        return self._process.poll() is not None

    def fork(self, module: str, talk: socket.socket, told: socket.socket, stderr: int) -> None:
        """Ask for a child that has this module loaded; it speaks with us by `talk`.

        `told` gets a line `pid N` when it leads a session of its own, or `fault ERRNO` when there
        can be no child now, and `status N` when it is over, negative for a signal. It is closed
        without any line when the server is gone.

        Raises:
            ConnectionError: the server is gone.
        """
        order = json.dumps([module, sys.path]).encode()
        parts = [len(order).to_bytes(_HEAD), order]
        socket.send_fds(self._orders, parts, [talk.fileno(), told.fileno(), stderr])

    def close(self) -> None:
        """Let it end, with its children."""
        self._orders.close()
        self._process.wait()


def fork_server() -> ForkServer:
    """Return the server of this process, which the first use starts; a new one when it is gone."""
    if _current and _current[0].ended:
        _current.pop().close()
    if not _current:
        _current.append(ForkServer())
        atexit.register(_current[0].close)
    return _current[0]


def serve(descriptor: int) -> None:
    """Be the server: fork a child for each order, and tell how it ended, until orders end."""
    die_with_parent()
    _Server(socket.socket(fileno=descriptor)).run()


class _Server:
    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._told: dict[int, int] = {}
        self._woken, self._wake = socket.socketpair()

    def run(self) -> None:
        self._wake.settimeout(0.0)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.SelectSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._orders, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    self._bury()
                if self._orders in ready and not self._take():
                    return

    def _take(self) -> bool:
        head, descriptors, _, _ = socket.recv_fds(self._orders, _HEAD, 3)
        if not head:
            return False
        order = self._orders.recv(int.from_bytes(head), socket.MSG_WAITALL)
        talk, told, stderr = descriptors
        module, sys.path[:] = json.loads(order)
        _load(module)
        try:
            pid = os.fork()
        except OSError as fault:
            _tell(told, "fault", fault.errno or errno.EAGAIN)
        else:
            if pid == 0:
                self._become_child(talk, told, stderr)
            self._told[pid] = told
        os.close(talk)
        os.close(stderr)
        return True

    def _bury(self) -> None:
        """Tell of every child that is over."""
        self._woken.recv(4096)
        while self._told:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            _tell(self._told.pop(pid), "status", os.waitstatus_to_exitcode(status))

    def _become_child(self, talk: int, told: int, stderr: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self._orders, self._woken, self._wake):
            each.close()
        for other in self._told.values():
            os.close(other)
        os.setsid()
        for ours, standard in ((talk, 0), (talk, 1), (stderr, 2)):
            os.dup2(ours, standard)
        os.close(talk)
        os.close(stderr)
        _tell(told, "pid", os.getpid())
        _leave_after(work)


def _load(module: str) -> None:
    """Import a module once; what it lacks the child says, which imports it again."""
    if module in sys.modules:
        return
    try:
        import_module(module)
    except ImportError:
        sys.stderr.write(f"{module} is not loaded\n")
    # What was loaded is not looked at again, and so stays shared with every child.
    gc.collect()
    gc.freeze()


def _tell(told: int, word: str, number: int) -> None:
    try:
        os.write(told, f"{word} {number}\n".encode())
    except BrokenPipeError:
        # Nobody waits for it any more.
        pass
    finally:
        os.close(told)


def _leave_after(function: Callable[[], None]) -> NoReturn:
    """Call a function and leave the process as the interpreter would."""
    status = 1
    try:
        function()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    finally:
        raised, fault, trace = sys.exc_info()
        if raised is not None and fault is not None:
            sys.excepthook(raised, fault, trace)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
