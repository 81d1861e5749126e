"""The integrity check: the log's hashes, the invariants, and the agreement with the chain."""

import asyncio
from typing import TYPE_CHECKING, Any

from coordinator.chain.interface import ChainError
from coordinator.core.invariants import check
from coordinator.shell.settling import TREASURY, account_of
from coordinator.store.errors import LogCorrupted, StoreError

if TYPE_CHECKING:
    from coordinator.shell.assembly import Parts

_NAMED = 20
"""Differences that the answer lists of one kind; it says how many there are."""
_LOOKS = 5
"""How often balances are looked at, while postings come in between."""

OK, CORRUPTED = "ok", "corrupted"


async def check_all(parts: "Parts") -> dict[str, Any]:
    """Everything, now. `status` is `corrupted` when the log is not what was written, an invariant does not hold, or
    the chain differs in a way that no outage, backlog or broken promise of the chain's explains.

    What is found of the log stops all writes, as it would at a start.
    """
    log = await _log(parts)
    invariants = {item.name: item for item in check(parts.engine.state)}
    chain = await _chain(parts)
    broken = [f"{item.name}: {item.detail}" for item in invariants.values() if not item.ok]
    damage = [] if log["ok"] else [f"log, at event {log['at_event']}: {log['detail']}"]
    problems = damage + broken + chain.get("differences", [])
    return {
        "status": CORRUPTED if problems else OK,
        "problems": problems[:_NAMED],
        "log": log,
        "invariants": {name: item.ok for name, item in invariants.items()},
        "stake_conserved": invariants["stake_conservation"].ok,
        "chain": chain,
    }


async def _log(parts: "Parts") -> dict[str, Any]:
    """The hash chain over archive and log, every archived byte, and what a start or a check found before."""
    try:
        report = await asyncio.to_thread(parts.log.verify)
    except StoreError as error:
        return {"ok": True, "checked": False, "detail": str(error)}
    found = report.corruption
    if found is None and isinstance(parts.log.fault, LogCorrupted):
        found = parts.log.fault  # what a fold or an opening found, in what the hashes do not tell
    if found is not None and parts.journal.read_only is None:
        parts.journal.stop(str(found))
    return {
        "ok": found is None,
        "checked": True,
        "events": report.events,
        "archived_segments": len(parts.log.archive.segments()),
        "at_event": None if found is None else found.seq,
        "detail": None if found is None else found.detail,
    }


async def _chain(parts: "Parts") -> dict[str, Any]:
    """What the chain holds against what memory holds, unless memory is not what the log says."""
    if parts.journal.read_only is not None:
        return {"checked": False, "detail": parts.journal.read_only}
    try:
        tasks, explained = await _tasks(parts)
        compared, balances = await _balances(parts)
    except ChainError as error:
        return {"checked": False, "detail": str(error)}
    differences = tasks + balances + parts.settling.refused
    return {
        "checked": True,
        "balances_compared": compared,
        "differences": differences[:_NAMED],
        "number_of_differences": len(differences),
        "undone_by_the_chain": explained[:_NAMED],
    }


async def _tasks(parts: "Parts") -> tuple[list[str], list[str]]:
    """Tasks that are confirmed here and not on chain; apart, those that the chain undid after it had confirmed them,
    which are posted again.
    """
    state = parts.engine.state
    # What memory confirmed was confirmed on chain before; what it owes the chain is asked first.
    confirmed = dict(state.confirmed_tasks)
    batches = await asyncio.to_thread(parts.chain.confirmed)
    unnoticed = await asyncio.to_thread(parts.chain.undone)
    undone = {
        operation_id
        for batch in state.ended_batches.values()
        if batch.reorged or batch.reposting or batch.transaction in unnoticed
        for operation_id in batch.operation_ids
    }
    on_chain = {operation.task_id for batch in batches for operation in batch.operations}
    missing = [(task, operation_id) for task, operation_id in confirmed.items() if task not in on_chain]
    return (
        [f"task {task!r} is confirmed here, not on chain" for task, one in missing if one not in undone],
        [f"task {task!r} was undone" for task, one in missing if one in undone],
    )


async def _balances(parts: "Parts") -> tuple[bool, list[str]]:
    """Whether the ledger stood still for long enough to be compared, and the accounts that differ then."""
    state, settling, journal = parts.engine.state, parts.settling, parts.journal
    for _ in range(_LOOKS):
        await journal.settled()
        heard = settling.heard
        expected = {account_of(agent.agent_id): agent.balance_lamports for agent in state.agents.values()}
        expected[TREASURY] = state.totals.treasury_lamports
        still = not settling.waiting and not journal.pending
        balances = await asyncio.to_thread(parts.chain.balances)
        if still and heard == settling.heard:
            return True, [
                f"{account} has {lamports} lamports here, {balances.get(account, 0)} on chain"
                for account, lamports in expected.items()
                if balances.get(account, 0) != lamports
            ]
    return False, []
