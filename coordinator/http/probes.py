"""Liveness, readiness, and the metrics: what probes and Prometheus ask."""

from fastapi import APIRouter, Request, Response

from coordinator.answers_admin import DetailedHealthAnswer, HealthAnswer, ReadyAnswer
from coordinator.answers_recovery import LogHealth
from coordinator.health import speculation_enabled
from coordinator.http.admin.status import version
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import answer, whole
from coordinator.metrics import CONTENT_TYPE
from coordinator.shell.assembly import Parts

router = APIRouter(tags=["health"])

MOCK_PROOFS = "mock"


@router.get(
    "/health",
    **describe(
        "Liveness",
        answers={200: HealthAnswer},
        example=HealthAnswer(status="healthy", speculation="enabled", rollout=100, version="0.1.0"),
    ),
)
async def health(ctx: Ctx) -> Response:
    """200 while the process serves; `speculation` is the effective value, with the rollout while it is
    enabled.
    """
    enabled = speculation_enabled(ctx.engine)
    mock = ctx.settings.text("speculation.proof.generator") == MOCK_PROOFS
    body = HealthAnswer(
        status="healthy" if ctx.service.read_only is None else "unhealthy",
        speculation="enabled" if enabled else "disabled",
        rollout=whole(ctx.engine.config.rollout_percentage) if enabled else None,
        version=version(),
        proofs=MOCK_PROOFS if mock else "",
    )
    return answer(body)


@router.get(
    "/ready",
    **describe(
        "Readiness",
        answers={200: ReadyAnswer, 503: ReadyAnswer},
        example=ReadyAnswer(ready=True, reasons=()),
    ),
)
async def ready(ctx: Ctx) -> Response:
    """200 while operations are taken; 503, with the reason, when the log cannot be written."""
    read_only = ctx.service.read_only
    body = ReadyAnswer(ready=read_only is None, reasons=() if read_only is None else (read_only,))
    return answer(body, status=200 if body.ready else 503)


@router.get(
    "/health/detailed",
    **describe(
        "Health in parts",
        answers={200: DetailedHealthAnswer},
        example=DetailedHealthAnswer(
            status="healthy",
            score=1.0,
            parts={"log": 1.0, "chain": 1.0},
            speculation="enabled",
            generator="stark",
            version="0.1.0",
            log=LogHealth(
                state="writable",
                reason=None,
                verification="ok",
                verified_events=120_000,
                events_to_verify=120_000,
                events=120_400,
                snapshot_at_event=120_000,
                since_snapshot=2_200,
                archived_segments=0,
                reloads=0,
            ),
        ),
    ),
)
async def health_detailed(request: Request, ctx: Ctx) -> Response:
    """Each part from 0 to 1, and the score, which is the least of them."""
    ctx.require_admin_reader(request)
    return answer(_detailed(ctx))


@router.get(
    "/metrics",
    **describe(
        "Prometheus metrics",
        answers={200: None},
        example='speculation_operations_total{status="pending",agent_id="a",operation_type="t"} 3\n',
        media_type="text/plain",
    ),
)
async def metrics(request: Request, ctx: Ctx) -> Response:
    """Text format 0.0.4."""
    ctx.require_admin_reader(request)
    return Response(ctx.metrics.render(ctx.reading()), headers={"content-type": CONTENT_TYPE})


def _detailed(ctx: Context) -> DetailedHealthAnswer:
    parts = ctx.health()
    return DetailedHealthAnswer(
        status="healthy" if ctx.service.read_only is None else "unhealthy",
        score=round(min(parts.values()), 4),
        parts={name: round(value, 4) for name, value in parts.items()},
        speculation="enabled" if speculation_enabled(ctx.engine) else "disabled",
        generator=ctx.settings.text("speculation.proof.generator"),
        version=version(),
        log=_log_health(ctx.service.parts),
    )


def _log_health(parts: Parts) -> LogHealth:
    upkeep, verification = parts.upkeep, parts.upkeep.verification
    return LogHealth(
        state=parts.log_state,
        reason=parts.journal.read_only,
        verification=verification.state,
        verified_events=verification.checked_events,
        events_to_verify=verification.total_events,
        events=parts.log.head.seq,
        snapshot_at_event=upkeep.snapshot_seq,
        since_snapshot=upkeep.since_snapshot,
        archived_segments=len(parts.log.archive.segments()),
        reloads=parts.recovery.reloads,
    )
