"""Where operations spend their time, and which knob would relieve the slowest stage."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from coordinator.answers_pipeline import (
    BottleneckAnswer,
    KnobAnswer,
    PipelineAnswer,
    PipelineBottlenecks,
    StageAnswer,
)
from coordinator.core.errors import ErrorCode
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import answer
from coordinator.pipeline import DEFAULT_WINDOW_S, Analysis, Stage, StageTimes, analyze
from coordinator.relief import Knob, relief_of

router = APIRouter(prefix="/admin/pipeline", tags=["pipeline"])

#: Seconds of the past that one may ask for.
WindowS = Annotated[
    int, Query(ge=10, le=3_600, description="Confirmations of this many seconds are measured.")
]

_STAGE_EXAMPLE = StageAnswer(
    stage="queue",
    mean_seconds=1.8,
    p50_seconds=1.6,
    p99_seconds=4.1,
    floor_seconds=0.0,
    share=0.4,
    operations_now=312,
    oldest_seconds=5.2,
)
_KNOB_EXAMPLE = KnobAnswer(
    key="speculation.proof.worker_threads",
    value=1,
    range="a whole number from 1 to 32",
    limited_by="slots: 1 of 4 desired workers run; add nodes or cores",
)


@router.get(
    "/analyze",
    **describe(
        "Measured times of every stage",
        answers={200: PipelineAnswer},
        example=PipelineAnswer(
            window_seconds=300,
            confirmed=812,
            under_way=340,
            sampled=1_152,
            confirmed_per_second=2.7,
            bottleneck="queue",
            stages=(_STAGE_EXAMPLE,),
        ),
        errors=(ErrorCode.INVALID,),
    ),
)
async def analyze_pipeline(request: Request, ctx: Ctx, window: WindowS = DEFAULT_WINDOW_S) -> Response:
    """From the timelines of what was confirmed within the window and of what is under way (the latest and the oldest
    500): admit, wait_for_parents, queue, prove, submit, confirm.
    """
    ctx.require_admin_reader(request)
    found = _analysis(ctx, window)
    body = PipelineAnswer(
        window_seconds=found.window_s,
        confirmed=found.confirmed,
        under_way=found.under_way,
        sampled=found.sampled,
        confirmed_per_second=round(found.confirmed_per_s, 3),
        bottleneck=None if found.bottleneck is None else found.bottleneck.stage,
        stages=tuple(_stage_view(stage) for stage in found.stages),
    )
    return answer(body)


@router.get(
    "/bottlenecks",
    **describe(
        "The slowest stages and their knobs",
        answers={200: PipelineBottlenecks},
        example=PipelineBottlenecks(
            bottleneck="queue",
            detail="queue takes 1.8 s an operation, 40% of the way to confirmation",
            stages=(
                BottleneckAnswer(
                    stage="queue",
                    excess_seconds=1.8,
                    share=0.4,
                    operations_now=312,
                    action="more proof workers take what is queued sooner",
                    knob=_KNOB_EXAMPLE,
                ),
            ),
        ),
        errors=(ErrorCode.INVALID,),
    ),
)
async def find_bottlenecks(request: Request, ctx: Ctx, window: WindowS = DEFAULT_WINDOW_S) -> Response:
    """Stages by their time above what they take by their nature, each with the key that would relieve it, its value
    now, and what limits that.
    """
    ctx.require_admin_reader(request)
    found = _analysis(ctx, window)
    body = PipelineBottlenecks(
        bottleneck=None if found.bottleneck is None else found.bottleneck.stage,
        detail=_detail(found),
        stages=tuple(_bottleneck_view(ctx, stage) for stage in found.ranked),
    )
    return answer(body)


def _analysis(ctx: Context, window_s: int) -> Analysis:
    service = ctx.service
    return analyze(
        ctx.state, ctx.engine.config, service.admissions, now_ms=service.now_ms(), window_s=window_s
    )


def _detail(found: Analysis) -> str:
    slowest = found.bottleneck
    if slowest is None:
        return "no stage takes noticeably longer than it must"
    floor = f" (at least {slowest.floor_s:.1f} s by its nature)" if slowest.floor_s else ""
    return (
        f"{slowest.stage} takes {slowest.mean_s:.1f} s an operation{floor}, "
        f"{slowest.share:.0%} of the way to confirmation"
    )


def _stage_view(stage: StageTimes) -> StageAnswer:
    return StageAnswer(
        stage=stage.stage,
        mean_seconds=round(stage.mean_s, 4),
        p50_seconds=round(stage.p50_s, 4),
        p99_seconds=round(stage.p99_s, 4),
        floor_seconds=stage.floor_s,
        share=round(stage.share, 4),
        operations_now=stage.operations_now,
        oldest_seconds=None if stage.oldest_s is None else round(stage.oldest_s, 3),
    )


def _bottleneck_view(ctx: Context, stage: StageTimes) -> BottleneckAnswer:
    relief = relief_of(
        Stage(stage.stage), state=ctx.state, settings=ctx.settings, scale=ctx.service.parts.pool.scale()
    )
    return BottleneckAnswer(
        stage=stage.stage,
        excess_seconds=round(stage.excess_s, 4),
        share=round(stage.share, 4),
        operations_now=stage.operations_now,
        action=relief.action,
        knob=None if relief.knob is None else _knob_view(relief.knob),
    )


def _knob_view(knob: Knob) -> KnobAnswer:
    return KnobAnswer(key=knob.key, value=knob.value, range=knob.range, limited_by=knob.limited_by)
