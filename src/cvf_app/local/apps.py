"""The app's own processes: which duties each has, how many there are, where they listen.

Promises: processes with the same duties share one socket, which the guard binds; each has a
private socket beside it, on which the guard asks this very process whether it is ready, so that
the answer of another is never taken for its own. A process without pages for others has the
private socket alone.
"""

import importlib.util
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cvf_app.errors import Invalid
from cvf_app.local.children import SOURCES, Child
from cvf_app.local.ports import Address, parse

SERVING = frozenset({"admin", "query", "exporter"})
"""The duties that bring pages for others; a test holds this against the table of duties."""
MOST_WORKERS = 64
_MORE_SECONDS = 15.0
"""What a process gets beyond CV3_GRACEFUL_TIMEOUT to hand back its jobs and close what is open."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Processes that are alike: what they are called, their duties (none: all), how many."""

    name: str
    duties: str
    workers: int
    bind: Address | None


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where processes write: their output, their pid, and the options of the web server's logs."""

    log: Path
    pid: Path | None = None
    options: tuple[str, ...] = ()


def groups(environ: Mapping[str, str], first: Address) -> tuple[Group, ...]:
    """Read `CV3_DUTIES` and `CV3_WORKERS`: words are processes, commas join duties in one.

    The first group with pages listens at `first`, each further one at `CV3_BIND_<NAME>`, else at
    the port after.

    Raises:
        Invalid: a number or an address is none, or a word stands twice.
    """
    words = re.sub(r"\s*,\s*", ",", environ.get("CV3_DUTIES", "")).split()
    workers = _workers(environ)
    if not words:
        return (Group(name="app", duties="", workers=workers, bind=first),)
    found: list[Group] = []
    host, port = first
    for word in words:
        name = word.strip(",").replace(",", "+")
        if any(name == each.name for each in found):
            raise Invalid(f"'{word}' stands twice; several processes of it: CV3_WORKERS.")
        bind = None
        if SERVING & set(word.split(",")):
            variable = f"CV3_BIND_{re.sub('[^A-Z]', '_', name.upper())}"
            bind = parse(environ[variable]) if environ.get(variable) else (host, port)
            port += 1
        found.append(Group(name=name, duties=word, workers=workers if bind else 1, bind=bind))
    binds = [each.bind for each in found if each.bind]
    if len(set(binds)) < len(binds):
        raise Invalid("Two groups of duties cannot listen at one address: see CV3_BIND_….")
    return tuple(found)


def _workers(environ: Mapping[str, str]) -> int:
    text = environ.get("CV3_WORKERS") or "1"
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise Invalid(f"CV3_WORKERS is a number from 1 to {MOST_WORKERS}, not '{text}'.")
    return int(text)


def grace(environ: Mapping[str, str]) -> int:
    """Return how many seconds requests and jobs have to finish (`CV3_GRACEFUL_TIMEOUT`).

    Raises:
        Invalid: it is no number.
    """
    text = environ.get("CV3_GRACEFUL_TIMEOUT") or "30"
    if not text.isdecimal():
        raise Invalid(f"CV3_GRACEFUL_TIMEOUT is a number of seconds, not '{text}'.")
    return int(text)


def apps(
    config: Path, files: Files, group: Group, environ: Mapping[str, str], *, ready: str
) -> list[Child]:
    """Return the processes of one group; `ready` is the page that says that one has started.

    `CV3_APP_COMMAND` replaces the whole command (`{fd}` and `{private}` are its sockets), for
    tests.
    """
    seconds = grace(environ)
    return [
        _app(config, files, group, environ, ready, seconds, number)
        for number in range(1, group.workers + 1)
    ]


def _app(  # noqa: PLR0913, PLR0917 - what one process consists of
    config: Path,
    files: Files,
    group: Group,
    environ: Mapping[str, str],
    ready: str,
    seconds: int,
    number: int,
) -> Child:
    name = group.name if group.workers == 1 else f"{group.name}-{number}"
    alone = group.workers == 1 and not group.duties
    pid = files.pid if files.pid is None or alone else named(files.pid, name)
    command = _command(environ, group, seconds, files.options, pid)
    return Child(
        name=name,
        doing="Starting Cafe Variome" if alone else f"Starting Cafe Variome ({name})",
        command=command,
        log=named(files.log, group.name) if group.duties else files.log,
        environment={
            "CV3_CONFIG": str(config),
            "CV3_DUTIES": group.duties,
            "CV3_GRACEFUL_TIMEOUT": str(seconds),
            # Somebody who sets the time limit for everything else is not kept by a guard.
            "CV3_KEPT": "1",
            "PYTHONPATH": str(SOURCES),
        },
        port=group.bind[1] if group.bind else 0,
        path=ready,
        stop_seconds=seconds + _MORE_SECONDS,
        bind=group.bind,
        is_app=True,
        private="fd://{private}" in command or "{private}" in command,
        pid_file=pid,
    )


def named(file: Path, name: str) -> Path:
    """Return the file of one of several: `hypercorn.log` becomes `hypercorn-query.log`."""
    if file.is_relative_to("/dev"):
        # In a container all go to the same output.
        return file
    return file.with_name(f"{file.stem}-{name}{file.suffix}")


def _command(
    environ: Mapping[str, str], group: Group, seconds: int, more: tuple[str, ...], pid: Path | None
) -> tuple[str, ...]:
    if given := environ.get("CV3_APP_COMMAND"):
        return tuple(shlex.split(given))
    # One worker in the process itself: several drop requests on TERM (decision 33).
    loop = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    shared = ("-b", "fd://{fd}") if group.bind else ()
    return (
        *_hypercorn(environ),
        *(environ.get("CV3_APP_MODULE") or "cvf_app.app:app", "-w", "0", "-k", loop),
        *(*shared, "-b", "fd://{private}", "--graceful-timeout", str(seconds), *more),
        *(("--pid", str(pid)) if pid else ()),
    )


def _hypercorn(environ: Mapping[str, str]) -> tuple[str, ...]:
    named_program = environ.get("CV3_HYPERCORN_PATH")
    return (named_program,) if named_program else (sys.executable, "-m", "hypercorn")
