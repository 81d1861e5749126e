"""Memory: where it is, and a collection on demand."""

from fastapi import APIRouter, Request, Response

from coordinator.answers_admin import NoBody
from coordinator.answers_recovery import CollectionAnswer, MemoryAnswer
from coordinator.core.errors import ErrorCode
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body
from coordinator.shell.memory import MemoryUse

router = APIRouter(prefix="/admin", tags=["memory"])

_MB = 2**20
_EXAMPLE = MemoryAnswer(
    total_mb=312.5,
    limit_mb=4096,
    state_snapshots_mb=0.5,
    pending_operations_mb=12.25,
    proof_cache_mb=8.0,
    other_mb=291.75,
)


@router.get(
    "/memory-stats",
    **describe("Where the memory is", answers={200: MemoryAnswer}, example=_EXAMPLE),
)
async def memory_stats(request: Request, ctx: Ctx) -> Response:
    """The total is the process's resident memory; the parts sum to it."""
    ctx.require_admin_reader(request)
    return answer(_view(ctx, ctx.service.parts.memory.use()))


@router.post(
    "/gc",
    **describe(
        "Collect now",
        body=NoBody,
        body_required=False,
        answers={200: CollectionAnswer},
        example=CollectionAnswer(
            before=_EXAMPLE, after=_EXAMPLE, freed_mb=0.0, took_ms=35.0, objects_collected=1200
        ),
        errors=(ErrorCode.INVALID, ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN),
        secured=True,
    ),
)
async def collect(request: Request, ctx: Ctx) -> Response:
    """Drops caches and frees what nothing needs any more; it works on a read-only log too."""
    by = ctx.auth.operator(request)
    await read_body(request, NoBody, limit_bytes=SMALL_BODY_BYTES, optional=True)
    collected = ctx.service.parts.memory.collect()
    before, after = _view(ctx, collected.before), _view(ctx, collected.after)
    freed_mb = round(before.total_mb - after.total_mb, 3)
    if ctx.service.read_only is None:
        await ctx.service.note(
            "gc", before={"total_mb": before.total_mb}, after={"freed_mb": freed_mb}, by=by
        )
    done = CollectionAnswer(
        before=before,
        after=after,
        freed_mb=freed_mb,
        took_ms=round(collected.took_s * 1000, 3),
        objects_collected=collected.objects,
    )
    return answer(done)


def _view(ctx: Context, use: MemoryUse) -> MemoryAnswer:
    """In megabytes of three decimals; the rest takes the rounding."""
    total, snapshots, pending, proofs = (round(part / _MB, 3) for part in use[:4])
    return MemoryAnswer(
        total_mb=total,
        limit_mb=ctx.engine.config.max_memory_mb,
        state_snapshots_mb=snapshots,
        pending_operations_mb=pending,
        proof_cache_mb=proofs,
        other_mb=round(total - snapshots - pending - proofs, 3),
    )
