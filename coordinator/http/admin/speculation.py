"""What an operator does to speculation at 3 am: stop it, clear the queue, end what is stuck, reset the
breaker.
"""

from fastapi import APIRouter, Request, Response

from coordinator.answers_admin import (
    BreakerAnswer,
    ClearedQueue,
    EmergencyAnswer,
    EmergencyBody,
    NoBody,
    RollbackStats,
    StaleAnswer,
    StaleBody,
)
from coordinator.core.breaker import window_counts
from coordinator.core.errors import ErrorCode
from coordinator.core.states import RollbackReason
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body, rfc3339, whole

router = APIRouter(prefix="/admin", tags=["speculation"])

_WRITE_ERRORS = (ErrorCode.INVALID, ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.READ_ONLY)

_BREAKER_EXAMPLE = BreakerAnswer(
    state="open",
    reason="rollbacks: 12 of 30 finished in 60 s, more than 30%",
    changed_at="2026-01-31T12:00:00.000Z",
    until="2026-01-31T12:00:30.000Z",
    window_seconds=60,
    finished=30,
    rolled_back=12,
    failed=0,
    rollback_ratio=0.4,
    error_ratio=0.0,
    rollback_ratio_limit=0.3,
    error_ratio_limit=0.1,
    min_finished=20,
    probes=0,
    probes_confirmed=0,
)


@router.post(
    "/emergency",
    **describe(
        "Stop speculation now",
        body=EmergencyBody,
        body_example=EmergencyBody(action="disable_speculation", force=True),
        answers={200: EmergencyAnswer},
        example=EmergencyAnswer(
            action="disable_speculation",
            latch="disabled",
            rolled_back=("op-2",),
            pending=(),
            drain_until=None,
        ),
        errors=_WRITE_ERRORS,
        secured=True,
    ),
)
async def emergency(request: Request, ctx: Ctx) -> Response:
    """The stop holds over every source of configuration until `speculation.enabled` is set to true."""
    by = ctx.auth.operator(request)
    body = await read_body(request, EmergencyBody, limit_bytes=SMALL_BODY_BYTES)
    outcome = await ctx.service.emergency(
        body.action, force=body.force, deadline_seconds=body.deadline_seconds, by=by
    )
    until_ms = outcome.drain_until_ms
    stopped = EmergencyAnswer(
        action=body.action,
        latch=ctx.state.totals.latch,
        rolled_back=outcome.rolled_back,
        pending=outcome.pending,
        drain_until=None if until_ms is None else rfc3339(until_ms),
    )
    return answer(stopped)


@router.post(
    "/operations/timeout-stale",
    **describe(
        "Roll back stale operations",
        body=StaleBody,
        body_example=StaleBody(older_than_seconds=300),
        answers={200: StaleAnswer},
        example=StaleAnswer(timed_out=2, rolled_back=("op-2", "op-1"), pending=()),
        errors=_WRITE_ERRORS,
        secured=True,
    ),
)
async def timeout_stale(request: Request, ctx: Ctx) -> Response:
    """What was admitted longer ago and is not confirmed; what is on its way to the chain ends with its
    transaction.
    """
    by = ctx.auth.operator(request)
    body = await read_body(request, StaleBody, limit_bytes=SMALL_BODY_BYTES)
    outcome = await ctx.service.timeout_stale(body.older_than_seconds, by)
    ended = StaleAnswer(
        timed_out=len(outcome.rolled_back) + len(outcome.pending),
        rolled_back=outcome.rolled_back,
        pending=outcome.pending,
    )
    return answer(ended)


@router.post(
    "/proof/clear-queue",
    **describe(
        "Clear the proof queue",
        body=NoBody,
        body_required=False,
        answers={200: ClearedQueue},
        example=ClearedQueue(batches_discarded=1, operations_held=12),
        errors=_WRITE_ERRORS,
        secured=True,
    ),
)
async def clear_queue(request: Request, ctx: Ctx) -> Response:
    """Discards batches that are not on their way to the chain, never operations: they are queued again."""
    by = ctx.auth.operator(request)
    await read_body(request, NoBody, limit_bytes=SMALL_BODY_BYTES, optional=True)
    batches, operations = await ctx.service.clear_queue(by)
    return answer(ClearedQueue(batches_discarded=batches, operations_held=operations))


@router.get(
    "/rollback-stats",
    **describe(
        "Rollbacks of the last hour",
        answers={200: RollbackStats},
        example=RollbackStats(
            total_rollbacks_1h=57,
            by_reason={"confirmation_timeout": 45, "chain_reorg": 12, "invalid_state": 0},
        ),
    ),
)
async def rollback_stats(request: Request, ctx: Ctx) -> Response:
    """By reason, zeros shown; they sum to the total."""
    ctx.require_admin_reader(request)
    oldest_minute = ctx.service.now_ms() // 60_000 - 60
    by_reason = dict.fromkeys(map(str, RollbackReason), 0)
    for minute, counts in ctx.state.rollback_minutes.items():
        if minute > oldest_minute:
            for reason, count in counts.items():
                by_reason[reason] += count
    return answer(RollbackStats(total_rollbacks_1h=sum(by_reason.values()), by_reason=by_reason))


@router.get(
    "/circuit-breaker",
    **describe("The circuit breaker", answers={200: BreakerAnswer}, example=_BREAKER_EXAMPLE),
)
async def get_breaker(request: Request, ctx: Ctx) -> Response:
    """Where it stands, why, until when, and what its window holds."""
    ctx.require_admin_reader(request)
    return answer(_breaker_view(ctx))


@router.post(
    "/circuit-breaker/reset",
    **describe(
        "Reset the circuit breaker",
        body=NoBody,
        body_required=False,
        answers={200: BreakerAnswer},
        example=_BREAKER_EXAMPLE,
        errors=_WRITE_ERRORS,
        secured=True,
    ),
)
async def reset_breaker(request: Request, ctx: Ctx) -> Response:
    """Closes it and empties its window."""
    by = ctx.auth.operator(request)
    await read_body(request, NoBody, limit_bytes=SMALL_BODY_BYTES, optional=True)
    await ctx.service.reset_breaker(by)
    return answer(_breaker_view(ctx))


def _breaker_view(ctx: Context) -> BreakerAnswer:
    state, config = ctx.state, ctx.engine.config
    breaker = state.breaker
    finished, rolled_back, failed = window_counts(state, config, now_ms=ctx.service.now_ms())
    return BreakerAnswer(
        state=breaker.state,
        reason=breaker.reason,
        changed_at=rfc3339(breaker.changed_at_ms) if breaker.changed_at_ms else None,
        until=None if breaker.until_ms is None else rfc3339(breaker.until_ms),
        window_seconds=whole(config.breaker_window_ms / 1000),
        finished=finished,
        rolled_back=rolled_back,
        failed=failed,
        rollback_ratio=rolled_back / finished if finished else 0.0,
        error_ratio=failed / finished if finished else 0.0,
        rollback_ratio_limit=config.breaker_rollback_ratio,
        error_ratio_limit=config.breaker_error_ratio,
        min_finished=config.breaker_min_finished,
        probes=len(breaker.probes),
        probes_confirmed=breaker.probes_confirmed,
    )
