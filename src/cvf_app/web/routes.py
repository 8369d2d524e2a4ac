"""What every process answers: the instance itself and its health."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

import msgspec
from quart import Blueprint, Response

from cvf_app.errors import CafeVariomeError
from cvf_app.parts import use
from cvf_app.web.access import public
from cvf_app.web.io import reply
from cvf_app.wire import Wire

Check = Callable[[], Awaitable[str]]
About = Callable[[], Awaitable["Description"]]
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
    """One service that we need: whether it answered, how fast, and as what."""

    ok: bool
    milliseconds: int
    detail: str


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


def our_version() -> str:
    """Return the version of this program."""
    try:
        return version("cafe-variome")
    except PackageNotFoundError:
        return "3.0.0.dev1"


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
    """Ask each service and say whether this process can do its work: 200, else 503."""
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
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            detail, ok = await check(), True
    except CafeVariomeError as fault:
        detail, ok = fault.sentence, False
    except TimeoutError:
        detail, ok = f"No answer within {_PATIENCE_SECONDS:g} seconds.", False
    return ServiceHealth(ok=ok, milliseconds=int((time.monotonic() - begin) * 1000), detail=detail)
