"""Bodies in, replies out: a handler reads a struct and returns a struct, never a dictionary."""

import asyncio
import re
from typing import TypeVar

from quart import Response, request

from cvf_app.errors import Invalid, TimedOut, TooLarge
from cvf_app.wire import Wire, decode, encode

T = TypeVar("T")
LARGEST_BODY = 2**20
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
READ_ON = 80 * 2**20


class Success(Wire, frozen=True, kw_only=True):
    """What deletions and pure actions answer."""

    status: str


DONE = Success(status="Success")


async def body(kind: type[T]) -> T:
    """Read the request's JSON body as a value of this kind.

    Raises:
        Invalid: it is no such value; the path says where.
        TooLarge: it has more bytes than we read.
        TimedOut: it did not arrive in time.
    """
    return decode(await payload(), kind)


async def optional_body(kind: type[T], empty: T) -> T:
    """Read the request's JSON body as a value of this kind; no body is `empty`.

    Raises:
        Invalid: it is no such value; the path says where.
        TooLarge: it has more bytes than we read.
        TimedOut: it did not arrive in time.
    """
    received = await payload()
    return decode(received, kind) if received.strip() else empty


async def payload() -> bytes:
    """Return the request's body as it was sent; uploads are read elsewhere, piece by piece.

    Raises:
        TooLarge: it has more than `LARGEST_BODY` bytes.
        TimedOut: it did not arrive in time.
    """
    received = bytearray()
    size = 0
    try:
        async with asyncio.timeout(request.body_timeout):
            async for piece in request.body:
                size += len(piece)
                # What is too much is read on, or the sender would not see our answer; not for ever.
                if size > READ_ON:
                    break
                if size <= LARGEST_BODY:
                    received += piece
    except TimeoutError as fault:
        raise TimedOut("The request did not arrive in time.") from fault
    if size > LARGEST_BODY:
        raise TooLarge(f"A body may have at most {LARGEST_BODY} bytes here.", path="$")
    return bytes(received)


def reply(value: object, status: int = 200, *, location: str | None = None) -> Response:
    """Answer with a value as JSON; `location` says where a new thing stands."""
    response = Response(encode(value), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    if location is not None:
        response.headers["Location"] = location
    return response


def idempotency_key() -> str | None:
    """Return the request's `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), or none.

    Raises:
        Invalid: it is empty, longer than 255 characters, or has others than visible ASCII.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Invalid(
            "An Idempotency-Key has 1 to 255 visible characters of ASCII.",
            path="$.Idempotency-Key",
        )
    return key


def whole_number(name: str, default: int, least: int, most: int) -> int:
    """Read a whole number from the query string.

    Raises:
        Invalid: it is no whole number between `least` and `most`.
    """
    text = request.args.get(name)
    if text is None:
        return default
    if (
        not text.isascii()
        or not text.isdigit()
        or len(text) > len(str(most))
        or not least <= int(text) <= most
    ):
        raise Invalid(f"{name} must be a whole number from {least} to {most}.", path=f"$.{name}")
    return int(text)
