"""Stuck stake: whose it is, and how it gets free again (see `core/stuck.py` for what counts as stuck)."""

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from coordinator.answers_stake import (
    MAX_AGENT_IDS,
    RecoveredAgent,
    RecoveredStake,
    RecoverStakeBody,
    StuckAgent,
    StuckStake,
)
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.stuck import StakeRecovery, stuck_bonds
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.wire import SMALL_BODY_BYTES, answer, read_body

router = APIRouter(prefix="/admin/stake", tags=["stake"])

_SAMPLE_IDS = 20
_WRITE_ERRORS = (ErrorCode.INVALID, ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.READ_ONLY)
_RECOVERED = RecoveredStake(
    returned_lamports=1_000_000,
    pending_lamports=0,
    results=(
        RecoveredAgent(
            agent_id="agent1", verdict="recovered", returned_lamports=1_000_000, rolled_back=("op-1",)
        ),
        RecoveredAgent(agent_id="agent2", verdict="unknown_agent"),
    ),
)


@router.get(
    "/stuck",
    **describe(
        "Stake that is stuck",
        answers={200: StuckStake},
        example=StuckStake(
            stuck_lamports=1_000_000,
            operations=1,
            affected_agents=1,
            older_than_seconds=30.0,
            agents=(
                StuckAgent(
                    agent_id="agent-1",
                    operations=1,
                    stuck_lamports=1_000_000,
                    oldest_seconds=95.2,
                    operation_ids=("op-1",),
                ),
            ),
        ),
    ),
)
async def stuck_stake(request: Request, ctx: Ctx) -> Response:
    """Bonds of operations that have not moved for longer than `confirmation_timeout_ms`, by agent."""
    ctx.require_admin_reader(request)
    now_ms = ctx.service.now_ms()
    agents = [
        StuckAgent(
            agent_id=agent_id,
            operations=len(operations),
            stuck_lamports=sum(one.bond_lamports for one in operations),
            oldest_seconds=(now_ms - min(one.timeline[-1][0] for one in operations)) / 1_000,
            operation_ids=tuple(one.operation_id for one in operations[:_SAMPLE_IDS]),
        )
        for agent_id, operations in stuck_bonds(ctx.engine, now_ms=now_ms).items()
    ]
    agents.sort(key=lambda agent: (-agent.stuck_lamports, agent.agent_id))
    return answer(
        StuckStake(
            stuck_lamports=sum(agent.stuck_lamports for agent in agents),
            operations=sum(agent.operations for agent in agents),
            affected_agents=len(agents),
            older_than_seconds=ctx.engine.config.confirmation_timeout_ms / 1_000,
            agents=tuple(agents[:MAX_AGENT_IDS]),
        )
    )


@router.post(
    "/recover",
    **describe(
        "Free agents' stuck stake",
        body=RecoverStakeBody,
        body_example=RecoverStakeBody(agent_ids=("agent1", "agent2")),
        answers={200: RecoveredStake},
        example=_RECOVERED,
        errors=_WRITE_ERRORS,
        secured=True,
    ),
)
async def recover(request: Request, ctx: Ctx) -> Response:
    """Rolls the stuck operations back, descendants first; nobody is slashed. A verdict for each id."""
    by = ctx.auth.operator(request)
    body = await read_body(request, RecoverStakeBody, limit_bytes=SMALL_BODY_BYTES)
    return _answer(await ctx.service.recover_stake(body.agent_ids, by=by))


@router.post(
    "/recover-all",
    **describe(
        "Free all stuck stake",
        answers={200: RecoveredStake},
        example=_RECOVERED,
        errors=_WRITE_ERRORS,
        secured=True,
    ),
)
async def recover_all(request: Request, ctx: Ctx) -> Response:
    """The same for every agent that has some. A body is not looked at."""
    by = ctx.auth.operator(request)
    return _answer(await ctx.service.recover_stake(None, by=by))


def _answer(verdicts: Mapping[str, StakeRecovery | CoreError]) -> Response:
    results = tuple(_verdict(agent_id, one) for agent_id, one in verdicts.items())
    return answer(
        RecoveredStake(
            returned_lamports=sum(one.returned_lamports for one in results),
            pending_lamports=sum(one.pending_lamports for one in results),
            results=results,
        )
    )


def _verdict(agent_id: str, outcome: StakeRecovery | CoreError) -> RecoveredAgent:
    if isinstance(outcome, CoreError):
        return RecoveredAgent(agent_id=agent_id, verdict=outcome.code.value)
    verdict = "recovered" if outcome.rolled_back else "pending" if outcome.pending else "nothing_stuck"
    return RecoveredAgent(
        agent_id=agent_id,
        verdict=verdict,
        returned_lamports=outcome.returned_lamports,
        pending_lamports=outcome.pending_lamports,
        rolled_back=outcome.rolled_back,
        pending=outcome.pending,
    )
