"""What a person does with an instance: bring it up, stop it, reload it, remove it.

The guard does the work in the background; here it is started and watched. Everything goes to
standard error but what was asked for (status, logs), so that output can be piped.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cvf_app import config as configuration
from cvf_app.errors import Conflict, Invalid
from cvf_app.local import daemon, making
from cvf_app.local.apps import grace, groups
from cvf_app.local.daemon import bind_of
from cvf_app.local.guard import GuardStatus
from cvf_app.local.instance import Instance
from cvf_app.local.layout import Administrator, Layout, LocalState, Ports, read
from cvf_app.local.ports import parse
from cvf_app.local.processes import send, wait_gone
from cvf_app.local.shown import NOT_RUNNING, down, is_healthy, say

_POLL_SECONDS = 0.1
_IS_BINARY = bool(getattr(sys, "frozen", False))
_SECONDS_UP = 240.0
_SECONDS_STOP = 120.0
_SECONDS_RELOAD = 600.0
_SAY_AGAIN_SECONDS = 10.0


def up(instance: Instance, environ: dict[str, str], *, new_ports: bool) -> int:
    """Make the instance where need be, start it, wait until it is healthy, and say how to go on."""
    began = time.monotonic()
    layout = instance.layout
    if instance.lock.is_held():
        if new_ports:
            raise Conflict(
                "The instance runs. Stop it before it gets other ports: ./CafeVariome3.sh stop"
            )
        say("The instance runs already.")
    else:
        if new_ports:
            making.new_ports(layout)
        bind = (
            bind_of(environ, read(layout.state, LocalState) or _AnyPort)
            if environ.get("CV3_BIND")
            else None
        )
        making.make(layout, environ, bind, say)
        _launch(instance, environ)
    _await_ready(instance)
    _greet(layout, time.monotonic() - began)
    return 0


_AnyPort = LocalState(ports=Ports(app=0, database=0, identity=0))


def start(instance: Instance, environ: dict[str, str], duties: Sequence[str]) -> int:
    """Start in the background and wait until it is ready; one that runs is left alone."""
    if instance.lock.is_held():
        say("It runs already.")
        return 0
    wish(instance, environ, duties)
    if instance.config is None:
        return up(instance, environ, new_ports=False)
    instance.layout.make_run()
    _launch(instance, environ)
    status = _await_ready(instance)
    waited = down(status.address) if status.address else ""
    if waited:
        say(f"Cafe Variome 3 runs at {status.address}, but is not ready: {waited}")
        say("It goes on trying. What is wrong and what to do: cvf doctor")
        return 1
    say(f"Cafe Variome 3 is ready: {status.address or 'no pages, see status'}")
    return 0


def wish(instance: Instance, environ: dict[str, str], duties: Sequence[str]) -> None:
    """Put the duties that were asked for where the guard looks, and see that all of it can be.

    In full mode each word is a process of its own (commas join duties in one).

    Raises:
        Invalid: a word is no duty, or a number or an address is none.
    """
    if duties:
        environ["CV3_DUTIES"] = (" " if instance.config else ",").join(duties)
    grace(environ)
    found = groups(environ, parse(environ.get("CV3_BIND") or daemon.FULL_BIND))
    if environ.get("CV3_DUTIES"):
        # Imported here: the table names the pages of every feature, which nothing else here needs.
        from cvf_app.duties import parse as parse_duties  # noqa: PLC0415 - see above

        for group in found:
            parse_duties(group.duties)


def run(instance: Instance, environ: dict[str, str], duties: Sequence[str]) -> int:
    """Keep the instance in the foreground, for a service manager or a container.

    Raises:
        Invalid: it is no instance of full mode.
    """
    if instance.config is None:
        raise Invalid("'run' is for full mode; a local instance is started with: start")
    wish(instance, environ, duties)
    os.environ.update(environ)
    os.chdir(instance.folder)
    return daemon.main(
        ["--data", str(instance.folder), "--config", str(instance.config), "--foreground"]
    )


def reload(instance: Instance) -> int:
    """Restart the app's processes one after the other, so that nobody is turned away meanwhile.

    Raises:
        Invalid: the configuration as it is now is wrong; nothing was touched.
    """
    guard = instance.lock.holder()
    told = read(instance.layout.status, GuardStatus)
    if guard is None or told is None:
        say("It is not running. Start it with: ./CafeVariome3.sh start")
        return NOT_RUNNING
    configuration.load(instance.config or instance.layout.config)
    send(guard, signal.SIGHUP)
    until = time.monotonic() + _SECONDS_RELOAD
    while time.monotonic() < until:
        now = read(instance.layout.status, GuardStatus)
        if now is None:
            raise Conflict(f"The guard ended meanwhile; see {_guard_log(instance)}.")
        if now.reload.number > told.reload.number and now.reload.state != "running":
            if now.reload.state == "failed":
                raise Conflict(f"Not reloaded: {now.reload.sentence}.")
            say("Reloaded: every process is new.")
            return 0
        time.sleep(_POLL_SECONDS)
    raise Conflict(f"It was not reloaded in {_SECONDS_RELOAD:.0f} s; see {_guard_log(instance)}.")


def stop(instance: Instance) -> int:
    """Stop the guard of this folder, and with it everything; nothing else is ever signalled."""
    guard = instance.lock.holder()
    if guard is None:
        say("It is not running.")
        return 0
    say("Stopping (requests and jobs may finish) ...")
    send(guard, signal.SIGTERM)
    if not wait_gone(guard, _SECONDS_STOP + grace(os.environ)):
        raise Conflict(f"The guard (process {guard.pid}) does not end; see {_guard_log(instance)}.")
    say("Stopped.")
    return 0


def restart(instance: Instance, environ: dict[str, str], duties: Sequence[str]) -> int:
    """Stop and start again, with other duties if such are named; what is wrong stops nothing.

    Raises:
        Invalid: the duties or the configuration are wrong.
    """
    wish(instance, environ, duties)
    path = instance.config or instance.layout.config
    if path.exists():
        configuration.load(path, environ)
    stop(instance)
    return start(instance, environ, duties)


def reset(instance: Instance, *, sure: bool) -> bool:
    """Remove the instance with all its data, after a clear yes."""
    folder = instance.folder
    if not instance.layout.state.exists():
        say(f"There is no instance in {folder}; nothing to remove.")
        return True
    if not sure:
        say(f"This removes the instance in {folder} with all its data, accounts and keys.")
        sys.stderr.write("Type yes to go on: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() != "yes":
            say("Nothing was removed.")
            return False
    stop(instance)
    making.remove(folder)
    say("Removed.")
    return True


def _guard_log(instance: Instance) -> Path:
    return instance.layout.logs / "guard.log"


def _launch(instance: Instance, environ: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "cvf_app.local.daemon", "--data", str(instance.folder)]
    if instance.config is not None:
        command += ["--config", str(instance.config)]
    if _IS_BINARY:
        # Else it would live in the folder that our own process unpacked, and removes at its end.
        environ = {**environ, "PYINSTALLER_RESET_ENVIRONMENT": "1"}
    with _guard_log(instance).open("ab") as log:
        guard = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environ),
            start_new_session=True,
            # The same wherever it is started from.
            cwd=instance.folder,
        )
    until = time.monotonic() + _SECONDS_STOP
    while not _status_of(instance, guard.pid):
        if guard.poll() is not None or time.monotonic() > until:
            tail = _guard_log(instance).read_text(errors="replace").splitlines()[-1:]
            raise Conflict(
                f"The guard did not start. {' '.join(tail)} (log: {_guard_log(instance)})"
            )
        time.sleep(_POLL_SECONDS)


def _status_of(instance: Instance, pid: int) -> GuardStatus | None:
    told = read(instance.layout.status, GuardStatus)
    # A binary unpacks itself in a first process, and works in a second.
    return told if told is not None and (told.guard.pid == pid or _IS_BINARY) else None


def _await_ready(instance: Instance) -> GuardStatus:
    """Watch the guard until everything answers, saying meanwhile what it does.

    Raises:
        Conflict: a part was given up, or the guard ended.
    """
    began, said_at, said = time.monotonic(), 0.0, ""
    while time.monotonic() - began < _SECONDS_UP:
        told = read(instance.layout.status, GuardStatus)
        if told is None and not instance.lock.is_held():
            raise Conflict(f"The guard ended before all was ready; see {_guard_log(instance)}.")
        children = told.children if told else ()
        lost = [child for child in children if child.state == "given up"]
        if lost:
            log = Path(lost[0].log)
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Conflict(
                f"The part '{lost[0].name}' does not start: {' '.join(last)} "
                f"(the whole is in {log}). When that is mended: ./CafeVariome3.sh restart"
            )
        # In full mode what the app needs may be down; that is said, and no fault of it.
        enough = told is not None and told.state == "ready"
        if told and enough and (instance.config is not None or is_healthy(told.address)):
            return told
        open_ones = [child.doing for child in children if child.state == "starting"]
        doing = open_ones[0] if open_ones else said
        waited = time.monotonic() - began
        if doing != said:
            say(f"{doing} ...")
            said, said_at = doing, waited
        elif waited - said_at > _SAY_AGAIN_SECONDS:
            say(f"  still: {said} ({waited:.0f} s)")
            said_at = waited
        time.sleep(_POLL_SECONDS)
    raise Conflict(f"It was not ready in {_SECONDS_UP:.0f} s; see ./CafeVariome3.sh logs")


def _greet(layout: Layout, seconds: float) -> None:
    person = read(layout.administrator, Administrator)
    if person is None:
        return
    tool = Path(sys.prefix) / "bin" / "cvf"
    command = _short(tool) if tool.exists() else f"{sys.executable} -m cvf_app.console"
    say(
        f"\nCafe Variome 3 is ready after {seconds:.0f} s. Local mode: this machine only.\n"
        f"  address  {person.address}\n"
        f"  login    {person.username}, password in {_short(layout.administrator)}\n"
        f"  next     {command} login\n"
        f"  stop     ./CafeVariome3.sh stop"
    )


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
