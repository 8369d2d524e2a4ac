"""What a person does with an instance: bring it up, stop it, ask how it is, read its logs.

The guard does the work in the background; here it is started and watched. Everything goes to
standard error but what was asked for (status, logs), so that output can be piped.
"""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvf_app.errors import Conflict, Invalid
from cvf_app.local import making, probe
from cvf_app.local.daemon import bind_of
from cvf_app.local.guard import GuardStatus, Lock
from cvf_app.local.layout import Administrator, Layout, LocalState, Ports, read
from cvf_app.local.ports import parse
from cvf_app.local.processes import send, wait_gone
from cvf_app.wire import encode

_POLL_SECONDS = 0.1
_SECONDS_UP = 240.0
_SECONDS_STOP = 120.0
_SAY_AGAIN_SECONDS = 10.0
NOT_RUNNING = 3


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance: its folder, and in full mode its configuration file."""

    folder: Path
    config: Path | None = None

    @property
    def layout(self) -> Layout:
        """Return the paths inside the folder."""
        return Layout(self.folder)

    @property
    def lock(self) -> Lock:
        """Return the lock of its guard."""
        return Lock(self.layout.lock)


def say(line: str) -> None:
    """Tell the person something, at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def data_folder(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the folder of the local instance: given, CV3_DATA, else beside the script."""
    chosen = given or Path(
        environ.get("CV3_DATA") or Path(environ.get("CV3_HERE", ".")) / "instance"
    )
    return chosen.expanduser().resolve()


def find(given: Path | None, environ: Mapping[str, str]) -> Instance:
    """Return the instance that is meant: a local folder, or a configuration of full mode.

    Raises:
        Invalid: there is neither.
    """
    folder = data_folder(given, environ)
    app_folder = Path(environ.get("CV3_APP_PATH", ".")).resolve()
    config = Path(environ.get("CV3_CONFIG") or app_folder / "instance_config.json").resolve()
    local_is_meant = given is not None or "CV3_DATA" in environ
    if not local_is_meant and config.exists() and not (config.parent / "local.json").exists():
        return Instance(folder=app_folder, config=config)
    if not local_is_meant and config.exists():
        return Instance(folder=config.parent)
    if Layout(folder).state.exists():
        return Instance(folder=folder)
    raise Invalid(
        f"There is no instance in {folder} and no configuration at {config}. "
        "Make a local instance with: ./CafeVariome3.sh local"
    )


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
    if duties:
        environ["CV3_DUTIES"] = ",".join(duties)
    if instance.config is None:
        return up(instance, environ, new_ports=False)
    instance.layout.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    instance.layout.logs.mkdir(exist_ok=True, mode=0o700)
    _launch(instance, environ)
    status = _await_ready(instance)
    say(f"Cafe Variome 3 is ready: {status.address}")
    return 0


def stop(instance: Instance) -> int:
    """Stop the guard of this folder, and with it everything; nothing else is ever signalled."""
    guard = instance.lock.holder()
    if guard is None:
        say("It is not running.")
        return 0
    say("Stopping (requests and jobs may finish) ...")
    send(guard, signal.SIGTERM)
    if not wait_gone(guard, _SECONDS_STOP):
        raise Conflict(f"The guard (process {guard.pid}) does not end; see {_guard_log(instance)}.")
    say("Stopped.")
    return 0


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


def status(instance: Instance, *, as_json: bool) -> int:
    """Say how the parts are; 0 when all run."""
    told = read(instance.layout.status, GuardStatus) if instance.lock.is_held() else None
    if told is None:
        say("It is not running. Start it with: ./CafeVariome3.sh start")
        return NOT_RUNNING
    if as_json:
        print(encode(told).decode())
    else:
        print(f"{told.state:<10} {told.address}  (guard: process {told.guard.pid})")
        for child in told.children:
            pid = str(child.process.pid) if child.process else "-"
            print(
                f"  {child.name:<10} {child.state:<11} process {pid:<8} restarts {child.restarts}"
            )
    well = all(child.state in {"running", "done"} for child in told.children)
    return 0 if well and told.state == "ready" else 1


def logs(instance: Instance, parts: Sequence[str], lines: int) -> int:
    """Print the last lines of each log."""
    for log in sorted(instance.layout.logs.glob("*.log")):
        if parts and log.stem not in parts:
            continue
        print(f"== {log}")
        for line in log.read_text(errors="replace").splitlines()[-lines:]:
            print(line)
    return 0


def _guard_log(instance: Instance) -> Path:
    return instance.layout.logs / "guard.log"


def _launch(instance: Instance, environ: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "cvf_app.local.daemon", "--data", str(instance.folder)]
    if instance.config is not None:
        command += ["--config", str(instance.config)]
    with _guard_log(instance).open("ab") as log:
        guard = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environ),
            start_new_session=True,
            cwd=instance.folder if instance.config is None else None,
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
    return told if told is not None and told.guard.pid == pid else None


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
        lost = [child.name for child in told.children if child.state == "given up"] if told else []
        if lost:
            log = instance.layout.logs / f"{lost[0]}.log"
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Conflict(
                f"The part '{lost[0]}' does not start: {' '.join(last)} (the whole is in {log}). "
                "When that is mended: ./CafeVariome3.sh restart"
            )
        if told is not None and told.state == "ready" and _is_healthy(told.address):
            return told
        open_ones = (
            [child.doing for child in told.children if child.state == "starting"] if told else []
        )
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


def _is_healthy(address: str) -> bool:
    _, port = parse(address.removeprefix("http://"))
    try:
        return asyncio.run(probe.page(port, "/health/ready")) == "200"
    except OSError:
        return False


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
