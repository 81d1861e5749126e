"""Profiles of the coordinator and of the proof workers, for `go tool pprof`."""

from fastapi import APIRouter, Request, Response

from coordinator.answers_pipeline import ProfileBody, ProfileStarted
from coordinator.core.errors import ErrorCode
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body, rfc3339

router = APIRouter(prefix="/admin/debug/profile", tags=["profiles"])

MEDIA_TYPE = "application/octet-stream"


@router.post(
    "/start",
    **describe(
        "Start a profile",
        body=ProfileBody,
        body_required=False,
        body_example=ProfileBody(duration_seconds=30),
        answers={200: ProfileStarted},
        example=ProfileStarted(
            status="running",
            target="coordinator",
            duration_seconds=30,
            started_at="2026-01-31T12:00:00.000Z",
            sampler="py-spy",
        ),
        errors=(
            ErrorCode.INVALID,
            ErrorCode.NOT_FOUND,
            ErrorCode.PROFILE_RUNNING,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.FORBIDDEN,
            ErrorCode.READ_ONLY,
        ),
        secured=True,
    ),
)
async def start_profile(request: Request, ctx: Ctx) -> Response:
    """Of the coordinator, or of `worker` (a name of `GET /admin/workers`); one at a time, for at most five minutes."""
    by = ctx.auth.operator(request)
    body = await read_body(request, ProfileBody, limit_bytes=SMALL_BODY_BYTES, optional=True)
    profile = await ctx.service.start_profile(
        worker=body.worker, duration_seconds=body.duration_seconds, by=by
    )
    started = ProfileStarted(
        status="running",
        target=profile.target,
        duration_seconds=profile.duration_s,
        started_at=rfc3339(profile.started_ms),
        sampler=profile.sampler,
    )
    return answer(started)


@router.get(
    "/result",
    **describe(
        "The latest profile",
        answers={200: None},
        errors=(ErrorCode.NOT_FOUND, ErrorCode.PROFILE_FAILED),
        media_type=MEDIA_TYPE,
    ),
)
async def profile_result(request: Request, ctx: Ctx) -> Response:
    """A gzipped pprof profile; while it runs, the answer waits for its end."""
    ctx.require_admin_reader(request)
    profile = await ctx.service.profiler.result()
    headers = {"content-disposition": 'attachment; filename="profile.pb.gz"'}
    return Response(profile, media_type=MEDIA_TYPE, headers=headers)
