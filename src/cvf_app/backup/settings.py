"""The configuration as it goes into a backup: everything but its secrets."""

import json
import re
from typing import Any

_SECRET = re.compile(r"(?i)password|secret$|token$|^key$|apikey$")
_IN_ADDRESS = re.compile(r"//[^/@\s]*@")


def without_secrets(raw: bytes) -> str:
    """Return a configuration with an empty text in the place of every secret."""
    return json.dumps(_blank("", json.loads(raw)), indent=2)


def _blank(name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {key: _blank(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_blank(name, each) for each in value]
    if isinstance(value, str):
        return "" if _SECRET.search(name) else _IN_ADDRESS.sub("//", value)
    return value
