"""The autoscaler's decision at this moment, with its reasons."""

from fastapi import APIRouter, Request, Response

from coordinator.answers_planner import ScalingAnswer, ScalingLoad
from coordinator.core.scaling import Why
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import answer, rfc3339

router = APIRouter(prefix="/admin", tags=["proofs"])

#: What each reason says to an operator.
DETAILS = {
    Why.STEADY: "as many as the load asks for",
    Why.CONFIRMING: "another number is wanted, but not for enough looks in a row yet",
    Why.COOLDOWN: "another number is wanted; the last step is not long enough ago",
    Why.HELD: "somebody set the number by hand: it is left alone for a while",
    Why.LIMIT: "the load asks for more, or fewer, than the limits allow",
    Why.UP: "the load asks for more, and has for some looks",
    Why.DOWN: "the load asks for fewer, and has for some looks: one goes",
    Why.DEADLINE: "a deadline is missed without them",
}


@router.get(
    "/scaling",
    **describe(
        "What the autoscaler would do now, and why",
        answers={200: ScalingAnswer},
        example=ScalingAnswer(
            mode="dry_run",
            machines="kubernetes",
            current=4,
            wanted=7,
            target=4,
            reason="confirming",
            detail=DETAILS[Why.CONFIRMING],
            min_workers=2,
            max_workers=24,
            drain_window_ms=10_000,
            load=ScalingLoad(
                rows=310_000,
                rows_per_second=41_000.0,
                batch_rows=32_512,
                batch_p95_ms=910.0,
                deadline_workers=0,
            ),
            held_until=None,
            failures=0,
            last_error=None,
        ),
    ),
)
async def get_scaling(request: Request, ctx: Ctx) -> Response:
    """The policy on the load of this instant; asking changes nothing. `scaling.mode` says whether it is carried out."""
    ctx.require_admin_reader(request)
    scaling, settings = ctx.service.parts.scaling, ctx.settings
    decision = scaling.explain()
    load = decision.load
    return answer(
        ScalingAnswer(
            mode=settings.text("scaling.mode"),
            machines=settings.text("scaling.machines"),
            current=decision.current,
            wanted=decision.wanted,
            target=decision.target,
            reason=decision.why.value,
            detail=DETAILS[decision.why],
            min_workers=settings.integer("scaling.min_workers"),
            max_workers=settings.integer("scaling.max_workers"),
            drain_window_ms=settings.integer("scaling.drain_window_ms"),
            load=ScalingLoad(
                rows=load.rows,
                rows_per_second=round(1_000 * decision.rows_per_ms, 1),
                batch_rows=load.batch_rows,
                batch_p95_ms=round(load.batch_p95_ms, 1),
                deadline_workers=load.deadline_workers,
            ),
            held_until=None if decision.held_until_ms is None else rfc3339(int(decision.held_until_ms)),
            failures=scaling.failures,
            last_error=scaling.last_error,
        )
    )
