"""The chain, and how confirmations flow."""

from itertools import islice

from fastapi import APIRouter, Request, Response

from coordinator.answers_admin import ChainStatus, ConfirmationStatus
from coordinator.core.states import TERMINAL, OperationState, RevertReason
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import answer

router = APIRouter(prefix="/admin", tags=["chain"])


@router.get(
    "/chain-status",
    **describe(
        "The chain",
        answers={200: ChainStatus},
        example=ChainStatus(
            connection_status="connected",
            domain="local:a4d2868801c0ccf1",
            slot=1234,
            slot_ms=400,
            confirmation_slots=5,
            transaction_expiry_slots=10,
            disconnected_seconds=None,
            batches_in_flight=1,
            batches_confirmed=12,
            reorgs=0,
        ),
    ),
)
async def chain_status(request: Request, ctx: Ctx) -> Response:
    """`connection_status` is connected, degraded or disconnected; while it is the last, no timeout runs."""
    ctx.require_admin_reader(request)
    state, config = ctx.state, ctx.engine.config
    totals = state.totals
    since_ms = totals.disconnected_since_ms
    status = ChainStatus(
        connection_status=totals.connection,
        domain=ctx.service.parts.domain.decode(errors="replace"),
        slot=ctx.service.parts.posting.slot,
        slot_ms=config.slot_ms,
        confirmation_slots=config.confirmation_slots,
        transaction_expiry_slots=config.transaction_expiry_slots,
        disconnected_seconds=None if since_ms is None else _seconds(ctx.service.now_ms() - since_ms),
        batches_in_flight=len(state.submitted),
        batches_confirmed=totals.batches_confirmed,
        reorgs=totals.reverts_by_reason[RevertReason.REORG],
    )
    return answer(status)


@router.get(
    "/confirmation-status",
    **describe(
        "How confirmations flow",
        answers={200: ConfirmationStatus},
        example=ConfirmationStatus(
            pending_confirmations=12,
            submitted_to_chain=4,
            avg_confirmation_time=3.1,
            avg_settlement_time=2.2,
            p99_confirmation_time=4.9,
            oldest_pending_age=2.7,
            oldest_pending_operation="op-2",
            by_state={"QUEUED": 8, "SUBMITTING": 4},
            reverted={"dropped": 0, "expired": 0, "reorg": 0, "refused": 0},
        ),
    ),
)
async def confirmation_status(request: Request, ctx: Ctx) -> Response:
    """Times and ages in seconds; settlement counts from submission to the chain, the rest from admission."""
    ctx.require_admin_reader(request)
    state, now_ms = ctx.state, ctx.service.now_ms()
    totals = state.totals
    oldest = next(iter(islice(state.live.values(), 1)), None)
    status = ConfirmationStatus(
        pending_confirmations=state.open_operations,
        submitted_to_chain=state.counts[OperationState.SUBMITTING],
        avg_confirmation_time=_optional_seconds(totals.latency_ema_ms),
        avg_settlement_time=_optional_seconds(totals.settle_ema_ms),
        p99_confirmation_time=ctx.metrics.latency_p99_s(now_ms=now_ms),
        oldest_pending_age=None if oldest is None else _seconds(now_ms - oldest.admitted_at_ms),
        oldest_pending_operation=None if oldest is None else oldest.operation_id,
        by_state={str(name): count for name, count in state.counts.items() if name not in TERMINAL},
        reverted={str(reason): count for reason, count in totals.reverts_by_reason.items()},
    )
    return answer(status)


def _optional_seconds(ms: float | None) -> float | None:
    return None if ms is None else _seconds(ms)


def _seconds(ms: float) -> float:
    return round(ms / 1000, 3)
