"""The system at a glance, its workers, its log's integrity, and what operators did."""

import importlib.metadata
import time
from functools import cache
from typing import Any

from fastapi import APIRouter, Request, Response

from coordinator.answers_admin import (
    HedgingAnswer,
    SpeculationStatus,
    StatusAnswer,
    WorkerAnswer,
    WorkerCost,
    WorkersAnswer,
)
from coordinator.core.cost import padded_rows
from coordinator.core.states import OperationState
from coordinator.health import speculation_enabled
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import answer, rfc3339, whole
from workers.messages import WorkerInfo

router = APIRouter(prefix="/admin", tags=["status"])

_STARTED_S = time.monotonic()

_WORKER_EXAMPLE = WorkerAnswer(
    worker_id="w-1",
    state="busy",
    backend="cpu",
    batch_id="batch-7",
    busy_seconds=0.4,
    utilization=0.7,
    batches=12,
    failures=0,
    restarts=0,
    permutations=80_000,
    memory_bytes=400_000_000,
    last_error=None,
    expected_ms=612.5,
    cost=WorkerCost(fixed_ms=31.0, unit_ms=0.0011, samples=12, error=0.06, p95=1.2),
)

_STATUS_EXAMPLE = StatusAnswer(
    status="healthy",
    version="0.1.0",
    env="prod",
    uptime_seconds=86_400.0,
    speculation=SpeculationStatus(enabled=True, pending_operations=12),
    mode="conservative",
    rollout_percentage=100,
    latch=None,
    drain_until=None,
    circuit_breaker="closed",
    generator="stark",
    parameters="standard",
    read_only=None,
    open_operations=20,
    queued_operations=8,
    operations_by_state={"QUEUED": 8, "PROVING": 12},
    totals={"admitted": 1_000, "confirmed": 970, "rolled_back": 9, "failed": 1, "batches_confirmed": 60},
    chain={"connection_status": "connected", "slot": 1234},
    workers={"desired": 2, "running": 2, "limited_by": None},
    log={"events": 4_000, "head": "00" * 32},
    loop_failures={},
    config_problems=(),
)


@cache
def version() -> str:
    """The installed version; a checkout that was never installed has none."""
    try:
        return importlib.metadata.version("agenc-prover")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


@router.get(
    "/status",
    **describe("The system at a glance", answers={200: StatusAnswer}, example=_STATUS_EXAMPLE),
)
async def get_status(request: Request, ctx: Ctx) -> Response:
    """`speculation` says whether new speculation is possible and how many commitments are live."""
    ctx.require_admin_reader(request)
    return answer(_status_view(ctx))


@router.get(
    "/workers",
    **describe(
        "The proof workers",
        answers={200: WorkersAnswer},
        example=WorkersAnswer(desired=2, running=1, target=1, limited_by="slots", workers=(_WORKER_EXAMPLE,)),
    ),
)
async def get_workers(request: Request, ctx: Ctx) -> Response:
    """Desired by `speculation.proof.worker_threads`; `limited_by` says why fewer run."""
    ctx.require_admin_reader(request)
    pool = ctx.service.parts.pool
    scale, hedges = pool.scale(), ctx.service.parts.proving.hedges
    workers = WorkersAnswer(
        desired=scale.desired,
        running=scale.running,
        target=scale.target,
        limited_by=scale.limited_by,
        refused_hosts=scale.refused_hosts,
        hedging=HedgingAnswer(
            started=hedges.started, won=hedges.won, wasted_seconds=round(hedges.wasted_s, 3)
        ),
        workers=tuple(_worker_view(ctx, worker) for worker in pool.workers()),
    )
    return answer(workers)


@router.get(
    "/integrity-check",
    **describe(
        "Check log, invariants and chain",
        answers={200: dict[str, Any]},
        example={"status": "ok", "problems": [], "log": {"ok": True, "events": 1200}},
    ),
)
async def integrity_check(request: Request, ctx: Ctx) -> Response:
    """Reads the whole log, and takes as long. `status` is `corrupted` when something does not hold."""
    ctx.require_admin_reader(request)
    return answer(await ctx.service.integrity())


def _status_view(ctx: Context) -> StatusAnswer:
    state, settings, parts = ctx.state, ctx.settings, ctx.service.parts
    totals, scale = state.totals, parts.pool.scale()
    until_ms = totals.drain_until_ms
    live = {name: count for name, count in state.counts.items() if name is not OperationState.SUBMITTED}
    return StatusAnswer(
        status="healthy" if ctx.service.read_only is None else "unhealthy",
        version=version(),
        env=settings.env,
        uptime_seconds=round(time.monotonic() - _STARTED_S, 3),
        speculation=SpeculationStatus(
            enabled=speculation_enabled(ctx.engine), pending_operations=state.commitments
        ),
        mode=settings.text("speculation.mode"),
        rollout_percentage=whole(ctx.engine.config.rollout_percentage),
        latch=totals.latch,
        drain_until=None if until_ms is None else rfc3339(until_ms),
        circuit_breaker=state.breaker.state,
        generator=settings.text("speculation.proof.generator"),
        parameters=settings.text("proof.parameters"),
        read_only=ctx.service.read_only,
        open_operations=state.open_operations,
        queued_operations=state.queued,
        operations_by_state={str(name): count for name, count in live.items()},
        totals={
            "admitted": totals.admitted,
            "confirmed": totals.confirmed,
            "rolled_back": totals.rolled_back,
            "failed": totals.failed,
            "batches_confirmed": totals.batches_confirmed,
        },
        chain={"connection_status": totals.connection, "slot": parts.posting.slot},
        workers={"desired": scale.desired, "running": scale.running, "limited_by": scale.limited_by},
        log={"events": parts.log.head.seq, "head": parts.log.head.hash.hex()},
        loop_failures=parts.loop_failures,
        config_problems=settings.problems,
    )


def _worker_view(ctx: Context, worker: WorkerInfo) -> WorkerAnswer:
    cost = ctx.state.totals.cost
    batch = None if worker.batch_id is None else ctx.state.batches.get(worker.batch_id)
    fit = cost.workers.get(worker.worker_id)
    return WorkerAnswer(
        expected_ms=None
        if batch is None
        else round(cost.line(worker.worker_id).ms(padded_rows(batch.operation_rows)), 1),
        cost=None
        if fit is None
        else WorkerCost(
            fixed_ms=round(fit.line.fixed_ms, 3),
            unit_ms=float(f"{fit.line.unit_ms:.4g}"),
            samples=fit.samples,
            error=round(fit.error, 4),
            p95=round(fit.p95, 3),
            max_rows=fit.max_rows,
        ),
        worker_id=worker.worker_id,
        state=worker.state,
        backend=worker.backend,
        batch_id=worker.batch_id,
        busy_seconds=worker.busy_s,
        utilization=worker.utilization,
        batches=worker.batches,
        failures=worker.failures,
        restarts=worker.restarts,
        permutations=worker.permutations,
        memory_bytes=worker.rss_bytes,
        last_error=worker.last_error,
    )
