"""The console's page, its files, and the two answers that it asks for every second or two."""

import hashlib
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request, Response

from coordinator.answers_console import (
    ConsoleAnswer,
    ConsoleSample,
    Figure,
    GraphAnswer,
    GraphNode,
    WorkerTile,
)
from coordinator.console import overview
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.health import speculation_enabled
from coordinator.http.admin.status import version
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import answer, rfc3339, whole
from coordinator.metrics_samples import Reading

page_router = APIRouter(include_in_schema=False)
router = APIRouter(prefix="/admin", tags=["console"])

#: The page loads its own files and talks to its own server; nothing else, and nothing inline.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


_EXAMPLE = ConsoleAnswer(
    at="2026-01-31T12:00:00.000Z",
    version="0.1.0",
    env="prod",
    generator="stark",
    status="healthy",
    read_only=None,
    score=1.0,
    parts={"chain": 1.0, "log": 1.0},
    speculation="enabled",
    mode="conservative",
    max_depth=3,
    rollout_percentage=100,
    latch=None,
    breaker="closed",
    breaker_reason="",
    connection="connected",
    slot=1234,
    workers_desired=2,
    workers_limited_by=None,
    workers=(
        WorkerTile(
            worker_id="w-1",
            state="busy",
            backend="cpu",
            batch_id="batch-7",
            utilization=0.7,
            batches=12,
            failures=0,
        ),
    ),
    figures=(
        Figure(
            name="rollback_rate",
            label="Rollback rate",
            unit="share",
            value=0.02,
            warning=0.05,
            critical=0.15,
            level="ok",
            action="Reduce depth",
        ),
    ),
    sample=ConsoleSample(
        at_ms=1_769_860_800_000,
        queued=8,
        open=20,
        pending=12,
        depth=2,
        admitted_total=1_000,
        confirmed_total=970,
        rollbacks_total={"cancelled": 9},
        latency_p99_s=3.2,
        locked_lamports=14_000_000,
        memory_bytes=300_000_000,
        workers_running=2,
        workers_busy=0.7,
    ),
)


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """The console's files by name: content, media type, entity tag."""
    found = {}
    for file in (resources.files("coordinator.console") / "static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            content = file.read_bytes()
            found[file.name] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found


@page_router.get("/")
async def page(request: Request) -> Response:
    """The console."""
    return _file("index.html", request)


@page_router.get("/console/{name}")
async def file(name: str, request: Request) -> Response:
    """One of its files."""
    return _file(name, request)


def _file(name: str, request: Request) -> Response:
    if name not in _files():
        raise CoreError(ErrorCode.NOT_FOUND, f"the console has no file {name!r}")
    content, kind, tag = _files()[name]
    headers = {"content-security-policy": _POLICY, "cache-control": "no-cache", "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


@router.get(
    "/console",
    **describe("What the console shows", answers={200: ConsoleAnswer}, example=_EXAMPLE),
)
async def console(request: Request, ctx: Ctx, history: bool = False) -> Response:
    """The figures with their levels, and a sample for the charts; `history` adds the last ten minutes."""
    ctx.require_admin_reader(request)
    note(ctx)
    return answer(_view(ctx, history=history))


@router.get(
    "/graph",
    **describe(
        "The graph of pending operations",
        answers={200: GraphAnswer},
        example=GraphAnswer(
            total=2,
            nodes=[
                GraphNode(
                    operation_id=name,
                    agent_id="agent-1",
                    state="PROVING",
                    depth=depth,
                    speculative=depth > 0,
                    parents=("op-1",) * depth,
                )
                for depth, name in enumerate(("op-1", "op-2"))
            ],
        ),
    ),
)
async def graph(request: Request, ctx: Ctx) -> Response:
    """At most 500, those that were admitted first; `parents` only where they are shown too."""
    ctx.require_admin_reader(request)
    total, nodes = overview.graph(ctx.state)
    return answer(GraphAnswer(total=total, nodes=nodes))


def note(ctx: Context) -> None:
    """Keep a sample for the charts' past, if one is due."""
    now_ms = ctx.service.now_ms()
    ctx.history.note(lambda: _sample(ctx, ctx.reading()), now_ms=now_ms)


def _sample(ctx: Context, reading: Reading) -> ConsoleSample:
    return overview.sample(reading, latency_p99_s=ctx.metrics.latency_p99_s(now_ms=reading.now_ms))


def _view(ctx: Context, *, history: bool) -> ConsoleAnswer:
    reading, settings, parts = ctx.reading(), ctx.settings, ctx.service.parts
    state, scale = reading.state, parts.pool.scale()
    now = _sample(ctx, reading)
    health = reading.health
    return ConsoleAnswer(
        at=rfc3339(reading.now_ms),
        version=version(),
        env=settings.env,
        generator=settings.text("speculation.proof.generator"),
        status="healthy" if ctx.service.read_only is None else "unhealthy",
        read_only=ctx.service.read_only,
        score=round(min(health.values()), 3),
        parts={name: round(part, 3) for name, part in health.items()},
        speculation="enabled" if speculation_enabled(ctx.engine) else "disabled",
        mode=settings.text("speculation.mode"),
        max_depth=ctx.engine.config.max_depth,
        rollout_percentage=whole(ctx.engine.config.rollout_percentage),
        latch=state.totals.latch,
        breaker=state.breaker.state,
        breaker_reason=state.breaker.reason,
        connection=state.totals.connection,
        slot=parts.posting.slot,
        workers_desired=scale.desired,
        workers_limited_by=scale.limited_by,
        workers=tuple(
            WorkerTile(
                worker_id=worker.worker_id,
                state=worker.state,
                backend=worker.backend,
                batch_id=worker.batch_id,
                utilization=round(worker.utilization, 3),
                batches=worker.batches,
                failures=worker.failures,
            )
            for worker in parts.pool.workers()
        ),
        figures=overview.figures(reading, now),
        sample=now,
        history=ctx.history.samples if history else (),
    )
