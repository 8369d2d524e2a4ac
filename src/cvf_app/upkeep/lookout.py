"""Trouble that shows from one minute to the next: refused credentials, a full or missing disk.

Promises: each is told to the administrators as an alarm; looking never fails for what it finds.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from cvf_app.errors import CafeVariomeError, CredentialsRefused
from cvf_app.loops import in_thread
from cvf_app.users.alerts import Alerts

Check = Callable[[], Awaitable[object]]
GIB = 2**30
_LEAST_FREE = GIB
_ENOUGH_FREE = 20 * GIB
_PATIENCE_SECONDS = 10.0
log = structlog.get_logger("cv3.upkeep")


class Lookout:
    """Looks at services and the disk, and notes what administrators must know."""

    def __init__(self, alerts: Alerts, checks: Mapping[str, Check], folder: Path) -> None:
        """Tell through `alerts` what the checks of services and a look at the folder find."""
        self._alerts = alerts
        self._checks = checks
        self._folder = folder

    async def look(self) -> None:
        """Look once; called every minute."""
        await self._alerts.learn()
        for name, check in self._checks.items():
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await check()
            except CredentialsRefused as fault:
                self.refused(fault, name)
            except (CafeVariomeError, TimeoutError) as fault:
                # What is away for a while is for health and its alert rules, not for a letter.
                log.info("service_away", service=name, reason=str(fault))
        await self._look_at_disk()
        await self._alerts.raise_noted()

    def refused(self, fault: CredentialsRefused, name: str = "a service") -> None:
        """Note that a service does not accept our credentials."""
        self._alerts.note(
            f"credentials: {name}",
            {
                "explanation": f"Our login at {name} is refused. {fault.sentence}",
                "advice": "Give the instance valid credentials; it tries again by itself.",
            },
        )

    def minding(self, name: str, action: Callable[[], Awaitable[object]]) -> Check:
        """Return the action, with an alarm noted when it finds its credentials refused."""

        async def minded() -> None:
            try:
                await action()
            except CredentialsRefused as fault:
                self.refused(fault, name)

        return minded

    async def _look_at_disk(self) -> None:
        try:
            usage = await in_thread(shutil.disk_usage, self._folder)
        except FileNotFoundError:
            # Made with the first upload; that one was there and is gone shows in the inspection.
            return
        except OSError as fault:
            log.warning("disk_unreadable", reason=str(fault))
            self._alerts.note(
                "disk: unreadable",
                {
                    "explanation": "The folder of data (Data.UploadPath) cannot be read.",
                    "details": type(fault).__name__,
                    "advice": "Look at the disk and at the rights of the folder.",
                },
            )
            return
        if is_nearly_full(usage.total, usage.free):
            self._alerts.note(
                "disk: nearly full",
                {
                    "explanation": (
                        f"The disk of the data folder has {usage.free / GIB:.1f} GiB left of "
                        f"{usage.total / GIB:.0f} GiB. When it is full, uploads and jobs fail."
                    ),
                    "advice": "Make room, or move the data folder to a larger disk.",
                },
            )


def is_nearly_full(total: int, free: int) -> bool:
    """Say whether less than a twentieth is free; never below 1 GiB, nor asking for over 20."""
    return free < max(_LEAST_FREE, min(total // 20, _ENOUGH_FREE))
