"""Starting, stopping and looking at servers: the same for each of them."""

import re
import time
from pathlib import Path
from typing import Any

from scripts.services import processes
from scripts.services.asking import free_port, is_free
from scripts.services.cache import Cache, say
from scripts.services.errors import Failed, NotAvailable
from scripts.services.home import Home
from scripts.services.service import Service

_TRIES = 3
_LOOK_SECONDS = 0.05
_PORT_TAKEN = re.compile(r"address already in use|failed to bind|bindexception", re.IGNORECASE)


def up(service: Service, cache: Cache, data: Path) -> dict[str, Any]:
    """Start a server unless it runs, wait until it answers, and say where it is.

    Raises:
        NotAvailable: this machine cannot have it, or nobody installed it.
        Failed: it does not start; the text ends with what it said.
    """
    service.locate(cache)
    home = Home(data / service.name)
    if not service.port_names:
        return describe(service, home)
    with home.alone():
        process = home.process()
        if process is not None and processes.is_alive(process):
            _wait(service, home, process)
        else:
            if process is not None:
                say(f"{service.name}: had ended without being asked to; starting it again")
            _start(service, cache, home)
        service.settle(home)
        return describe(service, home)


def down(service: Service, data: Path) -> str:
    """Stop a server that was started here; return what was done."""
    home = Home(data / service.name)
    if not home.folder.exists():
        return "was never started"
    with home.alone():
        process = home.process()
        if process is None:
            return "did not run"
        if not processes.is_alive(process):
            home.keep_process(None)
            return "had ended without being asked to"
        gracefully = processes.end(process, service.stop_seconds)
        home.keep_process(None)
        return "stopped" if gracefully else "killed: it did not stop when it was asked"


def kill(service: Service, data: Path) -> None:
    """Kill a server, as a crash would; the next `up` finds the process gone."""
    process = Home(data / service.name).process()
    if process is not None:
        processes.kill(process)


def status(service: Service, cache: Cache, data: Path) -> dict[str, Any]:
    """Say what a server does, without changing anything."""
    home = Home(data / service.name)
    process = home.process()
    if process is not None and processes.is_alive(process):
        return describe(service, home) | ({} if service.answers(home) else {"state": "starting"})
    if process is not None:
        return {"state": "ended without being asked to", "log": str(home.log)}
    try:
        program = service.locate(cache)
    except NotAvailable as reason:
        return {"state": "not available", "reason": str(reason)}
    if not service.port_names:
        return describe(service, home)
    return {"state": "stopped", "program": str(program)}


def describe(service: Service, home: Home) -> dict[str, Any]:
    """Return what a caller needs to use a server that runs."""
    told: dict[str, Any] = {"state": "running"}
    if service.port_names:
        told |= {"address": service.address(home)}
    process = home.process()
    if process is not None:
        told |= {"pid": process.pid, "log": str(home.log)}
    if home.credentials_file.exists():
        told |= {"credentials": str(home.credentials_file)}
    return told | service.more(home)


def _start(service: Service, cache: Cache, home: Home) -> None:
    begin = time.monotonic()
    for remaining in reversed(range(_TRIES)):
        _choose_ports(service, home)
        command = service.command(cache, home)
        already = home.log.stat().st_size if home.log.exists() else 0
        process = processes.start(command, home.folder, home.log, service.environment(home))
        home.keep_process(process)
        try:
            _wait(service, home, process)
        except Failed:
            home.keep_process(None)
            said = home.log.read_bytes()[already:].decode(errors="replace")
            # Between our looking for a free port and its being bound, somebody else may take it.
            if not remaining or not _PORT_TAKEN.search(said):
                raise
            home.keep_ports({})
            continue
        say(f"{service.name}: answers after {time.monotonic() - begin:.1f} s")
        return


def _choose_ports(service: Service, home: Home) -> None:
    kept = home.ports()
    if set(kept) == set(service.port_names) and all(is_free(port) for port in kept.values()):
        return
    if kept:
        say(f"{service.name}: its ports were taken by somebody else, so it gets new ones")
    chosen: dict[str, int] = {}
    while len(chosen) < len(service.port_names):
        port = free_port()
        if port not in chosen.values():
            chosen[service.port_names[len(chosen)]] = port
    home.keep_ports(chosen)


def _wait(service: Service, home: Home, process: processes.Identity) -> None:
    until = time.monotonic() + service.start_seconds
    while not service.answers(home):
        if not processes.is_alive(process):
            raise Failed(f"{service.name} ended while it started:\n{home.last_words()}")
        if time.monotonic() > until:
            processes.kill(process)
            raise Failed(
                f"{service.name} did not answer within {service.start_seconds:.0f} s:\n"
                f"{home.last_words()}"
            )
        time.sleep(_LOOK_SECONDS)
