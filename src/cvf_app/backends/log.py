"""The application's log: one JSON object a line, with the request's trace id.

Promises: the web server's own loggers are left alone. Before a line goes anywhere, values under
names that speak of secrets are masked, and inside every text what looks like a secret (a token,
a private key, a login inside an address) or an e-mail address, at any depth. Of an exception
stand there its type and where it was raised; never local variables, and its message only if no
data can be in it. What the libraries say from WARNING on goes the same way, under their name.
Where lines go is said by handlers (`log_outlets.py`); each record carries its fields as `fields`.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import structlog
from structlog.typing import ExcInfo

from cvf_app.errors import Unavailable

LIBRARIES = (
    *("aiohttp", "aiosmtplib", "asyncio", "docket", "httpcore", "httpx", "hvac", "keycloak"),
    *("motor", "neo4j", "pymongo", "redis", "requests", "urllib3"),
)
# Longer ones are cut: nobody reads them, and patterns take time.
LONGEST_TEXT = 16384
_SECRET = re.compile(
    r"token|secret|passw|authorization|credential|cookie|key$|verifier|jwt|pem$|passphrase",
    re.IGNORECASE,
)
_PATTERNS = (
    # A JSON web token, signed (RFC 7515) or encrypted (RFC 7516): it begins with '{"' in base64.
    (re.compile(r"(?:(?<![\w-])|(?<=%\w\w))eyJ[\w-]{8,}(?:\.[\w-]*){2,4}"), "***"),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL),
        "***",
    ),
    # Vault: service, batch and recovery tokens, and service tokens of before 1.10.
    (re.compile(r"\bhv[sbr]\.[\w-]{8,}"), "***"),
    (re.compile(r"\bs\.[A-Za-z0-9]{24}\b"), "***"),
    (re.compile(r"\b(bearer|basic|splunk)\s+[\w.~+/=-]{16,}", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(
            r"((?:secret|token|passw(?:or)?d|passphrase|api[_-]?key|verifier)[\w-]{0,40}"
            r"[\"']?\s*[=:]\s*)(?:\"[^\"]*\"?|'[^']*'?|[^\s\"'&,;)}\]]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"([?&]code=)[^\s\"'&]+"), r"\1***"),
    (
        re.compile(
            r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@\"']{0,256}:[^\s/@\"']{0,256}@", re.IGNORECASE
        ),
        r"\1***@",
    ),
    (re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "<e-mail>"),
)
# What any of them needs; most texts have nothing of it, and are done with one look.
_SUSPECT = re.compile(
    r"eyJ|-----BEGIN|hv[sbr]\.|\bs\.|bearer|basic|splunk|secret|token|passw|passphrase|api[_-]?key"
    r"|verifier|code=|://|@",
    re.IGNORECASE,
)
# Services and files are named in these; anything else may quote what a source does not disclose
# (a KeyError is its key).
_TELLING = (Unavailable, OSError)
# Drivers' own classes, by name: this module is read by programs that have no use for a driver.
_TELLING_NAMES = frozenset({"ConnectionFailure", "ConnectionError", "ClientConnectionError"})
_frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure(name: str, level: str, handlers: Sequence[logging.Handler] = ()) -> None:
    """Set up the logger `name`: lower levels than `level` are dropped, the rest goes to handlers.

    Without handlers the lines go to standard error.
    """
    ours = logging.getLogger(name)
    for old in ours.handlers:
        old.close()
    ours.handlers = list(handlers) or [_plain()]
    ours.setLevel(level)
    ours.propagate = False
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(outline),
            mask,
            _render,
        ],
        logger_factory=lambda *_: ours,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=False,
    )
    for library in map(logging.getLogger, LIBRARIES):
        library.handlers = [_Adopted()]
        library.setLevel(logging.WARNING)
        library.propagate = False


def mask(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace the values of names that speak of secrets, and what looks like one elsewhere."""
    for name, value in event.items():
        event[name] = _masked(name, value)
    return event


def scrub(text: str) -> str:
    """Replace what looks like a secret or an e-mail address inside a text."""
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]} …"
    if _SUSPECT.search(text) is None:
        return text
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def outline(exc_info: ExcInfo) -> list[dict[str, Any]]:
    """Return an exception and its causes as types and frames, with messages that are harmless."""
    stacks = _frames(exc_info)
    _blank(stacks, set(_told(exc_info[1])))
    return stacks


class _Adopted(logging.Handler):
    """Takes the lines of a library into our log, so that they are masked as ours are."""

    def emit(self, record: logging.LogRecord) -> None:
        # Of several lines the later ones quote what was at hand (asyncio: the exception's text).
        text = record.getMessage().partition("\n")[0]
        # Under WARNING nothing comes here.
        told = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING
        structlog.get_logger(record.name).log(
            told, "library", library=record.name, text=text, exc_info=record.exc_info
        )


def _plain() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


_write = structlog.processors.JSONRenderer()


def _render(
    logger: Any,  # noqa: ANN401 - whatever structlog wraps
    method: str,
    event: MutableMapping[str, Any],
) -> tuple[tuple[str], dict[str, Any]]:
    """Write the line once for everybody, and give the fields along."""
    fields = dict(event)
    line = _write(logger, method, event)
    text = line if isinstance(line, str) else line.decode()
    return (text,), {"extra": {"fields": fields}}


def _masked(name: str, value: object) -> object:
    if _SECRET.search(name) and not (value is None or isinstance(value, bool)):
        return "***"
    shown: object
    match value:
        case None | bool() | int() | float():
            shown = value
        case str():
            shown = scrub(value)
        case Mapping():
            shown = {scrub(str(key)): _masked(str(key), each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            shown = [_masked("", each) for each in value]
        case BaseException():
            shown = _named(value)
        case _:
            shown = scrub(repr(value))
    return shown


def _named(fault: BaseException) -> str:
    """Name an exception that led to something, with its text if no data can be in it."""
    name = type(fault).__name__
    of_connections = any(kind.__name__ in _TELLING_NAMES for kind in type(fault).__mro__)
    told = f"{name}: {fault}" if of_connections or isinstance(fault, _TELLING) else name
    return f"{scrub(told)} <- {_named(fault.__cause__)}" if fault.__cause__ else scrub(told)


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
