"""Large bodies: read no faster than they are used, and never waited for without end.

Quart gathers a body as fast as it comes; here its connection waits while the handler has enough,
so that memory does not grow with the body whatever its size.
"""

import asyncio
from collections.abc import AsyncIterator

from hypercorn.typing import ASGIReceiveCallable
from quart import Quart, Request, request
from quart.asgi import ASGIHTTPConnection
from quart.wrappers.request import Body

from cvf_app.errors import TimedOut

ENOUGH = 2**20


class PatientBody(Body):
    """A body that says when it has room for more."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        """Begin with room."""
        super().__init__(expected_content_length, max_content_length)
        self.room = asyncio.Event()
        self.room.set()

    async def __anext__(self) -> bytes:
        """Return what has come, and make room."""
        data = await super().__anext__()
        self.room.set()
        return data

    def append(self, data: bytes) -> None:
        """Take what came."""
        super().append(data)
        if len(self._data) >= ENOUGH:
            self.room.clear()


class PatientRequest(Request):
    """A request with such a body."""

    body_class = PatientBody


class PatientConnection(ASGIHTTPConnection):
    """A connection that is read on only while the body has room."""

    async def handle_messages(self, request: Request, receive: ASGIReceiveCallable) -> None:
        """Hand messages to the body as there is room for them."""
        while True:
            if isinstance(request.body, PatientBody):
                await request.body.room.wait()
            message = await receive()
            if message["type"] == "http.request":
                request.body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    request.body.set_complete()
            elif message["type"] == "http.disconnect":
                return


def install(app: Quart) -> None:
    """Read all bodies of an app so."""
    app.request_class = PatientRequest
    app.asgi_http_class = PatientConnection


async def incoming() -> AsyncIterator[bytes]:
    """Yield the request's body as it comes.

    Raises:
        TimedOut: nothing came for a while.
    """
    pieces = aiter(request.body)
    while True:
        try:
            async with asyncio.timeout(request.body_timeout):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError as fault:
            raise TimedOut("The request did not arrive in time.") from fault
        yield piece
