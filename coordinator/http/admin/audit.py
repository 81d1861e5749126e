"""What operators did: every admin write, from the log."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from coordinator.answers_admin import AuditEntry
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import AdminActed
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.pages import Cursor, page
from coordinator.http.wire import answer, rfc3339
from coordinator.store.errors import StoreError
from coordinator.store.log import StoredEvent

router = APIRouter(prefix="/admin/audit", tags=["status"])

MAX_ENTRIES = 1_000


@router.get(
    "",
    **describe(
        "What operators did",
        answers={200: list[AuditEntry]},
        example=[
            AuditEntry(
                seq=12,
                at="2026-01-31T12:00:00.000Z",
                by="environment",
                action="config",
                before={"speculation.enabled": None},
                after={"speculation.enabled": True},
            )
        ],
        errors=(ErrorCode.INVALID, ErrorCode.READ_ONLY),
    ),
)
async def audit(
    request: Request,
    ctx: Ctx,
    limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first: who (the token's name), what, before and after; a `Link` header leads to the next page."""
    ctx.require_admin_reader(request)
    log = ctx.service.parts.log
    try:
        acts = await asyncio.to_thread(log.latest, [AdminActed.__name__], limit=limit + 1, before=cursor)
    except StoreError as error:
        raise CoreError(ErrorCode.READ_ONLY, str(error)) from None
    shown, headers = page(acts, limit=limit, place=lambda stored: stored.seq, request=request)
    return answer([_entry(stored) for stored in shown], headers=headers)


def _entry(stored: StoredEvent) -> AuditEntry:
    act = stored.event
    assert isinstance(act, AdminActed), "only these were asked for"
    return AuditEntry(
        seq=stored.seq,
        at=rfc3339(act.at_ms),
        by=act.by,
        action=act.action,
        before=msgspec.json.decode(act.before),
        after=msgspec.json.decode(act.after),
    )
