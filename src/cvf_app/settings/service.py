"""Settings that change while the instance runs: its own, each person's, and maintenance.

Promises: every process follows a change within `FRESH_SECONDS`; while the database does not answer,
what was known last still holds, and before anything was known the closed defaults do; each part is
seen and changed by the roles of the table `PARTS` only.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from cvf_app.errors import Forbidden, Unavailable
from cvf_app.principal import Principal, UserId
from cvf_app.settings.model import (
    PARTS,
    FederationSettings,
    InstanceSettings,
    LogEntry,
    Maintenance,
    SystemConfig,
    UserSetting,
)
from cvf_app.settings.store import SettingsStore
from cvf_app.web.limits import Limit, Limits
from cvf_app.web.routes import Description
from cvf_app.wire import convert, plain

FRESH_SECONDS = 2.0
# A request may wait so long to learn whether there is maintenance; the database is asked for
# everything else anyway, and has to say within five seconds that it is away.
PATIENCE_SECONDS = 0.5
_MAINTENANCE = "maintenance"
_CLOSED = "The instance is being looked after and takes no changes for now."
LOGGED = Limit(
    name="log", most=60, seconds=60, sentence="You send too much to the log; try again in a minute."
)
log = structlog.get_logger("cv3.settings")
front_end = structlog.get_logger("cv3.front_end")


@dataclass(frozen=True)
class Known:
    """What a process knows of the settings."""

    system: SystemConfig
    maintenance: Maintenance


class Settings:
    """The settings of this instance and of its people."""

    def __init__(self, store: SettingsStore) -> None:
        """Keep settings in this store."""
        self._store = store
        self._known = Known(SystemConfig(), Maintenance(maintenance=False))
        self._read_at: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def shown(self, asker: Principal) -> SystemConfig:
        """Return the parts that somebody may see."""
        await self._renew(stale_is_fine=False)
        parts = plain(self._known.system)
        return convert(
            {name: value for name, value in parts.items() if asker.role in PARTS[name]},
            SystemConfig,
        )

    async def change(self, given: SystemConfig, asker: Principal) -> SystemConfig:
        """Put the given parts in place of the present ones; the others stay.

        Raises:
            Forbidden: a part is not for this role; then nothing is changed.
        """
        parts: dict[str, Any] = plain(given)
        for name in parts:
            if asker.role not in PARTS[name]:
                raise Forbidden(f"Your role does not allow you to change {name}.")
        for name, value in parts.items():
            await self._store.write(name, value)
        log.info("settings_changed", parts=sorted(parts), by=asker.user_id)
        self._read_at = None
        return await self.shown(asker)

    async def own(self, user_id: UserId) -> UserSetting:
        """Return somebody's own settings."""
        return convert(await self._store.of_user(user_id), UserSetting)

    async def change_own(self, user_id: UserId, given: UserSetting) -> UserSetting:
        """Put the given of somebody's own settings in place of the present ones."""
        parts = plain(given)
        if parts:
            await self._store.merge_of_user(user_id, parts)
        return await self.own(user_id)

    async def maintain(self, wanted: Maintenance) -> None:
        """Begin or end maintenance; may be repeated."""
        await self._store.write(_MAINTENANCE, plain(wanted))
        log.warning("maintenance", on=wanted.maintenance)
        self._read_at = None
        await self._renew(stale_is_fine=False)

    async def closed(self) -> str | None:
        """Return the sentence by which changes are refused now, or none if they are not."""
        await self._renew()
        now = self._known.maintenance
        return (now.message or _CLOSED) if now.maintenance else None

    async def about(self) -> Description:
        """Return what anybody may know of the instance."""
        await self._renew()
        instance = self._known.system.instance_settings or InstanceSettings()
        closed = self._known.maintenance.maintenance
        told = Description(
            name=instance.name or "Cafe Variome", status="Under maintenance" if closed else "OK"
        )
        owner = self._known.system.ownership_settings
        if owner is None:
            return told
        return msgspec.structs.replace(
            told, owner=owner.name, owner_address=owner.address, owner_email=owner.email
        )

    async def registers_arrivals(self) -> bool:
        """Say whether people with an account whom nobody registered become users who wait."""
        await self._renew()
        return (
            self._known.system.federation_settings or FederationSettings()
        ).auto_user_registration

    async def _renew(self, *, stale_is_fine: bool = True) -> None:
        # While somebody waits for a slow database, the others go on with what is known.
        if stale_is_fine and self._one_at_a_time.locked():
            return
        async with self._one_at_a_time:
            now = time.monotonic()
            fresh = self._read_at is not None and now - self._read_at < FRESH_SECONDS
            if stale_is_fine and fresh:
                return
            try:
                async with asyncio.timeout(PATIENCE_SECONDS if stale_is_fine else None):
                    found = await self._store.read()
            except (Unavailable, TimeoutError) as fault:
                if not stale_is_fine:
                    raise
                log.warning("settings_not_read", cause=fault)
                # So that not every request waits for a database that does not answer.
                self._read_at = time.monotonic()
                return
            maintenance = found.pop(_MAINTENANCE, {"maintenance": False})
            system = {name: found[name] for name in PARTS if name in found}
            self._known = Known(convert(system, SystemConfig), convert(maintenance, Maintenance))
            self._read_at = now


class FrontEndLog:
    """What front ends want in the log, within limits."""

    def __init__(self, limits: Limits) -> None:
        """Count by these limits."""
        self._limits = limits

    async def error(self, entry: LogEntry, asker: Principal) -> None:
        """Log what went wrong in somebody's front end.

        Raises:
            Exhausted: they have sent too much.
        """
        await self._limits.spend(LOGGED, asker.user_id)
        front_end.error("front_end", **_fields(entry, asker))

    async def info(self, entry: LogEntry, asker: Principal) -> None:
        """Log what somebody's front end tells.

        Raises:
            Exhausted: they have sent too much.
        """
        await self._limits.spend(LOGGED, asker.user_id)
        front_end.info("front_end", **_fields(entry, asker))


class Cleanup:
    """The clean-up of what ended work has left, begun by hand; one at a time in each process."""

    def __init__(self, actions: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Do these; each is one that timers do as well, and may be repeated."""
        self._actions = tuple(actions)
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Clean up, after a clean-up that runs already."""
        async with self._one_at_a_time:
            for action in self._actions:
                await action()


def _fields(entry: LogEntry, asker: Principal) -> dict[str, str]:
    # Of other people's text only what can be shown: no line breaks, no escapes for terminals.
    told = "".join(char if char.isprintable() else " " for char in entry.error)
    return {"told": told, "at": entry.timestamp, "uuid": entry.uuid, "user": asker.user_id}
