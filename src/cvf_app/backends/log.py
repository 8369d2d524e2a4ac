"""The application's log: one JSON object a line on standard error, with the request's trace id.

Promises: the web server's own loggers are left alone; values under names that speak of
secrets are masked before a line is written, at any depth. Of an exception stand there its type
and where it was raised; never local variables, and its message only if no data can be in it.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from structlog.typing import ExcInfo

from cvf_app.errors import Unavailable

_SECRET = re.compile(r"token|secret|password|authorization|key$|verifier", re.IGNORECASE)
# Services and files are named in these; anything else may quote what a source does not disclose
# (a KeyError is its key).
_TELLING = (Unavailable, OSError)
_frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure(name: str, level: str) -> None:
    """Set up the logger `name`; lower levels than `level` are dropped."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger(name)
    ours.handlers = [handler]
    ours.setLevel(level)
    ours.propagate = False
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            mask,
            structlog.processors.ExceptionRenderer(outline),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: ours,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=False,
    )


def mask(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace the values of names that speak of secrets."""
    for name, value in event.items():
        event[name] = _masked(name, value)
    return event


def outline(exc_info: ExcInfo) -> list[dict[str, Any]]:
    """Return an exception and its causes as types and frames, with messages that are harmless."""
    stacks = _frames(exc_info)
    _blank(stacks, set(_told(exc_info[1])))
    return stacks


def _masked(name: str, value: object) -> object:
    if _SECRET.search(name):
        return "***"
    if isinstance(value, Mapping):
        return {key: _masked(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", each) for each in value]
    return value


def _told(fault: BaseException | None) -> list[tuple[str, str]]:
    """Return type and message of the harmless ones among an exception and what led to it."""
    told: list[tuple[str, str]] = []
    waiting, seen = [fault], set[int]()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, _TELLING):
            told.append((type(each).__name__, str(each)))
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
    return told


def _blank(stacks: list[dict[str, Any]], told: set[tuple[str, str]]) -> None:
    for stack in stacks:
        if (stack["exc_type"], stack["exc_value"]) not in told:
            stack["exc_value"] = ""
        stack["exc_notes"] = []
        # The line at fault of a syntax error, and its message.
        stack["syntax_error"] = None
        for group in stack.get("exceptions", ()):
            _blank(group, told)
