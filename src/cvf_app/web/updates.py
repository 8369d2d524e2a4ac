"""`/updates`: what changes, as server-sent events or over a websocket; the same messages on both.

The format of the events: WHATWG HTML, section 9.2. The close codes: RFC 6455, section 7.4.1 and
IANA's registry (1001 going away, 1008 policy, 1013 try again later).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from quart import Blueprint, Response, request, websocket
from werkzeug.datastructures import MultiDict

from cvf_app.errors import (
    CafeVariomeError,
    Exhausted,
    Forbidden,
    Invalid,
    TimedOut,
    Unavailable,
)
from cvf_app.parts import use
from cvf_app.updates.hub import Hub
from cvf_app.updates.listener import Frame
from cvf_app.updates.model import Admitted, Hello, Notice
from cvf_app.web.access import ANYONE_KNOWN, allow, bearer, bearer_of, greets
from cvf_app.web.cors import may_open
from cvf_app.wire import decode, encode

bp = Blueprint("updates", __name__)
GREETING_SECONDS = 5.0
CLOSE_SECONDS = 2.0
LONGEST_HELLO = 32 * 1024
_LONGEST_REASON = 120
_CALM = b": still here\n\n"
_ALIVE = encode(Notice(event="alive", reason="")).decode()
_GOING_AWAY, _POLICY, _TRY_LATER = 1001, 1008, 1013
_CODES = {"dropped": _TRY_LATER, "closed": _POLICY}


@bp.get("/updates")
@allow(*ANYONE_KNOWN)
async def follow_updates() -> Response:
    """Send what changes, as events; `Last-Event-ID` goes on after it."""
    hub = use(Hub)
    wanted = hub.wanted(_names(request.args))
    admitted = await hub.admit(bearer())
    hub.check_room(admitted.principal)
    last_id = request.headers.get("Last-Event-ID", "")
    frames = _events(hub.follow(admitted, wanted, last_id))
    response = Response(
        # The answer to HEAD is never sent, and would wait for an end that never comes.
        b"" if request.method == "HEAD" else frames,
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    response.timeout = None
    return response


@bp.websocket("/updates/ws")
@greets(*ANYONE_KNOWN)
async def converse_updates() -> None:
    """Send what changes over a websocket; a token comes with the request or as the first word."""
    if not may_open(websocket.headers.get("Origin"), websocket.host):
        raise Forbidden("Pages of this origin may not open a stream of updates here.")
    hub = use(Hub)
    wanted = hub.wanted(_names(websocket.args))
    if "Authorization" in websocket.headers:
        # Refused before it is opened, so that the answer is a plain 401, 403, 429 or 503.
        admitted = await hub.admit(bearer_of(websocket.headers))
        hub.check_room(admitted.principal)
        await websocket.accept()
        last_id = websocket.headers.get("Last-Event-ID", "")
    else:
        hub.check_room_at_all()
        await websocket.accept()
        try:
            admitted, last_id = await _greeted(hub)
        except CafeVariomeError as fault:
            later = isinstance(fault, Unavailable | Exhausted)
            await _close(_TRY_LATER if later else _POLICY, fault.sentence)
            return
    code, reason = await _talk(hub.follow(admitted, wanted, last_id))
    await _close(code, reason)


async def _greeted(hub: Hub) -> tuple[Admitted, str]:
    """Read the first message: a token, and perhaps where to go on."""
    try:
        async with asyncio.timeout(GREETING_SECONDS):
            said = await websocket.receive()
    except TimeoutError as fault:
        raise TimedOut("No token came within five seconds.") from fault
    if len(said) > LONGEST_HELLO:
        raise Invalid("The first message is larger than a token can be.")
    hello = decode(said.encode() if isinstance(said, str) else said, Hello)
    admitted = await hub.admit(hello.token)
    hub.check_room(admitted.principal)
    return admitted, hello.last_event_id


async def _talk(frames: AsyncGenerator[Frame | None, None]) -> tuple[int, str]:
    """Send until the end, or until the other side says something: this stream only tells."""
    ended = (_POLICY, "This stream only tells; nothing may be said.")

    async def tell() -> None:
        nonlocal ended
        async with aclosing(frames) as all_frames:
            async for frame in all_frames:
                if frame is None:
                    await websocket.send(_ALIVE)
                elif frame.last:
                    code = _GOING_AWAY if frame.cause == "stopping" else _CODES[str(frame.event)]
                    ended = (code, frame.reason)
                else:
                    await websocket.send(frame.body.decode())

    async with asyncio.TaskGroup() as group:
        telling = group.create_task(tell())
        hearing = group.create_task(_hear(telling))
        telling.add_done_callback(lambda _: hearing.cancel())
    return ended


async def _hear(telling: "asyncio.Task[None]") -> None:
    await websocket.receive()
    telling.cancel()


async def _close(code: int, reason: str) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason.encode()[:_LONGEST_REASON].decode(errors="ignore"))
    except TimeoutError:
        # Who takes nothing does not take the end either; the server lets go of the connection.
        return


async def _events(frames: AsyncGenerator[Frame | None, None]) -> AsyncIterator[bytes]:
    async with aclosing(frames) as all_frames:
        async for frame in all_frames:
            yield _CALM if frame is None else event(frame)


def event(frame: Frame) -> bytes:
    """Write a frame as a server-sent event; its JSON has no line breaks."""
    head = b"" if frame.entry_id is None else b"id: " + frame.entry_id.encode() + b"\n"
    if frame.event is not None:
        head += b"event: " + frame.event.encode() + b"\n"
    return head + b"data: " + frame.body + b"\n\n"


def _names(arguments: MultiDict[str, str]) -> list[str]:
    """Read `interface`, which may be given several times and may be a list with commas."""
    given = ",".join(arguments.getlist("interface"))
    return [name.strip() for name in given.split(",") if name.strip()]
