"""Tells listeners of this process that something happened to a query; others get a signal."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cvf_app.records.model import QueryId


class Bell:
    """Who listens to which query, in this process."""

    def __init__(self) -> None:
        """Begin with no listeners."""
        self._listeners: dict[QueryId, set[asyncio.Event]] = {}

    def ring(self, query_id: QueryId) -> None:
        """Wake everybody who listens to a query."""
        for listener in self._listeners.get(query_id, ()):
            listener.set()

    @contextmanager
    def listening(self, query_id: QueryId) -> Iterator["Ear"]:
        """Listen to a query; what rings between two looks at the store is not missed."""
        heard = asyncio.Event()
        self._listeners.setdefault(query_id, set()).add(heard)
        try:
            yield Ear(heard)
        finally:
            left = self._listeners[query_id]
            left.discard(heard)
            if not left:
                del self._listeners[query_id]


class Ear:
    """One listener."""

    def __init__(self, heard: asyncio.Event) -> None:
        """Listen to this event."""
        self._heard = heard

    async def wait(self, seconds: float) -> None:
        """Wait for the next ring, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        except TimeoutError:
            return
        self._heard.clear()
