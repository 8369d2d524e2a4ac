"""The guard as a program: `python -m cvf_app.local.daemon --data DIR`, in a session of its own.

With a local instance it keeps the stand-ins and the app; with a configuration of full mode
(`--config FILE`) the app alone. `--foreground` is for a service manager or a container, which is
to learn of it when a part is given up: the guard ends.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from cvf_app import config as configuration
from cvf_app import metrics
from cvf_app.errors import CafeVariomeError, Invalid
from cvf_app.local import children, making
from cvf_app.local.apps import Files, Group, apps
from cvf_app.local.apps import groups as apps_of
from cvf_app.local.guard import READY_PAGE, Guard, Lock, fail, say, sweep
from cvf_app.local.layout import Administrator, Layout, LocalState, read
from cvf_app.local.ports import LOOPBACK, Address, listen, parse, refuse_public, written

FULL_BIND = "127.0.0.1:5000"
LIVE_PAGE = "/health/live"


def bind_of(environ: Mapping[str, str], state: LocalState | None) -> Address:
    """Return where the app listens: CV3_BIND, else the kept port, else the published default.

    Raises:
        Invalid: it is no address, or a public one in local mode.
    """
    kept = f"{LOOPBACK}:{state.ports.app}" if state else FULL_BIND
    host, port = parse(environ.get("CV3_BIND") or kept)
    if state is not None:
        refuse_public(host)
    return host, port


def local_children(
    layout: Layout, state: LocalState, groups: Sequence[Group], environ: Mapping[str, str]
) -> list[children.Child]:
    """Return the children of a local instance, with the installation step while it is not done."""
    steps = list(children.stand_ins(layout, state.ports, environ))
    person = read(layout.administrator, Administrator)
    if not state.installed and person is not None and "CV3_APP_COMMAND" not in environ:
        steps.append(children.installation(layout, person.subject, person.username, person.email))
    elif "CV3_APP_COMMAND" not in environ:
        steps.append(children.upgrading(layout))
    pid = environ.get("CV3_PIDFILE")
    files = Files(
        log=layout.logs / "app.log",
        pid=layout.folder / pid if pid else None,
        options=_log_options(environ, layout.folder, {}),
    )
    for group in groups:
        steps += apps(layout.config, files, group, environ, ready=READY_PAGE)
    return steps


def full_files(folder: Path, environ: Mapping[str, str]) -> Files:
    """Return the published log files: in the app's folder, unless the environment names others."""
    defaults = {"CV3_ACCESS_LOG_FILE": "access.log", "CV3_ERROR_LOG_FILE": "error.log"}
    return Files(
        log=folder / (environ.get("CV3_LOGFILE") or "hypercorn.log"),
        pid=folder / (environ.get("CV3_PIDFILE") or "hypercorn.pid"),
        options=_log_options(environ, folder, defaults),
    )


def full_children(
    config: Path, folder: Path, groups: Sequence[Group], environ: Mapping[str, str]
) -> list[children.Child]:
    """Return the app alone. It has started when it lives: what it needs may be down for a while."""
    files = full_files(folder, environ)
    return [
        child for group in groups for child in apps(config, files, group, environ, ready=LIVE_PAGE)
    ]


def _log_options(
    environ: Mapping[str, str], folder: Path, defaults: Mapping[str, str]
) -> tuple[str, ...]:
    found: list[str] = []
    for name, option in (
        ("CV3_ACCESS_LOG_FILE", "--access-logfile"),
        ("CV3_ERROR_LOG_FILE", "--error-logfile"),
    ):
        if value := environ.get(name) or defaults.get(name, ""):
            found += [option, value if value == "-" else str(folder / value)]
    return tuple(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the lock, tidy up after a killed guard, and keep the children until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--foreground", action="store_true")
    given = parser.parse_args(arguments)
    os.umask(0o077)
    layout = Layout(given.data)
    lock = Lock(layout.lock)
    try:
        layout.make_run()
        lock.take()
        sweep(layout)
        return asyncio.run(_guard(layout, given.config, gives_up=given.foreground))
    except CafeVariomeError as fault:
        return fail(fault)
    finally:
        lock.release()


async def _guard(layout: Layout, config: Path | None, *, gives_up: bool) -> int:
    metrics.empty(layout.metrics)
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(layout.metrics)}
    # The messages to the service manager are the guard's alone.
    environ.pop("NOTIFY_SOCKET", None)
    state = None if config else read(layout.state, LocalState)
    if config is None and state is None:
        raise Invalid(f"There is no instance in {layout.folder}.")
    if config is not None:
        configuration.load(config)
    first = bind_of(environ, state)
    groups = apps_of(environ, first)
    steps = (
        full_children(config, layout.folder, groups, environ)
        if config is not None
        else local_children(layout, state, groups, environ)
        if state is not None
        else []
    )
    with ExitStack() as stack:
        sockets = {}
        for child in steps:
            if child.bind and child.bind not in sockets:
                sockets[child.bind] = stack.enter_context(listen(*child.bind))
        for folder in ("database", "broker", "identity") if state else ():
            (layout.folder / folder).mkdir(mode=0o700, exist_ok=True)
        say(f"the guard starts (pid {os.getpid()})")
        address = next(iter(sockets), first)
        guard = Guard(
            layout,
            steps,
            sockets=sockets,
            address=f"http://{written(address)}" if sockets else "",
            environ=environ,
            done={"install": lambda: making.installed(layout)},
            gives_up=gives_up,
        )
        return await guard.run()


if __name__ == "__main__":
    sys.exit(main())
