"""The integrity check: the log's hashes, the invariants, and the agreement with the chain."""

import asyncio
from typing import TYPE_CHECKING, Any

from coordinator.chain.interface import ChainError
from coordinator.core.invariants import check
from coordinator.shell.settling import TREASURY, account_of

if TYPE_CHECKING:
    from coordinator.shell.assembly import Parts

_NAMED = 20
"""Differences that the answer lists of one kind; it says how many there are."""

OK, CORRUPTED = "ok", "corrupted"


async def check_all(parts: "Parts") -> dict[str, Any]:
    """Everything, now. `status` is `corrupted` when the log is not what was written or an invariant does not hold;
    differences from the chain are listed, and make it `corrupted` only where no outage or backlog explains them.
    """
    report = await asyncio.to_thread(parts.log.verify)
    invariants = {item.name: item for item in check(parts.engine.state)}
    chain = await _chain(parts)
    broken = [f"{item.name}: {item.detail}" for item in invariants.values() if not item.ok]
    problems = ([] if report.ok else [str(report.corruption)]) + broken + chain.get("differences", [])
    return {
        "status": CORRUPTED if problems else OK,
        "problems": problems[:_NAMED],
        "log": {
            "ok": report.ok,
            "events": report.events,
            "at_event": None if report.corruption is None else report.corruption.seq,
            "detail": None if report.corruption is None else report.corruption.detail,
        },
        "invariants": {name: item.ok for name, item in invariants.items()},
        "stake_conserved": invariants["stake_conservation"].ok,
        "chain": chain,
    }


async def _chain(parts: "Parts") -> dict[str, Any]:
    """What the chain holds against what memory holds. Postings that wait are not differences."""
    state, settling = parts.engine.state, parts.settling
    # What memory confirmed was confirmed on chain before; what it owes the chain is asked first.
    confirmed = dict(state.confirmed_tasks)
    settled = not settling.waiting
    expected = {account_of(agent.agent_id): agent.balance_lamports for agent in state.agents.values()}
    expected[TREASURY] = state.totals.treasury_lamports
    try:
        balances = await asyncio.to_thread(parts.chain.balances)
        batches = await asyncio.to_thread(parts.chain.confirmed)
    except ChainError as error:
        return {"checked": False, "detail": str(error)}
    on_chain = {operation.task_id for batch in batches for operation in batch.operations}
    differences = [
        f"task {task!r} is confirmed here, not on chain" for task in confirmed if task not in on_chain
    ]
    if settled:
        differences += [
            f"{account} has {lamports} lamports here, {balances.get(account, 0)} on chain"
            for account, lamports in expected.items()
            if balances.get(account, 0) != lamports
        ]
    differences += settling.refused
    return {
        "checked": True,
        "balances_compared": settled,
        "differences": differences[:_NAMED],
        "number_of_differences": len(differences),
    }
