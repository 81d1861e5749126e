"""One operation in full, its timeline, and what blocks those that are not confirmed."""

from itertools import dropwhile, islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from coordinator.answers_admin import (
    BlockedOperation,
    Blocker,
    DecisionAnswer,
    OperationDetail,
    TimelineAnswer,
    TimelineEntry,
)
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import Decision
from coordinator.core.records import Operation
from coordinator.core.snapshots import returns_to
from coordinator.http.blocking import blocker_of
from coordinator.http.context import Context, Ctx
from coordinator.http.examples import OPERATION
from coordinator.http.openapi import describe
from coordinator.http.pages import Cursor, page
from coordinator.http.views import operation_view
from coordinator.http.wire import answer, rfc3339

router = APIRouter(prefix="/admin", tags=["operations"])

MAX_BLOCKED = 10_000
#: Ids of children in one answer.
_MAX_CHILDREN = 1_000

_BLOCKER = Blocker(kind="parents", ids=("op-1",), detail="denied: waits until its parents are confirmed")
_BLOCKED = BlockedOperation(
    operation_id="op-2",
    agent_id="agent-1",
    state="DEFERRED",
    age_seconds=3.2,
    in_state_seconds=3.2,
    blocked_by=_BLOCKER,
)
_DETAIL = OperationDetail(
    operation=OPERATION,
    decision=DecisionAnswer(
        rule="granted",
        denial=None,
        probability=0.95,
        expected_gain_ms=2_850.0,
        expected_loss_ms=150.0,
        stake_lamports=1_100_000,
        max_depth=3,
        branches=1,
        max_branches=2,
        bonded_lamports=2_100_000,
        max_stake_lamports=1_000_000_000,
        claim_margin_ms=None,
    ),
    blocked_by=_BLOCKER,
    depth_now=1,
    rests_on={"op-1": "5d" * 32},
    children=(),
    rows=24,
    output_bytes=11,
    attempts=0,
    bonded_by="agent-1",
    batch=None,
    pending_rollback=None,
    failure=None,
    ended_at=None,
    end_cause=None,
    slash_id=None,
    replaced_by=None,
)


@router.get(
    "/operation/{operation_id}",
    **describe(
        "All that is known of an operation",
        answers={200: OperationDetail},
        example=_DETAIL,
        errors=(ErrorCode.UNKNOWN_OPERATION,),
    ),
)
async def get_operation(request: Request, ctx: Ctx, operation_id: str) -> Response:
    """With the rule that decided on its speculation, the numbers it saw, its batch, and what it waits for."""
    ctx.require_admin_reader(request)
    return answer(_detail_view(ctx, ctx.service.operation(operation_id)))


@router.get(
    "/operation/{operation_id}/timeline",
    **describe(
        "An operation's transitions",
        answers={200: TimelineAnswer},
        example=TimelineAnswer(
            operation_id="op-2",
            timeline=(
                TimelineEntry(
                    at="2026-01-31T12:00:00.000Z", state="SUBMITTED", reason="submitted", duration_ms=0
                ),
            ),
        ),
        errors=(ErrorCode.UNKNOWN_OPERATION,),
    ),
)
async def get_timeline(request: Request, ctx: Ctx, operation_id: str) -> Response:
    """Each with its time, its reason, and how long the operation stood there."""
    ctx.require_admin_reader(request)
    operation = ctx.service.operation(operation_id)
    return answer(TimelineAnswer(operation_id=operation.operation_id, timeline=_timeline(operation)))


@router.get(
    "/blocked-operations",
    **describe(
        "What blocks each unconfirmed operation",
        answers={200: list[BlockedOperation]},
        example=[_BLOCKED],
        errors=(ErrorCode.INVALID,),
    ),
)
async def blocked_operations(
    request: Request,
    ctx: Ctx,
    limit: Annotated[int, Query(ge=1, le=MAX_BLOCKED)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Oldest first; a `Link` header leads to the next page."""
    ctx.require_admin_reader(request)
    live = ctx.state.live.values()
    behind = live if cursor is None else dropwhile(lambda operation: operation.number <= cursor, live)
    shown, headers = page(behind, limit=limit, place=lambda operation: operation.number, request=request)
    return answer([_blocked_view(ctx, operation) for operation in shown], headers=headers)


def _blocked_view(ctx: Context, operation: Operation) -> BlockedOperation:
    now_ms = ctx.service.now_ms()
    blocker = blocker_of(ctx.engine, operation)
    assert blocker is not None, "a live operation waits for something"
    return BlockedOperation(
        operation_id=operation.operation_id,
        agent_id=operation.agent_id,
        state=operation.state,
        age_seconds=_seconds(now_ms - operation.admitted_at_ms),
        in_state_seconds=_seconds(now_ms - operation.timeline[-1][0]),
        blocked_by=blocker,
    )


def _rests_on(ctx: Context, operation: Operation) -> dict[str, str]:
    if not operation.speculative:
        return {}
    assumed = returns_to(ctx.state, operation)
    return {one: commitment.hex() for one, commitment in islice(assumed.items(), _MAX_CHILDREN)}


def _detail_view(ctx: Context, operation: Operation) -> OperationDetail:
    ended = operation.terminal
    return OperationDetail(
        operation=operation_view(operation),
        decision=None if operation.decision is None else _decision_view(operation.decision),
        blocked_by=blocker_of(ctx.engine, operation),
        depth_now=0 if ended else ctx.state.depth_of(operation),
        rests_on=_rests_on(ctx, operation),
        children=tuple(operation.children[:_MAX_CHILDREN]),
        rows=operation.rows,
        output_bytes=operation.output_bytes,
        attempts=operation.attempts,
        bonded_by=operation.bonded_by,
        batch=_batch_view(ctx, operation),
        pending_rollback=None if operation.pending is None else operation.pending.reason,
        failure=operation.failure,
        ended_at=None if operation.ended_at_ms is None else rfc3339(operation.ended_at_ms),
        end_cause=operation.end_cause,
        slash_id=operation.slash_id,
        replaced_by=operation.replaced_by,
    )


def _decision_view(decision: Decision) -> DecisionAnswer:
    return DecisionAnswer(
        rule=decision.rule,
        denial=decision.denial,
        probability=decision.probability,
        expected_gain_ms=decision.gain_ms,
        expected_loss_ms=decision.loss_ms,
        stake_lamports=decision.stake_lamports,
        max_depth=decision.max_depth,
        branches=decision.branches,
        max_branches=decision.max_branches,
        bonded_lamports=decision.bonded_lamports,
        max_stake_lamports=decision.max_stake_lamports,
        claim_margin_ms=decision.claim_margin_ms,
    )


def _batch_view(ctx: Context, operation: Operation) -> dict[str, Any] | None:
    batch_id = operation.batch_id
    if batch_id is None:
        return None
    try:
        batch = ctx.state.batch(batch_id)
    except CoreError:
        # Memory keeps the latest batches only.
        return {"batch_id": batch_id}
    return {
        "batch_id": batch_id,
        "state": batch.state,
        "operations": len(batch.operation_ids),
        "worker_id": batch.worker_id,
        "attempt": batch.attempt,
        "formed_because": batch.reason,
        "prove_ms": batch.prove_ms,
        "transaction": batch.transaction,
        "valid_until_slot": batch.valid_until_slot,
        "confirmed_slot": batch.confirmed_slot,
    }


def _timeline(operation: Operation) -> tuple[TimelineEntry, ...]:
    entries = operation.timeline
    ends: list[int | None] = [at_ms for at_ms, _, _ in entries[1:]]
    ends.append(None)
    return tuple(
        TimelineEntry(
            at=rfc3339(at_ms), state=state, reason=reason, duration_ms=None if end is None else end - at_ms
        )
        for (at_ms, state, reason), end in zip(entries, ends, strict=True)
    )


def _seconds(ms: int) -> float:
    return round(ms / 1000, 3)
