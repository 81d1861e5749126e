"""One agent's speculation and its rollbacks."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from coordinator.answers_admin import AgentSpeculation, RolledBack
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.records import Agent, Operation
from coordinator.core.speculation import in_rollout
from coordinator.core.states import OperationState
from coordinator.http.context import Context, Ctx
from coordinator.http.openapi import describe
from coordinator.http.pages import page
from coordinator.http.wire import answer, rfc3339

router = APIRouter(prefix="/admin/agent", tags=["agents"])

MAX_ROLLBACKS = 1_000
#: A rollback's place: when it ended, and its number.
_PLACE = r"^[0-9]{1,15}-[0-9]{1,15}$"

_EXAMPLE = AgentSpeculation(
    agent_id="agent-1",
    in_rollout=True,
    cooldown_until=None,
    live_commitments=2,
    active_branches=1,
    open_operations=2,
    balance_lamports=10_000_000,
    bonded_lamports=2_100_000,
    slashed_lamports=0,
    by_type={"summarise": {"admitted": 12, "confirmed": 9, "rolled_back": 1, "failed": 0}},
)


@router.get(
    "/{agent_id}/speculation",
    **describe(
        "An agent's speculation",
        answers={200: AgentSpeculation},
        example=_EXAMPLE,
        errors=(ErrorCode.UNKNOWN_AGENT,),
    ),
)
async def agent_speculation(request: Request, ctx: Ctx, agent_id: str) -> Response:
    """Whether it is in the rollout, what it has in flight, and what became of its operations by type."""
    ctx.require_admin_reader(request)
    agent = _agent(ctx, agent_id)
    view = AgentSpeculation(
        agent_id=agent.agent_id,
        in_rollout=in_rollout(agent, ctx.engine.config),
        cooldown_until=rfc3339(agent.cooldown_until_ms) if agent.cooldown_until_ms else None,
        live_commitments=agent.commitments,
        active_branches=agent.branches,
        open_operations=agent.open_operations,
        balance_lamports=agent.balance_lamports,
        bonded_lamports=agent.bonded_lamports,
        slashed_lamports=agent.slashed_lamports,
        by_type={name: msgspec.to_builtins(counts) for name, counts in agent.by_type.items()},
    )
    return answer(view)


@router.get(
    "/{agent_id}/rollbacks",
    **describe(
        "An agent's latest rollbacks",
        answers={200: list[RolledBack]},
        example=[
            RolledBack(
                operation_id="op-2",
                at="2026-01-31T12:00:00.000Z",
                reason="parent_rolled_back",
                cause="op-1",
                task_id="summary-7",
                operation_type="summarise",
                depth=1,
                replaced_by="op-3",
            )
        ],
        errors=(ErrorCode.UNKNOWN_AGENT, ErrorCode.INVALID),
    ),
)
async def agent_rollbacks(
    request: Request,
    ctx: Ctx,
    agent_id: str,
    limit: Annotated[int, Query(ge=1, le=MAX_ROLLBACKS)] = 100,
    cursor: Annotated[
        str | None, Query(pattern=_PLACE, description="Where the page before ended: its Link header has it.")
    ] = None,
) -> Response:
    """Newest first, of those that memory keeps; a `Link` header leads to the next page."""
    ctx.require_admin_reader(request)
    agent = _agent(ctx, agent_id)
    rolled_back = (
        operation
        for operation in reversed(ctx.state.ended.values())
        if operation.agent_id == agent.agent_id and operation.state is OperationState.ROLLED_BACK
    )
    behind = rolled_back if cursor is None else _behind(rolled_back, cursor)
    shown, headers = page(behind, limit=limit, place=_place, request=request)
    return answer([_rollback_view(operation) for operation in shown], headers=headers)


def _place(operation: Operation) -> str:
    """Many end at the same instant: the number tells them apart."""
    return f"{operation.timeline[-1][0]}-{operation.number}"


def _behind(newest_first: Iterable[Operation], cursor: str) -> Iterator[Operation]:
    """What follows the cursor; where memory has let go of that one, what ended before it."""
    last_ms = int(cursor.partition("-")[0])
    passed = False
    for operation in newest_first:
        ended_ms = operation.timeline[-1][0]
        if ended_ms < last_ms or (passed and ended_ms == last_ms):
            yield operation
        passed = passed or _place(operation) == cursor


def _rollback_view(operation: Operation) -> RolledBack:
    return RolledBack(
        operation_id=operation.operation_id,
        at=rfc3339(operation.timeline[-1][0]),
        reason=operation.reason,
        cause=operation.end_cause,
        task_id=operation.task_id,
        operation_type=operation.operation_type,
        depth=operation.depth,
        replaced_by=operation.replaced_by,
    )


def _agent(ctx: Context, agent_id: str) -> Agent:
    agent = ctx.state.agents.get(agent_id)
    if agent is None:
        raise CoreError(ErrorCode.UNKNOWN_AGENT, f"no agent {agent_id[:128]}")
    return agent
