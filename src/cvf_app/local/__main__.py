"""The words of `CafeVariome3.sh`: local, start, stop, restart, reload, status, logs, run.

Exit codes: 0 done (or running), 1 failed, 2 used wrongly, 3 not running or not installed.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from cvf_app.errors import CafeVariomeError, Invalid
from cvf_app.local import control, shown
from cvf_app.local.instance import Instance, data_folder, find
from cvf_app.local.shown import say

FAILED, MISUSED, NOT_RUNNING = 1, 2, 3
DUTIES = (
    "only these duties (CV3_DUTIES), default: all; in full mode each word is a process of its "
    "own, and a comma joins duties in one"
)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        prog="CafeVariome3.sh",
        description="Run Cafe Variome 3: 'local' needs nothing but Python 3.11 or newer; "
        "the other words also keep an instance of full mode (CV3_CONFIG).",
        epilog="'install FOLDER' puts CafeVariome3 on the PATH, 'uninstall' takes it away.",
    )
    words = described.add_subparsers(dest="word", metavar="WORD", required=True)
    local = words.add_parser(
        "local", help="make a local instance where there is none, and start it"
    )
    local.add_argument("--reset", action="store_true", help="remove the instance first (asks)")
    local.add_argument("--yes", action="store_true", help="answer yes to the question of --reset")
    local.add_argument("--new-ports", action="store_true", help="choose other ports")
    start = words.add_parser("start", help="start in the background, and wait until it is ready")
    start.add_argument("duties", nargs="*", help=DUTIES)
    stop = words.add_parser("stop", help="stop, letting requests and jobs finish")
    restart = words.add_parser("restart", help="stop and start again")
    restart.add_argument("duties", nargs="*", help=DUTIES)
    reload = words.add_parser(
        "reload", help="restart the app one process after the other; no request is lost"
    )
    run = words.add_parser("run", help="stay in the foreground, for systemd and containers")
    run.add_argument("duties", nargs="*", help=DUTIES)
    status = words.add_parser("status", help="say how the parts are; exit code 0 when all run")
    status.add_argument("--json", action="store_true", help="for programs")
    logs = words.add_parser("logs", help="show the last lines of the logs")
    logs.add_argument(
        "parts",
        nargs="*",
        help="guard, access, error, a duty, a process of 'status', or a part of local mode: "
        "app, database, broker, identity, install",
    )
    logs.add_argument("--lines", type=int, default=20)
    for word in (local, start, stop, restart, reload, run, status, logs):
        word.add_argument("--data", type=Path, help="folder of the local instance (CV3_DATA)")
    words.add_parser("help", help="show this")
    return described


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says."""
    os.umask(0o077)
    described = parser()
    given = described.parse_args(arguments)
    if given.word == "help":
        described.print_help()
        return 0
    try:
        return _do(given)
    except Invalid as fault:
        say(f"{fault.sentence}" + (f" ({fault.path})" if fault.path else ""))
        return MISUSED
    except CafeVariomeError as fault:
        say(fault.sentence)
        return FAILED
    except KeyboardInterrupt:
        say("Interrupted; what was started goes on. Stop it with: ./CafeVariome3.sh stop")
        return FAILED


def _do(given: argparse.Namespace) -> int:
    environ = dict(os.environ)
    if given.word == "local":
        return _local(given, environ)
    instance = find(given.data, environ)
    do: dict[str, Callable[[], int]] = {
        "start": lambda: control.start(instance, environ, given.duties),
        "stop": lambda: control.stop(instance),
        "restart": lambda: control.restart(instance, environ, given.duties),
        "reload": lambda: control.reload(instance),
        "run": lambda: control.run(instance, environ, given.duties),
        "status": lambda: shown.status(instance, as_json=given.json),
        "logs": lambda: shown.logs(instance, given.parts, given.lines),
    }
    return do[given.word]()


def _local(given: argparse.Namespace, environ: dict[str, str]) -> int:
    instance = Instance(folder=data_folder(given.data, environ))
    if given.reset and not control.reset(instance, sure=given.yes):
        return FAILED
    return control.up(instance, environ, new_ports=given.new_ports)


if __name__ == "__main__":
    sys.exit(main())
