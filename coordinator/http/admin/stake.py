"""Stake: where all of it is, and every slash with its reason."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from coordinator.answers_admin import SlashAnswer, StakeStatus
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.records import SlashRecord
from coordinator.http.context import Ctx
from coordinator.http.openapi import describe
from coordinator.http.pages import Cursor, page
from coordinator.http.wire import answer, rfc3339
from coordinator.metrics_samples import stake_utilization

router = APIRouter(prefix="/admin", tags=["stake"])

MAX_SLASHES = 1_000

_SLASH_EXAMPLE = SlashAnswer(
    slash_id="slash-1",
    operation_id="op-2",
    agent_id="agent-1",
    bonded_by="agent-1",
    reason="constraint_mismatch",
    detail="the chain's registry says otherwise",
    at="2026-01-31T12:00:00.000Z",
    bond_lamports=1_100_000,
    slashed_lamports=110_000,
    victims={"agent-2": 55_000},
    treasury_lamports=55_000,
    cooldown_until="2026-01-31T12:01:00.000Z",
)


@router.get(
    "/stake/status",
    **describe(
        "Where the stake is",
        answers={200: StakeStatus},
        example=StakeStatus(
            locked_lamports=1_000_000,
            free_lamports=9_000_000,
            treasury_lamports=0,
            deposited_lamports=10_000_000,
            withdrawn_lamports=0,
            slashed_lamports=0,
            utilization=0.1,
            agents=1,
            agents_with_locked_stake=1,
            conserved=True,
        ),
    ),
)
async def stake_status(request: Request, ctx: Ctx) -> Response:
    """Deposited = withdrawn + free + locked + treasury at every instant: `conserved` says if it holds."""
    ctx.require_admin_reader(request)
    state = ctx.state
    totals, agents = state.totals, state.agents.values()
    locked = sum(agent.bonded_lamports for agent in agents)
    free = sum(agent.free_lamports for agent in agents)
    kept = totals.withdrawn_lamports + free + locked + totals.treasury_lamports
    status = StakeStatus(
        locked_lamports=locked,
        free_lamports=free,
        treasury_lamports=totals.treasury_lamports,
        deposited_lamports=totals.deposited_lamports,
        withdrawn_lamports=totals.withdrawn_lamports,
        slashed_lamports=sum(totals.slashed_by_reason.values()),
        utilization=stake_utilization(state),
        agents=len(agents),
        agents_with_locked_stake=sum(1 for agent in agents if agent.bonded_lamports),
        conserved=kept == totals.deposited_lamports and locked == state.locked_lamports,
    )
    return answer(status)


@router.get(
    "/slashes",
    **describe(
        "The latest slashes",
        answers={200: list[SlashAnswer]},
        example=[_SLASH_EXAMPLE],
        errors=(ErrorCode.INVALID,),
    ),
)
async def slashes(
    request: Request,
    ctx: Ctx,
    limit: Annotated[int, Query(ge=1, le=MAX_SLASHES)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first; a `Link` header leads to the next page."""
    ctx.require_admin_reader(request)
    records = reversed(ctx.state.slashes.values())
    behind = records if cursor is None else (record for record in records if _number(record) < cursor)
    shown, headers = page(behind, limit=limit, place=_number, request=request)
    return answer([_slash_view(record) for record in shown], headers=headers)


@router.get(
    "/slash/{slash_id}",
    **describe(
        "One slash",
        answers={200: SlashAnswer},
        example=_SLASH_EXAMPLE,
        errors=(ErrorCode.NOT_FOUND,),
    ),
)
async def slash(request: Request, ctx: Ctx, slash_id: str) -> Response:
    """What was taken from whom for which fault, and where it went."""
    ctx.require_admin_reader(request)
    record = ctx.state.slashes.get(slash_id)
    if record is None:
        raise CoreError(ErrorCode.NOT_FOUND, f"no slash {slash_id[:128]} is kept")
    return answer(_slash_view(record))


def _number(record: SlashRecord) -> int:
    """Slashes are numbered in their order (`slash-1`, …)."""
    return int(record.slash_id.rpartition("-")[2])


def _slash_view(record: SlashRecord) -> SlashAnswer:
    return SlashAnswer(
        slash_id=record.slash_id,
        operation_id=record.operation_id,
        agent_id=record.agent_id,
        bonded_by=record.bonded_by,
        reason=record.code,
        detail=record.detail,
        at=rfc3339(record.at_ms),
        bond_lamports=record.bond_lamports,
        slashed_lamports=record.lamports,
        victims=dict(record.victims),
        treasury_lamports=record.treasury_lamports,
        cooldown_until=rfc3339(record.cooldown_until_ms),
    )
