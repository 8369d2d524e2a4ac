"""Keys of the configuration that stand in the environment: `CV3__Block__Key=value`.

Promises: a variable wins over the file; a name that is no key is refused, with the key that was
probably meant; a value is read as its key's type, and never repeated in an error, since it may
be a password. Lists are JSON, or texts with commas; maps are JSON.
"""

import difflib
import json
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

import msgspec

from cvf_app.errors import Invalid

PREFIX = "CV3__"
_TRUE, _FALSE = {"true", "yes", "1"}, {"false", "no", "0"}


def overridden(
    blocks: dict[str, object], kind: type[msgspec.Struct], environ: Mapping[str, str]
) -> dict[str, object]:
    """Return the blocks of a configuration of this kind as the environment changes them.

    Raises:
        Invalid: a variable names no key, or its value is none of the key's type.
    """
    for name in sorted(environ):
        if name.startswith(PREFIX):
            _put(blocks, kind, name.removeprefix(PREFIX).split("__"), name, environ[name])
    return blocks


def _put(
    blocks: dict[str, object], kind: type[msgspec.Struct], path: list[str], name: str, text: str
) -> None:
    at: Any = kind
    inside: dict[str, Any] = blocks
    for number, part in enumerate(path):
        at = _inner(at, part, name)
        if number == len(path) - 1:
            inside[part] = _value(at, name, text)
        else:
            inside[part] = inside.get(part) if isinstance(inside.get(part), dict) else {}
            inside = inside[part]


def _inner(at: Any, part: str, name: str) -> Any:  # noqa: ANN401 - types have no narrower name
    """Return the type of a part of what is `at`."""
    if get_origin(at) is dict and part:
        return get_args(at)[1]
    known = (
        {field.encode_name: field.type for field in msgspec.structs.fields(at)}
        if isinstance(at, type) and issubclass(at, msgspec.Struct)
        else {}
    )
    if part in known:
        return known[part]
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(part.lower(), list(lower), 1)
    meant = f" Did you mean '{lower[near[0]]}'?" if near else ""
    raise Invalid(f"The environment's {name} is no key of the configuration: '{part}'.{meant}")


def _value(at: Any, name: str, text: str) -> object:  # noqa: ANN401 - as above
    """Read a text as a value of this type; what else is wrong with it the decoder says."""
    kinds = get_args(at) if get_origin(at) in {Union, types.UnionType} else (at,)
    if any(isinstance(kind, type) and issubclass(kind, msgspec.Struct) for kind in kinds):
        raise Invalid(f"The environment's {name} is a block; name a key inside: {name}__…")
    origins = {get_origin(kind) or kind for kind in kinds}
    if str in origins:
        return text
    if bool in origins:
        return _boolean(name, text)
    if tuple in origins and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if origins & {int, float, tuple, dict}:
        return _json(name, text)
    # A choice among texts.
    return text


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise Invalid(f"The environment's {name} is true or false.")
    return text.lower() in _TRUE


def _json(name: str, text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        raise Invalid(f"The environment's {name} is not what its key takes.") from fault
