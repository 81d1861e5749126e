"""The durable events as they happen, as server-sent events that resume where a client left off."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import Event
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.views import event_view
from coordinator.shell.journal import SubscriberTooSlow

router = APIRouter(prefix="/v1/events", tags=["events"])

MAX_STREAMS = 100
#: A comment this often shows a proxy that the stream lives, and shows us a client that is gone.
HEARTBEAT_S = 15.0
MAX_SEQ = 2**63 - 1

_EXAMPLE = (
    'id: 12\nevent: BatchConfirmed\ndata: {"event":"BatchConfirmed","at":"2026-01-31T12:00:00.000Z",'
    '"batch_id":"batch-1","transaction":"batch-1.1","slot":5}\n\n'
)


@router.get(
    "",
    response_class=StreamingResponse,
    **describe(
        "Follow the events",
        answers={200: None},
        example=_EXAMPLE,
        errors=(ErrorCode.INVALID, ErrorCode.RATE_LIMITED),
        media_type="text/event-stream",
    ),
)
async def follow_events(
    request: Request,
    ctx: Ctx,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_SEQ, description="Begin with what follows this id; 0 is everything.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="As `after`; browsers send it by themselves.")
    ] = None,
) -> Response:
    """Every event once it is durable: `id` is its place in the log, `event` its name, `data` its fields as
    JSON.

    Without a place to begin at, what happens from now on. A reader that falls far behind is disconnected, and
    goes on where it was with Last-Event-ID.
    """
    ctx.require_reader(request)
    if ctx.streams >= MAX_STREAMS:
        raise CoreError(ErrorCode.RATE_LIMITED, f"{MAX_STREAMS} event streams are open already")
    begin = after if last_event_id is None else _parse_event_id(last_event_id)
    return StreamingResponse(
        _stream(ctx, begin), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


async def _stream(ctx: Context, after: int | None) -> AsyncIterator[bytes]:
    ctx.streams += 1
    events = ctx.service.events(after)
    # The one task that waits for the next event is never cancelled for a heartbeat: that would end the
    # generator.
    waiting: asyncio.Task[tuple[int, Event]] | None = None
    try:
        yield b": follows\n\n"
        while True:
            waiting = waiting or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({waiting}, timeout=HEARTBEAT_S)
            if not done:
                yield b": alive\n\n"
                continue
            try:
                seq, event = waiting.result()
            except (StopAsyncIteration, SubscriberTooSlow):
                return
            waiting = None
            yield _frame(seq, event)
    finally:
        ctx.streams -= 1
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


def _frame(seq: int, event: Event) -> bytes:
    # JSON has no line break outside of strings' escapes, so the data is one line.
    data = msgspec.json.encode(event_view(event))
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, type(event).__name__.encode(), data)


def _parse_event_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise CoreError(ErrorCode.INVALID, "Last-Event-ID: expected a whole number", field="last-event-id")
    return int(text)
