"""Tasks: registration with a constraint that is enforced, and claims that expire."""

from fastapi import APIRouter, Request, Response

from coordinator.answers import ClaimAnswer, ClaimBody, TaskAnswer, TaskBody
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body, rfc3339, whole
from coordinator.submission import parse_digest

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])


@router.post(
    "",
    **describe(
        "Register a task",
        body=TaskBody,
        body_example=TaskBody(task_id="summary-7", constraint_hash="00" * 32, claim_ttl_s=600),
        answers={201: TaskAnswer},
        example=TaskAnswer(task_id="summary-7", constraint_hash="00" * 32, depends_on=(), claim_ttl_s=600),
        errors=(ErrorCode.INVALID, ErrorCode.ID_CONFLICT, ErrorCode.UNAUTHORIZED, ErrorCode.READ_ONLY),
        secured=True,
    ),
)
async def register_task(request: Request, ctx: Ctx) -> Response:
    """With any token. From then on an output that does not hash to `constraint_hash` is refused."""
    caller = ctx.auth.anyone(request)
    body = await read_body(request, TaskBody, limit_bytes=SMALL_BODY_BYTES)
    hash_text = body.constraint_hash
    constraint = None if hash_text is None else parse_digest(hash_text, field="constraint_hash")
    await ctx.service.register_task(body.task_id, constraint, body.depends_on, body.claim_ttl_s)
    await ctx.record(caller.operator, "register_task", task_id=body.task_id)
    registered = TaskAnswer(
        task_id=body.task_id,
        constraint_hash=hash_text,
        depends_on=body.depends_on,
        claim_ttl_s=None if body.claim_ttl_s is None else whole(body.claim_ttl_s),
    )
    return answer(registered, status=201)


@router.post(
    "/{task_id}/claim",
    **describe(
        "Claim a task",
        body=ClaimBody,
        body_required=False,
        answers={200: ClaimAnswer},
        example=ClaimAnswer(claim_expires_at="2026-01-31T12:00:00.000Z"),
        errors=(
            ErrorCode.UNKNOWN_TASK,
            ErrorCode.TASK_CLAIMED,
            ErrorCode.TASK_CONFIRMED,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.FORBIDDEN,
        ),
        secured=True,
    ),
)
async def claim_task(request: Request, ctx: Ctx, task_id: str) -> Response:
    """For the token's agent; an operator names the agent in the body."""
    caller = ctx.auth.anyone(request)
    body = await read_body(request, ClaimBody, limit_bytes=SMALL_BODY_BYTES, optional=True)
    agent_id = body.agent_id or caller.agent_id
    if agent_id is None:
        raise CoreError(ErrorCode.INVALID, "agent_id: an operator has to name the agent", field="agent_id")
    if not caller.may_act_for(agent_id):
        raise CoreError(ErrorCode.FORBIDDEN, f"the token does not belong to {agent_id}", field="agent_id")
    expires_ms = await ctx.service.claim_task(task_id, agent_id)
    await ctx.record(caller.operator, "claim_task", task_id=task_id, agent_id=agent_id)
    return answer(ClaimAnswer(claim_expires_at=rfc3339(expires_ms)))
