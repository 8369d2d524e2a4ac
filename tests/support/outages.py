"""Something breaks under load and is mended: what the node answered before, meanwhile and after.

The node gets twenty requests a second throughout, and nobody restarts it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.support.load import Ask, Came, Load, loaded
from tests.support.nodes import Node

CALM_SECONDS = 3.0
# An outage has to last longer than the app's own time limits.
OUTAGE_SECONDS = 9.0
WAITING_SECONDS = 4.0
PROMISED_SECONDS = 5.0
RECOVERY_SECONDS = 60
Act = Callable[[], Awaitable[Any]]
Kinds = Sequence[tuple[str, Ask]]


@dataclass(frozen=True)
class Parts:
    """The three parts of such a run."""

    load: Load
    began: float
    breaking: float
    broken: float
    mending: float
    mended: float
    ended: float

    def before(self, kind: str) -> set[int]:
        # What was sent just before the outage may still have waited when it came.
        sent = self.load.between(self.began, self.breaking, kind)
        return {one.status for one in sent if one.sent + one.seconds < self.breaking}

    def during(self, kind: str) -> list[Came]:
        # What is sent just before the end may still be waiting when the server is back.
        return self.load.between(self.broken, self.mending - WAITING_SECONDS, kind)

    def after(self, kind: str) -> set[int]:
        return set(self.load.statuses(self.mended, self.ended, kind))


async def outage(node: Node, kinds: Kinds, begin: Act, end: Act) -> Parts:
    """Break something under load for a while, mend it, and wait until the node has recovered."""
    async with loaded(kinds) as load:
        began = load.mark()
        await asyncio.sleep(CALM_SECONDS)
        breaking = load.mark()
        await begin()
        broken = load.mark()
        await asyncio.sleep(OUTAGE_SECONDS)
        mending = load.mark()
        await end()
        await recovered(node)
        mended = load.mark()
        await asyncio.sleep(CALM_SECONDS)
        ended = load.mark()
    return Parts(load, began, breaking, broken, mending, mended, ended)


async def recovered(node: Node) -> None:
    """Wait until the node says that it can do its work."""
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            try:
                if (await node.call("GET", "/health/ready", None)).status == 200:
                    return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)
