"""Recovery: the state rebuilt in the serving process, how far that is, and new tokens for agents that lost theirs."""

from fastapi import APIRouter, Request, Response

from coordinator.answers_recovery import LossesAnswer, RecoveryAnswer, RecoveryBody, TokenAnswer, TokenBody
from coordinator.core.errors import ErrorCode
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body, rfc3339
from coordinator.shell.recovery import Rebuild, RecoveryStatus, require_known
from coordinator.submission import parse_digest
from coordinator.tokens import Scope

router = APIRouter(prefix="/admin", tags=["recovery"])

_EXAMPLE = RecoveryAnswer(
    status="done",
    step="",
    started_at="2026-01-31T12:00:00.000Z",
    ended_at="2026-01-31T12:00:07.000Z",
    source="chain",
    detail="",
    set_aside="damaged/2026-01-31T12-00-00.000000",
    agents=2,
    confirmed_operations=970,
    losses=LossesAnswer(
        operations=("op-2",), number_of_operations=1, released_lamports=1_100_000, agents_without_token=()
    ),
)


@router.post(
    "/recovery",
    **describe(
        "Rebuild the state",
        body=RecoveryBody,
        body_example=RecoveryBody(action="rebuild_state", from_slot="latest_confirmed"),
        answers={202: RecoveryAnswer},
        example=_EXAMPLE,
        errors=(ErrorCode.INVALID, ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN),
        secured=True,
    ),
)
async def recover(request: Request, ctx: Ctx) -> Response:
    """From the log where all of it holds, else from the chain: then balances, treasury, nullifiers and confirmed
    statements return, and what was not confirmed is lost and listed. Writes are refused meanwhile. A rebuild that goes
    on already is not begun a second time.
    """
    by = ctx.auth.operator(request)
    body = await read_body(request, RecoveryBody, limit_bytes=SMALL_BODY_BYTES)
    require_known(body.action, body.from_slot)
    rebuild = ctx.service.parts.recovery.start_rebuild(by=by)
    return answer(_view(rebuild), status=202)


@router.get(
    "/recovery/status",
    **describe("How far a rebuild is", answers={200: RecoveryAnswer}, example=_EXAMPLE),
)
async def recovery_status(request: Request, ctx: Ctx) -> Response:
    """`idle` before the first rebuild, `in_progress` while one goes on, then `done` or `failed`."""
    ctx.require_admin_reader(request)
    return answer(_view(ctx.service.parts.recovery.rebuild))


@router.post(
    "/agent/{agent_id}/token",
    **describe(
        "Give an agent a new token",
        body=TokenBody,
        body_required=False,
        body_example=TokenBody(),
        answers={200: TokenAnswer},
        example=TokenAnswer(agent_id="agent-1", token="shown this once"),
        errors=(
            ErrorCode.INVALID,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.FORBIDDEN,
            ErrorCode.UNKNOWN_AGENT,
            ErrorCode.READ_ONLY,
        ),
        scope=Scope.ADMIN,
    ),
)
async def issue_token(request: Request, ctx: Ctx, agent_id: str) -> Response:
    """For an agent that lost its own, or whose token a rebuild could not find; the old one is void. Needs a token of
    scope `admin`.
    """
    by = ctx.auth.operator(request, Scope.ADMIN)
    body = await read_body(request, TokenBody, limit_bytes=SMALL_BODY_BYTES, optional=True)
    key = None if body.agent_key is None else parse_digest(body.agent_key, field="agent_key")
    token = await ctx.service.issue_token(agent_id, key, by)
    return answer(TokenAnswer(agent_id=agent_id, token=token))


def _view(rebuild: Rebuild) -> RecoveryAnswer:
    losses = rebuild.losses
    done = rebuild.status is RecoveryStatus.DONE
    return RecoveryAnswer(
        status=rebuild.status,
        step=rebuild.step,
        started_at=None if rebuild.started_at_ms is None else rfc3339(rebuild.started_at_ms),
        ended_at=None if rebuild.ended_at_ms is None else rfc3339(rebuild.ended_at_ms),
        source=rebuild.source,
        detail=rebuild.detail,
        set_aside=rebuild.set_aside,
        agents=rebuild.agents if done else None,
        confirmed_operations=rebuild.confirmed_operations if done else None,
        losses=None
        if losses is None
        else LossesAnswer(
            operations=losses.operations,
            number_of_operations=losses.number_of_operations,
            released_lamports=losses.released_lamports,
            agents_without_token=losses.agents,
        ),
    )
