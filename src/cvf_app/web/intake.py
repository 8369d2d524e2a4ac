"""Large bodies: read no faster than they are used, and never waited for without end.

Quart gathers a body as fast as it comes; here its connection waits while the handler has enough,
so that memory does not grow with the body whatever its size. What comes after the answer is
dropped: the server hands a body over piece by piece, and would wait for ever, and its connection
with it, for somebody to take the next one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope
from quart import Quart, Request, request
from quart.asgi import ASGIHTTPConnection
from quart.wrappers.request import Body

from cvf_app.errors import TimedOut

ENOUGH = 2**20
LINGER_SECONDS = 5.0
"""How long an answered request may go on sending, so that the sender comes to read the answer."""


class PatientBody(Body):
    """A body that says when it has room for more."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        """Begin with room."""
        super().__init__(expected_content_length, max_content_length)
        self.room = asyncio.Event()
        self.room.set()
        self._wanted = True

    async def __anext__(self) -> bytes:
        """Return what has come, and make room."""
        data = await super().__anext__()
        self.room.set()
        return data

    def append(self, data: bytes) -> None:
        """Take what came, or drop it."""
        if not self._wanted:
            return
        super().append(data)
        if len(self._data) >= ENOUGH:
            self.room.clear()

    def let_go(self) -> None:
        """Drop what is here and what still comes."""
        self._wanted = False
        self._data.clear()
        self.room.set()


class PatientRequest(Request):
    """A request with such a body."""

    body_class = PatientBody


class PatientConnection(ASGIHTTPConnection):
    """A connection that is read on only while the body has room, and to its end once answered."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        """Begin with nothing received."""
        super().__init__(app, scope)
        self._whole = asyncio.Event()

    async def handle_request(self, request: Request, send: ASGISendCallable) -> None:
        """Answer; a sender who is not done has a while to read the answer before it ends."""

        async def sending(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                if isinstance(request.body, PatientBody):
                    request.body.let_go()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_SECONDS):
                        await self._whole.wait()
            await send(message)

        await super().handle_request(request, sending)

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
                    self._whole.set()
            elif message["type"] == "http.disconnect":
                self._whole.set()
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
