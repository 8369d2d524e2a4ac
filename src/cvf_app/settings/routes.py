"""`/config` and `/log`: settings, maintenance, clean-up, and what front ends log."""

from quart import Blueprint, Response

from cvf_app.errors import TooLarge
from cvf_app.parts import use
from cvf_app.settings.model import ADMINS, LogEntry, Maintenance, SystemConfig, UserSetting
from cvf_app.settings.service import Cleanup, FrontEndLog, Settings
from cvf_app.web.access import ANYONE_KNOWN, allow, in_maintenance, operators, principal
from cvf_app.web.io import DONE, body, payload, reply
from cvf_app.wire import decode

bp = Blueprint("settings", __name__)
LARGEST_ENTRY = 8 * 1024


@bp.get("/config/global")
@allow(*ADMINS)
async def get_global() -> Response:
    """Show the settings of the instance, as far as one's role may see them."""
    return reply(await use(Settings).shown(principal()))


@bp.post("/config/global")
@allow(*ADMINS)
async def set_global() -> Response:
    """Put parts of the settings in place of the present ones."""
    return reply(await use(Settings).change(await body(SystemConfig), principal()))


@bp.get("/config/user")
@allow(*ANYONE_KNOWN)
async def get_own() -> Response:
    """Show one's own settings."""
    return reply(await use(Settings).own(principal().user_id))


@bp.post("/config/user")
@allow(*ANYONE_KNOWN)
async def set_own() -> Response:
    """Change one's own settings."""
    return reply(await use(Settings).change_own(principal().user_id, await body(UserSetting)))


@bp.post("/config/maintenance")
@in_maintenance
@operators
async def maintain() -> Response:
    """Begin or end maintenance."""
    await use(Settings).maintain(await body(Maintenance))
    return reply(DONE)


@bp.post("/config/cleanup")
@allow(*ADMINS)
async def clean_up() -> Response:
    """Remove what ended work has left behind."""
    await use(Cleanup).run()
    return reply(DONE)


@bp.post("/log/error")
@allow(*ANYONE_KNOWN)
async def log_error() -> Response:
    """Log what went wrong in a front end."""
    await use(FrontEndLog).error(await _entry(), principal())
    return reply(DONE)


@bp.post("/log/info")
@allow(*ANYONE_KNOWN)
async def log_info() -> Response:
    """Log what a front end tells."""
    await use(FrontEndLog).info(await _entry(), principal())
    return reply(DONE)


async def _entry() -> LogEntry:
    received = await payload()
    if len(received) > LARGEST_ENTRY:
        raise TooLarge(f"An entry for the log has at most {LARGEST_ENTRY} bytes.", path="$")
    return decode(received, LogEntry)
