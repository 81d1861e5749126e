"""JSON in and out: bodies are read under a limit and parsed strictly, whatever their content type.

The runbook's curls send JSON as a form. Nothing here looks at the content type, so they work; the price is
that a browser could post without asking first, which `gate` answers by checking Origin and Host.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from fastapi import Request, Response

from coordinator.core.errors import CoreError, ErrorCode

T = TypeVar("T")

#: A body that trickles in longer than this is given up.
BODY_TIMEOUT_S = 60.0
#: What is taken in and thrown away of a body that is too large.
DISCARDED_BYTES = 8 * 2**20
#: The greatest body of every route but the batch's: it has room for one operation with a far too large
#: output.
SMALL_BODY_BYTES = 2**20
#: Values in one body, counted before it is parsed: `[[],[],…` of 64 MiB would become gigabytes of objects.
MAX_VALUES = 500_000

_AT = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`\Z")
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")
_MISSING_FIELD = re.compile(r"missing required field `([^`]*)`")


async def read_body(request: Request, kind: type[T], *, limit_bytes: int, optional: bool = False) -> T:
    """The request's body as `kind`. An absent body of an `optional` one is `{}`.

    Raises:
        CoreError: too_large, or invalid with the field.
    """
    body = await read_bytes(request, limit_bytes=limit_bytes)
    return parse_json(body or b"{}" if optional else body, kind)


async def read_bytes(request: Request, *, limit_bytes: int) -> bytes:
    """The body's bytes, given up as soon as they exceed the limit.

    Raises:
        CoreError: too_large, or invalid (compressed, or too slow).
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise CoreError(ErrorCode.INVALID, "a compressed body is not supported", field="content-encoding")
    stream = request.stream()
    chunks: list[bytes] = []
    size = 0 if _announced_bytes(request) <= limit_bytes else limit_bytes + 1
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while size <= limit_bytes and (chunk := await anext(stream, None)) is not None:
                size += len(chunk)
                chunks.append(chunk)
            if size > limit_bytes:
                await _discard(stream)
                raise CoreError(ErrorCode.TOO_LARGE, f"the body exceeds {limit_bytes} bytes", field="body")
    except TimeoutError:
        message = f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s"
        raise CoreError(ErrorCode.INVALID, message, field="body") from None
    return b"".join(chunks)


def parse_json(body: bytes, kind: type[T]) -> T:
    """Strict JSON: no duplicate key, NaN, lone surrogate, unknown field or trailing byte.

    Raises:
        CoreError: too_large (more than MAX_VALUES values), or invalid with the field.
    """
    check_json(body)
    return decode_json(body, kind)


def check_json(body: bytes) -> None:
    """What msgspec lets pass: duplicate keys, of which it takes the last, and any number of values."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        raise CoreError(ErrorCode.TOO_LARGE, f"the body has more than {MAX_VALUES} values", field="body")
    try:
        json.loads(body, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except RecursionError:
        raise CoreError(ErrorCode.INVALID, "the body is nested too deeply", field="body") from None
    except ValueError as error:
        raise _not_json(error) from None


def decode_json(body: bytes | msgspec.Raw, kind: type[T]) -> T:
    """The value as `kind`, of JSON that `check_json` has seen.

    Raises:
        CoreError: invalid, with the field.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid_field(str(error)) from None
    except ValueError as error:
        # DecodeError and UnicodeDecodeError: msgspec is stricter than json (a byte order mark, a lone
        # surrogate).
        raise _not_json(error) from None


def answer(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer of a struct or plain data."""
    return Response(
        msgspec.json.encode(body), status_code=status, headers=headers, media_type="application/json"
    )


def rfc3339(at_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 UTC."""
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def whole(number: float) -> int | float:
    """The number as an int where it is whole: 100, not 100.0."""
    return int(number) if number == int(number) else number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        seen: set[str] = set()
        twice = ""
        for name, _ in pairs:
            twice = name if name in seen else twice
            seen.add(name)
        raise CoreError(ErrorCode.INVALID, f"{twice[:100]}: given twice", field=twice[:100])
    return names


def _not_json(error: ValueError) -> CoreError:
    return CoreError(ErrorCode.INVALID, f"the body is not JSON: {str(error)[:200]}", field="body")


def _refuse_constant(name: str) -> None:
    raise CoreError(ErrorCode.INVALID, f"the body is not JSON: {name}", field="body")


def _announced_bytes(request: Request) -> int:
    text = request.headers.get("content-length", "")
    # More digits than any body has, and than int() takes.
    return 0 if not text.isdecimal() else int(text) if len(text) < 19 else 10**18


async def _discard(stream: AsyncGenerator[bytes, None]) -> None:
    """Take in a little more: a client that is still sending when the connection closes never sees the answer."""
    left = DISCARDED_BYTES
    while left > 0 and (chunk := await anext(stream, None)) is not None:
        left -= len(chunk)


def _invalid_field(text: str) -> CoreError:
    """msgspec's message names the place last, and a missing or unknown field within the text."""
    place = _AT.search(text)
    message = text[: place.start()] if place else text
    path = place.group(1) if place else ""
    named = _UNKNOWN_FIELD.search(message) or _MISSING_FIELD.search(message)
    field = ".".join(part for part in (path, named.group(1) if named else "") if part) or "body"
    return CoreError(ErrorCode.INVALID, f"{field}: {message}"[:500], field=field[:200])
