"""Agents: registration, stake in and out, and how they stand."""

from fastapi import APIRouter, Request, Response

from coordinator.answers import AgentAnswer, AgentBody, LamportsBody, RegisteredAgent
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.speculation import in_rollout
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.views import agent_view
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body
from coordinator.submission import parse_digest
from coordinator.tokens import Scope

router = APIRouter(prefix="/v1/agents", tags=["agents"])

_EXAMPLE = AgentAnswer(
    agent_id="agent-1",
    agent_key="00" * 32,
    balance_lamports=10_000_000,
    bonded_lamports=1_000_000,
    slashed_lamports=0,
    cooldown_until=None,
    in_rollout=True,
)


@router.post(
    "",
    **describe(
        "Register an agent",
        body=AgentBody,
        body_example=AgentBody(agent_id="agent-1", agent_key="00" * 32, deposit_lamports=10_000_000),
        answers={201: RegisteredAgent},
        example=RegisteredAgent(
            agent_id="agent-1", token="shown once", balance_lamports=10_000_000, in_rollout=True
        ),
        errors=(ErrorCode.INVALID, ErrorCode.ID_CONFLICT, ErrorCode.UNAUTHORIZED, ErrorCode.READ_ONLY),
        secured=True,
    ),
)
async def register_agent(request: Request, ctx: Ctx) -> Response:
    """Needs the operator's token unless `agents.open_registration`; answers the agent's own token, once."""
    by = None
    if not ctx.settings.flag("agents.open_registration"):
        by = ctx.auth.operator(request, Scope.ADMIN)
    body = await read_body(request, AgentBody, limit_bytes=SMALL_BODY_BYTES)
    key = parse_digest(body.agent_key, field="agent_key")
    token = await ctx.service.register_agent(body.agent_id, key, body.deposit_lamports)
    lamports = body.deposit_lamports
    await ctx.record(by, "register_agent", agent_id=body.agent_id, deposit_lamports=lamports)
    agent = ctx.state.agents[body.agent_id]
    registered = RegisteredAgent(
        agent_id=agent.agent_id,
        token=token,
        balance_lamports=agent.balance_lamports,
        in_rollout=in_rollout(agent, ctx.engine.config),
    )
    return answer(registered, status=201)


@router.get(
    "/{agent_id}",
    **describe(
        "An agent's stake", answers={200: AgentAnswer}, example=_EXAMPLE, errors=(ErrorCode.UNKNOWN_AGENT,)
    ),
)
async def get_agent(request: Request, ctx: Ctx, agent_id: str) -> Response:
    """Balance (free and bonded), bonded, slashed, and until when a slash denies speculation."""
    ctx.require_reader(request)
    return _agent_answer(ctx, agent_id)


@router.post(
    "/{agent_id}/deposit",
    **describe(
        "Add to an agent's stake",
        body=LamportsBody,
        body_example=LamportsBody(lamports=1_000_000),
        answers={200: AgentAnswer},
        example=_EXAMPLE,
        errors=(ErrorCode.INVALID, ErrorCode.UNKNOWN_AGENT, ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN),
        secured=True,
    ),
)
async def deposit(request: Request, ctx: Ctx, agent_id: str) -> Response:
    """With the agent's token or the operator's."""
    caller = ctx.auth.acting_for(request, agent_id)
    body = await read_body(request, LamportsBody, limit_bytes=SMALL_BODY_BYTES)
    await ctx.service.deposit(agent_id, body.lamports)
    await ctx.record(caller.operator, "deposit", agent_id=agent_id, lamports=body.lamports)
    return _agent_answer(ctx, agent_id)


@router.post(
    "/{agent_id}/withdraw",
    **describe(
        "Take from an agent's free stake",
        body=LamportsBody,
        body_example=LamportsBody(lamports=1_000_000),
        answers={200: AgentAnswer},
        example=_EXAMPLE,
        errors=(
            ErrorCode.INVALID,
            ErrorCode.UNKNOWN_AGENT,
            ErrorCode.STAKE_INSUFFICIENT,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.FORBIDDEN,
        ),
        secured=True,
    ),
)
async def withdraw(request: Request, ctx: Ctx, agent_id: str) -> Response:
    """With the agent's token or the operator's; what is bonded stays."""
    caller = ctx.auth.acting_for(request, agent_id)
    body = await read_body(request, LamportsBody, limit_bytes=SMALL_BODY_BYTES)
    await ctx.service.withdraw(agent_id, body.lamports)
    await ctx.record(caller.operator, "withdraw", agent_id=agent_id, lamports=body.lamports)
    return _agent_answer(ctx, agent_id)


def _agent_answer(ctx: Context, agent_id: str) -> Response:
    agent = ctx.state.agents.get(agent_id)
    if agent is None:
        raise CoreError(ErrorCode.UNKNOWN_AGENT, f"no agent {agent_id[:128]}")
    return answer(agent_view(agent, ctx.engine.config))
