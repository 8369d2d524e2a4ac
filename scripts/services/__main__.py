"""The command line: install, up, down, status. Results go to standard output as JSON."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.services import running
from scripts.services.cache import Cache, default_cache, say
from scripts.services.errors import Failed, NotAvailable
from scripts.services.known import KNOWN, named
from scripts.services.service import Service

DESCRIPTION = """\
Fetches, builds, starts and stops the servers that a full instance needs, on loopback and free
ports: for tests, demonstrations and a full instance on one machine.

  install   fetch and build what is missing (once, into the cache folder)
  up        start, wait until each answers, print addresses and credential files as JSON
  down      stop what was started in this data folder
  status    say what runs, as JSON
"""
FAULT, NOT_HAD = 1, 4
EPILOGUE = f"""\
Names: {", ".join(KNOWN)}.
Without names: all of them, but for those that `up` starts by name alone
({", ".join(name for name, one in KNOWN.items() if one.by_name_only)}).
CV3_SERVICES_CACHE names the cache folder (default ~/.cache/cafe-variome-services).
Credentials are written to files that only their owner reads; the JSON names the files.
Exit status: 0 done; {FAULT} a step or a start failed; {NOT_HAD} a service that was named cannot be
had on this machine (the JSON says why). Without names, such a service is only reported.
"""


def main() -> int:
    """Read the command line, do it, print the result, return the exit status."""
    reader = _reader()
    told = reader.parse_intermixed_args()
    unknown = sorted(set(told.names) - set(KNOWN))
    if unknown:
        reader.error(f"no such service: {', '.join(unknown)}; there are {', '.join(KNOWN)}")
    services = named(told.names, for_up=told.action == "up")
    cache = Cache(told.cache.absolute())
    data = told.data.absolute() if told.data else cache.folder / "data"
    actions: dict[str, Callable[[Service], dict[str, Any]]] = {
        "install": lambda service: _install(service, cache),
        "up": lambda service: running.up(service, cache, data),
        "down": lambda service: {"state": running.down(service, data)},
        "status": lambda service: running.status(service, cache, data),
    }
    done = {one.name: _tried(actions[told.action], one) for one in services}
    if told.action == "down" and not told.names:
        done = {name: result for name, result in done.items() if "never" not in result["state"]}
    print(json.dumps(done, indent=2))
    states = {result["state"] for result in done.values()}
    if "failed" in states:
        return FAULT
    return NOT_HAD if told.names and told.action != "status" and "not available" in states else 0


def _reader() -> argparse.ArgumentParser:
    reader = argparse.ArgumentParser(
        prog="scripts/services.sh",
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reader.add_argument("action", choices=("install", "up", "down", "status"))
    reader.add_argument("names", nargs="*", metavar="name")
    reader.add_argument(
        "--data", type=Path, help="where the servers keep their data (default: in the cache)"
    )
    reader.add_argument("--cache", type=Path, default=default_cache(), help=argparse.SUPPRESS)
    return reader


def _install(service: Service, cache: Cache) -> dict[str, Any]:
    service.install(cache)
    return {"state": "installed", "program": str(service.locate(cache))}


def _tried(action: Callable[[Service], dict[str, Any]], service: Service) -> dict[str, Any]:
    try:
        return action(service)
    except NotAvailable as reason:
        say(f"{service.name}: not available: {reason}")
        return {"state": "not available", "reason": str(reason)}
    except Failed as fault:
        say(f"{service.name}: {fault}")
        return {"state": "failed", "reason": str(fault)}


if __name__ == "__main__":
    sys.exit(main())
