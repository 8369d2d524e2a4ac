"""The guard as a program: `python -m cvf_app.local.daemon --data DIR`, in a session of its own.

With a local instance it keeps the stand-ins and the app; with a configuration of full mode
(`--config FILE`) the app alone.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cvf_app import config as configuration
from cvf_app.errors import CafeVariomeError, Invalid
from cvf_app.local import children, making
from cvf_app.local.guard import Guard, Lock, fail, say, sweep
from cvf_app.local.layout import Administrator, Layout, LocalState, read
from cvf_app.local.ports import LOOPBACK, listen, parse, refuse_public

FULL_BIND = "127.0.0.1:5000"


def bind_of(environ: Mapping[str, str], state: LocalState | None) -> tuple[str, int]:
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
    layout: Layout, state: LocalState, port: int, environ: Mapping[str, str]
) -> list[children.Child]:
    """Return the children of a local instance, with the installation step while it is not done."""
    steps = list(children.stand_ins(layout, state.ports, environ))
    person = read(layout.administrator, Administrator)
    if not state.installed and person is not None and "CV3_APP_COMMAND" not in environ:
        steps.append(children.installation(layout, person.subject, person.username, person.email))
    elif "CV3_APP_COMMAND" not in environ:
        steps.append(children.upgrading(layout))
    more = _log_options(environ, {})
    steps.append(children.app(layout.config, layout.logs / "app.log", port, environ, more))
    return steps


def full_children(config: Path, port: int, environ: Mapping[str, str]) -> list[children.Child]:
    """Return the app alone, with the published log files in the app's folder."""
    folder = Path(environ.get("CV3_APP_PATH", "."))
    defaults = {
        "CV3_ACCESS_LOG_FILE": str(folder / "access.log"),
        "CV3_ERROR_LOG_FILE": str(folder / "error.log"),
        "CV3_PIDFILE": str(folder / "hypercorn.pid"),
    }
    log = Path(environ.get("CV3_LOGFILE", folder / "hypercorn.log"))
    return [children.app(config, log, port, environ, _log_options(environ, defaults))]


def _log_options(environ: Mapping[str, str], defaults: Mapping[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    for name, option in (
        ("CV3_ACCESS_LOG_FILE", "--access-logfile"),
        ("CV3_ERROR_LOG_FILE", "--error-logfile"),
        ("CV3_PIDFILE", "--pid"),
    ):
        if value := environ.get(name, defaults.get(name, "")):
            found += [option, value]
    return tuple(found)


def main() -> int:
    """Take the lock, tidy up after a killed guard, and keep the children until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    given = parser.parse_args()
    os.umask(0o077)
    layout = Layout(given.data)
    lock = Lock(layout.lock)
    try:
        lock.take()
        sweep(layout)
        return asyncio.run(_guard(layout, given.config))
    except CafeVariomeError as fault:
        return fail(fault)
    finally:
        lock.release()


async def _guard(layout: Layout, config: Path | None) -> int:
    environ = dict(os.environ)
    state = None if config else read(layout.state, LocalState)
    if config is None and state is None:
        raise Invalid(f"There is no instance in {layout.folder}.")
    if config is not None:
        configuration.load(config)
    host, port = bind_of(environ, state)
    steps = (
        full_children(config, port, environ)
        if config is not None
        else local_children(layout, state, port, environ)
        if state is not None
        else []
    )
    bound = listen(host, port)
    for folder in ("database", "broker", "identity") if state else ():
        (layout.folder / folder).mkdir(mode=0o700, exist_ok=True)
    say(f"the guard starts (pid {os.getpid()})")
    guard = Guard(
        layout,
        steps,
        bound=bound,
        address=f"http://{host}:{port}",
        environ=environ,
        done={"install": lambda: making.installed(layout)},
    )
    with bound:
        return await guard.run()


if __name__ == "__main__":
    sys.exit(main())
