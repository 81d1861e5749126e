"""What operators did: every admin write, from the log."""

import asyncio
from collections import deque
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from coordinator.answers_admin import AuditEntry
from coordinator.core.errors import ErrorCode
from coordinator.core.events import AdminActed
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import answer, rfc3339
from coordinator.store.errors import StoreError
from coordinator.store.log import EventLog, StoredEvent

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
        errors=(ErrorCode.INVALID,),
    ),
)
async def audit(
    request: Request, ctx: Ctx, limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = 100
) -> Response:
    """Newest first: who (the token's name), what, before and after. Reads the whole log: it may take long."""
    ctx.require_admin_reader(request)
    acts = await asyncio.to_thread(_latest_acts, ctx.service.parts.log, limit)
    return answer([_entry(stored.seq, act) for stored, act in reversed(acts)])


def _latest_acts(log: EventLog, limit: int) -> "deque[tuple[StoredEvent, AdminActed]]":
    """The last acts; of a damaged log, the last before the damage."""
    acts: deque[tuple[StoredEvent, AdminActed]] = deque(maxlen=limit)
    try:
        for stored in log.replay():
            if isinstance(stored.event, AdminActed):
                acts.append((stored, stored.event))
    except StoreError:
        return acts
    return acts


def _entry(seq: int, act: AdminActed) -> AuditEntry:
    return AuditEntry(
        seq=seq,
        at=rfc3339(act.at_ms),
        by=act.by,
        action=act.action,
        before=msgspec.json.decode(act.before),
        after=msgspec.json.decode(act.after),
    )
