"""What every process answers: the instance itself and its health."""

import asyncio
import time
import tomllib
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from quart import Blueprint, Response

from cvf_app.backends.seen import Seen
from cvf_app.errors import CafeVariomeError
from cvf_app.parts import use
from cvf_app.web.access import public
from cvf_app.web.io import reply
from cvf_app.wire import Wire

About = Callable[[], Awaitable["Description"]]
Check = Callable[[], Awaitable[Seen]]
_PATIENCE_SECONDS = 4.0
bp = Blueprint("instance", __name__)


class Instance(Wire, frozen=True, kw_only=True):
    """What `/` tells anyone."""

    name: str
    owner: str
    owner_address: str
    owner_email: str
    status: str
    uptime: str


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say of this instance."""

    name: str
    status: str
    owner: str = ""
    owner_address: str = ""
    owner_email: str = ""


class ServiceHealth(Wire, frozen=True, kw_only=True):
    """One service that we need: whether it answered, how fast, and what it is."""

    ok: bool
    milliseconds: int
    detail: str
    name: str = ""
    version: str = ""
    mode: str = ""
    warning: str = ""


class Health(Wire, frozen=True, kw_only=True):
    """Whether this process can do its work; `config` changes with any configured value."""

    ready: bool
    mode: str
    version: str
    config: str
    duties: tuple[str, ...]
    services: dict[str, ServiceHealth]


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """What health needs to know of this process; made by assembly."""

    checks: dict[str, Check]
    # Told with the others; without them this process can do its work all the same.
    asides: dict[str, Check] = msgspec.field(default_factory=dict)
    mode: str
    config: str
    duties: tuple[str, ...]
    started: float
    about: About


@cache
def our_version() -> str:
    """Return the version of this program: as installed, as built into a binary, or as unpacked."""
    try:
        return version("cafe-variome")
    except PackageNotFoundError:
        package = Path(__file__).parents[1]
        built = package / "VERSION"
        return built.read_text().strip() if built.exists() else _of_checkout(package.parents[1])


def _of_checkout(root: Path) -> str:
    try:
        told = tomllib.loads((root / "pyproject.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return "unknown"
    return str(told.get("project", {}).get("version", "unknown"))


@bp.get("/")
@public
async def instance() -> Response:
    """Say which instance this is."""
    seconds = time.monotonic() - use(Vitals).started
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    uptime = f"{hours % 100:02d}:{minutes:02d}:{rest:04.1f}"
    about = await use(Vitals).about()
    return reply(
        Instance(
            name=about.name,
            owner=about.owner,
            owner_address=about.owner_address,
            owner_email=about.owner_email,
            status=about.status,
            uptime=uptime,
        )
    )


@bp.get("/health/live")
@public
async def live() -> Response:
    """Say that this process answers; nothing else is asked."""
    return reply(Alive(alive=True))


class Alive(Wire, frozen=True, kw_only=True):
    """The answer of a process that runs."""

    alive: bool


@bp.get("/health/ready")
@public
async def ready() -> Response:
    """Ask each service and say whether this process can do its work: 200, else 503.

    The answer names each service with its version, its mode and how long it took.
    """
    vitals = use(Vitals)
    checks = vitals.checks | vitals.asides
    answers = await asyncio.gather(*(_ask(check) for check in checks.values()))
    services = dict(zip(checks, answers, strict=True))
    is_ready = all(services[name].ok for name in vitals.checks)
    health = Health(
        ready=is_ready,
        mode=vitals.mode,
        version=our_version(),
        config=vitals.config,
        duties=vitals.duties,
        services=services,
    )
    return reply(health, 200 if is_ready else 503)


async def _ask(check: Check) -> ServiceHealth:
    begin = time.monotonic()
    seen = Seen(name="")
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            seen = await check()
        detail, ok = f"{seen.name} {seen.version}".strip(), True
    except CafeVariomeError as fault:
        detail, ok = fault.sentence, False
    except TimeoutError:
        detail, ok = f"No answer within {_PATIENCE_SECONDS:g} seconds.", False
    return ServiceHealth(
        ok=ok,
        milliseconds=int((time.monotonic() - begin) * 1000),
        detail=detail,
        name=seen.name,
        version=seen.version,
        mode=seen.mode,
        warning=seen.warning,
    )
