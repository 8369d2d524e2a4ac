"""The operator's commands: `python -m cvf_app check-config | install | maintenance | …`.

Exit codes: 0 done, 1 failed, 2 used wrongly or the configuration is wrong.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from cvf_app.config import load, surroundings
from cvf_app.duties import DUTIES
from cvf_app.errors import CafeVariomeError, Invalid

FAILED, MISUSED = 1, 2


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(prog="python -m cvf_app", description=__doc__)
    words = described.add_subparsers(dest="word", metavar="WORD", required=True)
    check = words.add_parser("check-config", help="read the configuration and say what is wrong")
    install = words.add_parser(
        "install", help="make indices, the installation's id and the first administrator"
    )
    install.add_argument("--username", required=True, help="name of the first administrator")
    install.add_argument(
        "--subject",
        help="what the provider's tokens call them, if they have an account there; without it an "
        "account is made, and the provider mails them a link to set a password",
    )
    install.add_argument("--email", required=True)
    maintenance = words.add_parser("maintenance", help="refuse changes for a while, or not")
    maintenance.add_argument("state", choices=("on", "off"))
    maintenance.add_argument("--message", default="", help="what people are told meanwhile")
    shared = words.add_parser("shared-secret", help="print the secret of operators' tools")
    for word in (check, install, maintenance, shared):
        word.add_argument("--config", type=Path, help="instance_config.json (default: CV3_CONFIG)")
    words.add_parser("duties", help="list what CV3_DUTIES may name")
    return described


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says."""
    given = parser().parse_args(arguments)
    try:
        match given.word:
            case "check-config":
                return _check_config(given)
            case "install":
                return _install(given)
            case "maintenance" | "shared-secret":
                return _operate(given)
            case _:
                return _duties()
    except Invalid as fault:
        where = f" ({fault.path})" if fault.path else ""
        sys.stderr.write(f"{fault.sentence}{where}\n")
        return MISUSED
    except CafeVariomeError as fault:
        sys.stderr.write(f"{fault.sentence}\n")
        return FAILED


def _check_config(given: argparse.Namespace) -> int:
    path = given.config or surroundings().config_path
    config = load(path)
    print(f"{path} is right: {config.mode.value} mode, digest {config.digest}")
    return 0


def _install(given: argparse.Namespace) -> int:
    # Imported here: the other commands need no driver, and must work when one is broken.
    from cvf_app.assembly import install  # noqa: PLC0415 - see above

    config = load(given.config or surroundings().config_path)
    password = asyncio.run(
        install(config, username=given.username, email=given.email, subject=given.subject)
    )
    print(f"Installed; the first administrator is {given.username}.")
    if password is not None:
        print(f"The first password is told this once: {password}")
    return 0


def _operate(given: argparse.Namespace) -> int:
    from cvf_app.operating import maintain, shared_secret  # noqa: PLC0415 - as in `_install`

    config = load(given.config or surroundings().config_path)
    if given.word == "shared-secret":
        print(asyncio.run(shared_secret(config)))
        return 0
    on = given.state == "on"
    asyncio.run(maintain(config, on=on, message=given.message))
    print("Changes are refused from now on." if on else "Changes are taken again.")
    return 0


def _duties() -> int:
    for duty, brings in DUTIES.items():
        print(f"{duty.value:<18} {brings.meaning}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
