"""The planner's decisions at this moment, with their reasons."""

from fastapi import APIRouter, Request, Response

from coordinator.answers_planner import PlanAnswer, PlannedBatch, WaitingGroup
from coordinator.core.explain import WAITING, explain
from coordinator.core.planner import PlannerView
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import answer
from workers.messages import WorkerState

router = APIRouter(prefix="/admin", tags=["proofs"])


@router.get(
    "/plan",
    **describe(
        "What the planner would do now, and why",
        answers={200: PlanAnswer},
        example=PlanAnswer(
            batches=(
                PlannedBatch(
                    worker="worker-1",
                    operation_ids=("op-1", "op-2"),
                    reason="closed",
                    expected_proof_ms=310.0,
                ),
            ),
            waiting=(
                WaitingGroup(
                    reason="gathering",
                    detail=WAITING["gathering"],
                    count=1,
                    operation_ids=("op-9",),
                    oldest_seconds=0.12,
                ),
            ),
            idle_workers=("worker-1",),
            looked_at=3,
            open_operations=3,
            expected_confirmation_ms=2_400.0,
            max_batch_operations=4_096,
            max_batch_rows=32_512,
        ),
    ),
)
async def get_plan(request: Request, ctx: Ctx) -> Response:
    """The batches that would start this instant, and what everything else waits for; nothing is started."""
    ctx.require_admin_reader(request)
    workers = ctx.service.parts.pool.workers()
    idle = [worker.worker_id for worker in workers if worker.state is WorkerState.IDLE]
    view = PlannerView(
        state=ctx.state,
        config=ctx.engine.config,
        idle_workers=idle,
        worker_ids=[worker.worker_id for worker in workers],
    )
    found = explain(view, now_ms=ctx.service.now_ms())
    return answer(
        PlanAnswer(
            batches=tuple(
                PlannedBatch(
                    worker=one.worker_id,
                    operation_ids=one.operation_ids,
                    reason=one.reason,
                    expected_proof_ms=proof_ms,
                )
                for one, proof_ms in zip(found.batches, found.proof_ms, strict=True)
            ),
            waiting=tuple(
                WaitingGroup(
                    reason=one.reason,
                    detail=WAITING[one.reason],
                    count=one.count,
                    operation_ids=one.operation_ids,
                    oldest_seconds=one.oldest_ms / 1_000,
                )
                for one in found.waiting
            ),
            idle_workers=tuple(idle),
            looked_at=found.looked_at,
            open_operations=ctx.state.open_operations,
            expected_confirmation_ms=found.settle_ms,
            max_batch_operations=found.max_operations,
            max_batch_rows=found.max_rows,
        )
    )
