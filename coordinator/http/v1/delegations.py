"""Delegation: an agent lets another bond on its balance, and bears the slash."""

from fastapi import APIRouter, Request, Response

from coordinator.answers_stake import DelegateBody, DelegationAnswer, Delegations
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.records import Agent
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body

router = APIRouter(prefix="/v1/agents", tags=["agents"])

_EXAMPLE = Delegations(
    agent_id="agent-1",
    active=True,
    given=(
        DelegationAnswer(
            delegator_id="agent-1", agent_id="agent-2", cap_lamports=5_000_000, used_lamports=1_100_000
        ),
    ),
    received=(),
)


@router.post(
    "/{agent_id}/delegate",
    **describe(
        "Let an agent bond on this one's balance",
        body=DelegateBody,
        body_example=DelegateBody(agent_id="agent-2", cap_lamports=5_000_000),
        answers={200: Delegations},
        example=_EXAMPLE,
        errors=(
            ErrorCode.INVALID,
            ErrorCode.UNKNOWN_AGENT,
            ErrorCode.UNAUTHORIZED,
            ErrorCode.FORBIDDEN,
            ErrorCode.READ_ONLY,
        ),
        secured=True,
    ),
)
async def delegate(request: Request, ctx: Ctx, agent_id: str) -> Response:
    """With the delegator's token or the operator's. It bonds where the agent's own balance does not, up to the
    cap, while `speculation.features.enable_stake_delegation` is on; a slash takes from the delegator's bond.
    """
    ctx.auth.acting_for(request, agent_id)
    body = await read_body(request, DelegateBody, limit_bytes=SMALL_BODY_BYTES)
    await ctx.service.delegate(agent_id, body.agent_id, body.cap_lamports)
    return answer(_view(ctx, _agent(ctx, agent_id)))


@router.get(
    "/{agent_id}/delegations",
    **describe(
        "An agent's delegations",
        answers={200: Delegations},
        example=_EXAMPLE,
        errors=(ErrorCode.UNKNOWN_AGENT,),
    ),
)
async def delegations(request: Request, ctx: Ctx, agent_id: str) -> Response:
    """What it lets others bond, and what others let it bond; `used` is bonded now."""
    ctx.require_reader(request)
    return answer(_view(ctx, _agent(ctx, agent_id)))


def _agent(ctx: Context, agent_id: str) -> Agent:
    agent = ctx.state.agents.get(agent_id)
    if agent is None:
        raise CoreError(ErrorCode.UNKNOWN_AGENT, f"no agent {agent_id[:128]}")
    return agent


def _view(ctx: Context, agent: Agent) -> Delegations:
    given = [
        _delegation(agent.agent_id, other)
        for other in ctx.state.agents.values()
        if agent.agent_id in other.delegators
    ]
    return Delegations(
        agent_id=agent.agent_id,
        active=ctx.engine.config.stake_delegation,
        given=tuple(given),
        received=tuple(_delegation(delegator_id, agent) for delegator_id in agent.delegators),
    )


def _delegation(delegator_id: str, agent: Agent) -> DelegationAnswer:
    delegation = agent.delegators[delegator_id]
    return DelegationAnswer(
        delegator_id=delegator_id,
        agent_id=agent.agent_id,
        cap_lamports=delegation.cap_lamports,
        used_lamports=delegation.used_lamports,
    )
