"""Every agent in a line, a page at a time."""

from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from coordinator.answers_admin import AgentLine
from coordinator.core.errors import ErrorCode
from coordinator.core.speculation import in_rollout
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.pages import Cursor, page
from coordinator.http.wire import answer, rfc3339

router = APIRouter(prefix="/admin", tags=["agents"])

MAX_AGENTS = 1_000


@router.get(
    "/agents",
    **describe(
        "The agents",
        answers={200: list[AgentLine]},
        example=[
            AgentLine(
                agent_id="agent-1",
                in_rollout=True,
                cooldown_until=None,
                open_operations=2,
                live_commitments=2,
                balance_lamports=10_000_000,
                bonded_lamports=2_100_000,
                slashed_lamports=0,
            )
        ],
        errors=(ErrorCode.INVALID,),
    ),
)
async def agents(
    request: Request,
    ctx: Ctx,
    limit: Annotated[int, Query(ge=1, le=MAX_AGENTS)] = 100,
    cursor: Cursor = None,
) -> Response:
    """In order of registration; a `Link` header leads to the next page."""
    ctx.require_admin_reader(request)
    first = 0 if cursor is None else cursor + 1
    numbered = enumerate(islice(ctx.state.agents.values(), first, None), start=first)
    shown, headers = page(numbered, limit=limit, place=lambda one: one[0], request=request)
    config = ctx.engine.config
    lines = [
        AgentLine(
            agent_id=agent.agent_id,
            in_rollout=in_rollout(agent, config),
            cooldown_until=rfc3339(agent.cooldown_until_ms) if agent.cooldown_until_ms else None,
            open_operations=agent.open_operations,
            live_commitments=agent.commitments,
            balance_lamports=agent.balance_lamports,
            bonded_lamports=agent.bonded_lamports,
            slashed_lamports=agent.slashed_lamports,
        )
        for _, agent in shown
    ]
    return answer(lines, headers=headers)
