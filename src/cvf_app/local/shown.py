"""What a person asks an instance: how its parts are, what it waits for, what its logs say."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cvf_app.errors import Invalid
from cvf_app.local import daemon, probe
from cvf_app.local.guard import READY_PAGE, GuardStatus
from cvf_app.local.instance import Instance
from cvf_app.local.layout import read
from cvf_app.local.ports import parse
from cvf_app.wire import Heard, decode, encode

NOT_RUNNING = 3
_POLL_SECONDS = 0.1
_SECONDS_NEEDED = 15.0


def say(line: str) -> None:
    """Tell the person something, at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


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
                f"  {child.name:<10} {child.state:<11} process {pid:<8} "
                f"restarts {child.restarts}  {child.address}".rstrip()
            )
    well = all(child.state in {"running", "done"} for child in told.children)
    return 0 if well and told.state == "ready" else 1


def logs(instance: Instance, parts: Sequence[str], lines: int) -> int:
    """Print the last lines of each log; `parts` are names of processes, duties or files."""
    for log in _logs(instance):
        words = {log.path.stem, *log.names}
        if parts and not words & set(parts):
            continue
        print(f"== {log.path}")
        for line in log.path.read_text(errors="replace").splitlines()[-lines:]:
            print(line)
    return 0


@dataclass(frozen=True)
class _Log:
    path: Path
    names: frozenset[str]


def _logs(instance: Instance) -> list[_Log]:
    """Return the logs that are there, each with the processes and duties that write to it."""
    found: dict[Path, set[str]] = {path: set() for path in instance.layout.logs.glob("*.log")}
    told = read(instance.layout.status, GuardStatus)
    for child in told.children if told else ():
        # "query+exporter-2" is the second process of two duties.
        names = {child.name, *re.sub(r"-\d+$", "", child.name).split("+")}
        found.setdefault(Path(child.log), set()).update(names)
    if instance.config is not None:
        files = daemon.full_files(instance.folder, os.environ)
        options = (Path(text) for text in files.options if not text.startswith("-"))
        for path in (files.log, *files.log.parent.glob(f"{files.log.stem}-*.log"), *options):
            found.setdefault(path, set())
    return [_Log(path, frozenset(names)) for path, names in sorted(found.items()) if path.is_file()]


def is_healthy(address: str) -> bool:
    """Say whether all that the instance needs answers."""
    return _health(address)[0] == "200"


def _health(address: str) -> tuple[str, bytes]:
    try:
        return asyncio.run(probe.page(parse(address.removeprefix("http://")), READY_PAGE))
    except OSError:
        return "", b""


def down(address: str) -> str:
    """Wait a while for what the instance needs; return what is still down, or nothing."""
    until = time.monotonic() + _SECONDS_NEEDED
    while True:
        status, body = _health(address)
        if status == "200":
            return ""
        if time.monotonic() > until:
            break
        time.sleep(_POLL_SECONDS)
    try:
        services = decode(body, _Health).services
    except Invalid:
        return f"its health page answers {status or 'nothing'}"
    down = [f"{name}: {each.detail}" for name, each in services.items() if not each.ok]
    return "; ".join(down)


class _Service(Heard, frozen=True, kw_only=True):
    ok: bool
    detail: str = ""


class _Health(Heard, frozen=True, kw_only=True):
    services: dict[str, _Service] = msgspec.field(default_factory=dict)
