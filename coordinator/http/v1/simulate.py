"""What if: the planner's answer for a described workload, in simulated time."""

import asyncio

from fastapi import APIRouter, Request, Response

from coordinator.answers_planner import (
    SimulateAnswer,
    SimulateBody,
    SimulatedBatch,
    SimulatedEnd,
    SimulatedOperation,
)
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body

router = APIRouter(prefix="/v1", tags=["operations"])

#: Simulations at once; they run in threads beside the loop.
_AT_ONCE = 2


@router.post(
    "/simulate",
    **describe(
        "The planner's answer to a what-if",
        body=SimulateBody,
        body_example=SimulateBody(
            operations=(
                SimulatedOperation(operation_id="fetch", runtime_ms=1_000),
                SimulatedOperation(operation_id="summarise", depends_on=("fetch",), runtime_ms=2_000),
            ),
            settings={"speculation.enabled": True},
            workers=1,
            confirmation_ms=2_400,
        ),
        answers={200: SimulateAnswer},
        example=SimulateAnswer(
            makespan_ms=5_900.0,
            without_speculation_ms=8_400.0,
            critical_path_ms=3_000.0,
            speedup=1.424,
            confirmation_ms=2_400.0,
            workers=1,
            operations=(
                SimulatedEnd(
                    operation_id="fetch",
                    granted=False,
                    reason="committed",
                    depth=0,
                    stake_lamports=1_000_000,
                    batch_id="batch-1",
                    submitted_ms=1_000.0,
                    confirmed_ms=3_700.0,
                ),
            ),
            batches=(
                SimulatedBatch(
                    batch_id="batch-1",
                    worker="worker-0",
                    reason="closed",
                    operation_ids=("fetch",),
                    trace_rows=512,
                    started_ms=1_192.0,
                    proved_ms=1_300.0,
                    submitted_ms=1_300.0,
                    confirmed_ms=3_700.0,
                ),
            ),
        ),
        errors=(
            ErrorCode.INVALID,
            ErrorCode.UNKNOWN_PARENT,
            ErrorCode.CYCLE,
            ErrorCode.ID_CONFLICT,
            ErrorCode.UNKNOWN_KEY,
            ErrorCode.PINNED_BY_ENVIRONMENT,
            ErrorCode.RESTART_REQUIRED,
            ErrorCode.RATE_LIMITED,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.TOO_LARGE,
        ),
        secured=True,
    ),
)
async def simulate(request: Request, ctx: Ctx) -> Response:
    """Up to 500 operations through the real planner and speculation rules; nothing is submitted."""
    ctx.auth.anyone(request)
    body = await read_body(request, SimulateBody, limit_bytes=SMALL_BODY_BYTES)
    if ctx.simulations >= _AT_ONCE:
        raise CoreError(ErrorCode.RATE_LIMITED, f"{_AT_ONCE} simulations are running; wait a moment")
    ask = ctx.service.simulation(body)
    ctx.simulations += 1
    try:
        return answer(await asyncio.to_thread(ask))
    finally:
        ctx.simulations -= 1
