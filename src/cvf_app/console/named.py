"""Instances by name: `environments.json` beside the login, as in `{"staging": "https://…"}`.

An address may contain `{stack}`, for one of several instances that differ in a word only.
"""

import json
import re
from pathlib import Path

from cvf_app.console.failures import Misused, NoSuchThing

FILE = "environments.json"
_STACK = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")  # a label, RFC 1123, 2.1


def address_of(name: str, stack: str | None, folder: Path) -> str:
    """Return the address of the instance that goes by a name.

    Raises:
        NoSuchThing: no instance goes by it.
        Misused: the file cannot be read, or the name of a stack is missing, too much or no name.
    """
    place = folder / FILE
    known = _read(place)
    if name not in known:
        raise NoSuchThing(
            f"No instance is called {name}.",
            advice=f"There are: {', '.join(sorted(known))}"
            if known
            else f'Write them into {place}: {{"{name}": "https://cafe.example.org"}}',
        )
    address = known[name]
    if ("{stack}" in address) != (stack is not None):
        raise Misused(
            f"The address of {name} is {address}.",
            advice="Name its stack: --stack NAME" if stack is None else "Leave --stack out.",
        )
    if stack is not None and not _STACK.fullmatch(stack):
        raise Misused("A stack is called by letters, digits and hyphens.")
    return address.replace("{stack}", stack or "")


def _read(place: Path) -> dict[str, str]:
    try:
        known = json.loads(place.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as fault:
        raise Misused(f"{place} cannot be read ({fault}).") from fault
    if not isinstance(known, dict) or not all(isinstance(each, str) for each in known.values()):
        raise Misused(f'{place} has to be {{"name": "address", …}}.')
    return known
