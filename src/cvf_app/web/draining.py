"""Leaving without turning anybody away, when the guard puts another process in our place.

A web server that is asked to end closes at once every connection on which no request has arrived
yet, also one that was made a moment ago; its client would see a failure. So the guard first sends
`SIGWINCH` (which means nothing to a process that does not know of it): we take no more
connections, those that are there get their answer with `Connection: close`, and `SIGTERM` follows
when they have had the time to ask.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quart import Quart, Response


class Draining:
    """Whether this process is leaving, and the sockets at which it takes connections."""

    def __init__(self) -> None:
        """Begin with a process that stays."""
        self._servers: list[asyncio.AbstractServer] = []
        self._begun = False

    def install(self, app: Quart) -> None:
        """Let every answer say that its connection ends with it, once we leave."""
        app.after_request(self._mark)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hear the guard until the end of the block, and know every socket opened in it.

        The web server opens its sockets after the start of the app and tells nobody; both event
        loops that we know make them with `create_server`.
        """
        loop = asyncio.get_running_loop()
        create = loop.create_server

        async def creating(*given: Any, **named: Any) -> asyncio.Server:  # noqa: ANN401 - passed on
            server = await create(*given, **named)
            self._servers.append(server)
            return server

        loop.create_server = creating  # type: ignore[method-assign]  # see above
        loop.add_signal_handler(signal.SIGWINCH, self.begin)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            del loop.create_server  # the loop's own is back

    def begin(self) -> None:
        """Take no more connections; those that other processes take at the same socket go on."""
        self._begun = True
        for server in self._servers:
            server.close()

    async def _mark(self, response: Response) -> Response:
        if self._begun:
            response.headers["Connection"] = "close"
        return response
