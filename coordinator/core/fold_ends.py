"""The fold of the three ways to end: what becomes of bond, nullifier, children, batch, and of what is learned."""

from itertools import islice
from typing import TYPE_CHECKING

from coordinator.core.events import OperationFailed, OperationsRolledBack, Slash
from coordinator.core.fold_operations import block, count_branches, end_speculation, leave_queue, move
from coordinator.core.records import (
    OPERATION_OVERHEAD_BYTES,
    Agent,
    Operation,
    Orphans,
    OutcomeBucket,
    SlashRecord,
    TimelineEntry,
    TypeCounts,
    ema,
)
from coordinator.core.states import COMMANDED_ROLLBACKS, IN_BATCH, OperationState, RollbackReason

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

_S = OperationState
#: These say nothing about the operation itself, so the risk rule does not learn from them.
_INHERITED = frozenset({RollbackReason.PARENT_ROLLED_BACK, RollbackReason.PARENT_FAILED})
#: Counts fade by half when they reach this, so that what is learned follows an agent that changes.
FADE_AT = 64
#: Outcomes are kept by the second this long (rates over 5 minutes; the breaker's longest window).
_OUTCOME_SECONDS = 600
_ROLLBACK_MINUTES = 61
_COMPANY_WEIGHT = 1 / 16
_RETAINED_SLASHES = 10_000


def fold_rolled_back(state: "CoreState", event: OperationsRolledBack) -> None:
    """Operations ended through no fault of their own, descendants before ancestors."""
    finished = 0
    minute = state.rollback_minutes.get(event.at_ms // 60_000)
    if minute is None:
        minute = _new_minute(state, event.at_ms // 60_000)
    for operation_id, reason in zip(event.operation_ids, event.reasons, strict=True):
        operation = state.live[operation_id]
        commanded = event.commanded or reason in COMMANDED_ROLLBACKS
        _assert_leaves_first(state, operation, orphaned=event.orphans_until_ms is not None)
        _end(state, operation, (event.at_ms, _S.ROLLED_BACK, reason.value))
        operation.end_cause = event.cause
        if operation.committed:
            _return_bond(state, operation)
        if event.orphans_until_ms is not None:
            _orphan_children(state, operation, event.orphans_until_ms)
        counts = state.agents[operation.agent_id].counts(operation.operation_type)
        counts.rolled_back += 1
        state.totals.rolled_back += 1
        state.totals.rollbacks_by_reason[reason] += 1
        minute[reason] = minute.get(reason, 0) + 1
        if not commanded:
            finished += 1
            if reason not in _INHERITED:
                learn_bad(state, operation)
        _end_probe(state, operation_id, "" if commanded else f"a probe was rolled back: {reason}")
    if finished:
        record_outcomes(state, event.at_ms, finished=finished, rolled_back=finished)


def _assert_leaves_first(state: "CoreState", operation: Operation, *, orphaned: bool) -> None:
    if not orphaned:
        for child_id in operation.children:
            child = state.live.get(child_id)
            assert child is None or operation.operation_id not in child.parents, "a descendant outlived it"


def _orphan_children(state: "CoreState", operation: Operation, until_ms: int) -> None:
    children = tuple(
        child_id
        for child_id in operation.children
        if child_id in state.live and operation.operation_id in state.live[child_id].parents
    )
    if children:
        state.orphans[operation.operation_id] = Orphans(
            until_ms=until_ms,
            output_commitment=operation.output_commitment,
            rank=operation.rank,
            children=children,
        )


def _new_minute(state: "CoreState", minute: int) -> dict[RollbackReason, int]:
    for old in [known for known in state.rollback_minutes if known <= minute - _ROLLBACK_MINUTES]:
        del state.rollback_minutes[old]
    made: dict[RollbackReason, int] = {}
    state.rollback_minutes[minute] = made
    return made


def fold_failed(state: "CoreState", event: OperationFailed) -> None:
    """An operation ended by its own fault; its bond, where a slash took from it, is divided."""
    operation = state.live[event.operation_id]
    _assert_leaves_first(state, operation, orphaned=False)
    _end(state, operation, (event.at_ms, _S.FAILED, event.code.value))
    operation.failure, operation.end_cause = event.code, event.detail
    if event.slash is not None:
        _slash(state, operation, event, event.slash)
    elif operation.committed:
        _return_bond(state, operation)
    agent = state.agents[operation.agent_id]
    agent.counts(operation.operation_type).failed += 1
    state.totals.failed += 1
    state.totals.failures_by_code[event.code] += 1
    learn_bad(state, operation)
    record_outcomes(state, event.at_ms, finished=1, failed=1)
    _end_probe(state, event.operation_id, f"a probe failed: {event.code}")


def _slash(state: "CoreState", operation: Operation, event: OperationFailed, slash: Slash) -> None:
    shares = sum(share for _, share in slash.victims)
    assert slash.lamports == shares + slash.treasury_lamports, "a slash that does not add up"
    assert operation.committed
    assert 0 <= slash.lamports <= operation.bond_lamports, "a slash above the bond"
    payer = _release(state, operation)
    payer.slashed_lamports += slash.lamports
    payer.returned_lamports += operation.bond_lamports - slash.lamports
    payer.free_lamports += operation.bond_lamports - slash.lamports
    for agent_id, share in slash.victims:
        victim = state.agents[agent_id]
        victim.free_lamports += share
        victim.received_lamports += share
    state.totals.treasury_lamports += slash.treasury_lamports
    state.totals.slashed_by_reason[event.code] += slash.lamports
    state.totals.slashes += 1
    state.agents[operation.agent_id].cooldown_until_ms = slash.cooldown_until_ms
    operation.slash_id = slash.slash_id
    state.slashes[slash.slash_id] = SlashRecord(
        slash_id=slash.slash_id,
        operation_id=operation.operation_id,
        agent_id=operation.agent_id,
        bonded_by=operation.bonded_by,
        code=event.code,
        at_ms=event.at_ms,
        bond_lamports=operation.bond_lamports,
        lamports=slash.lamports,
        victims=slash.victims,
        treasury_lamports=slash.treasury_lamports,
        cooldown_until_ms=slash.cooldown_until_ms,
        detail=event.detail,
    )
    if len(state.slashes) > _RETAINED_SLASHES:
        del state.slashes[next(iter(state.slashes))]


def _release(state: "CoreState", operation: Operation) -> Agent:
    """Take the bond out of the bonded balance; the caller says where it goes."""
    agent = state.agents[operation.agent_id]
    payer = agent if operation.bonded_by == operation.agent_id else state.agents[operation.bonded_by]
    payer.bonded_lamports -= operation.bond_lamports
    if payer is not agent:
        delegation = agent.delegators[payer.agent_id]
        delegation.used_lamports -= operation.bond_lamports
        if not delegation.cap_lamports and not delegation.used_lamports:
            del agent.delegators[payer.agent_id]
    agent.commitments -= 1
    state.commitments -= 1
    state.locked_lamports -= operation.bond_lamports
    return payer


def _return_bond(state: "CoreState", operation: Operation) -> None:
    payer = _release(state, operation)
    payer.returned_lamports += operation.bond_lamports
    payer.free_lamports += operation.bond_lamports


def _end(state: "CoreState", operation: Operation, entry: TimelineEntry) -> None:
    """What every end has in common, but for the bond: the operation leaves queue, batch, graph and indexes."""
    operation_id = operation.operation_id
    before = operation.state
    if before is _S.QUEUED:
        leave_queue(state, operation)
    elif before in IN_BATCH:
        _leave_batch(state, operation)
    move(state, operation, entry)
    operation.ended_at_ms = entry[0]
    if state.held:
        state.held.pop(operation_id, None)
    if operation.speculative:
        for parent_id in operation.parents:
            parent = state.live.get(parent_id)
            if parent is not None:
                parent.granted_children -= 1
                if parent.speculative and not parent.granted_children:
                    count_branches(state, parent, 1)
        end_speculation(state, operation)
    if state.orphans:
        _leave_orphans(state, operation)
    del state.live[operation_id]
    state.depth_cache.pop(operation_id, None)
    state.lineage_cache.clear()
    _forget(state, operation)
    del state.live_nullifiers[operation.nullifier]


def _leave_orphans(state: "CoreState", operation: Operation) -> None:
    for parent_id in operation.parents:
        orphans = state.orphans.get(parent_id)
        if orphans is not None:
            orphans.children = tuple(one for one in orphans.children if one != operation.operation_id)
            if not orphans.children:
                del state.orphans[parent_id]


def _leave_batch(state: "CoreState", operation: Operation) -> None:
    """A member ends while its batch is in flight: live children (orphans, if any) are blocked by it from now on."""
    assert operation.batch_id is not None
    batch = state.batches[operation.batch_id]
    batch.lost += 1
    state.due.pop(batch.batch_id, None)
    del state.task_in_flight[operation.task_id]
    if operation.pending is not None:
        operation.pending = None
        batch.pending -= 1
    for child_id in operation.children:
        child = state.live.get(child_id)
        if child is not None and operation.operation_id in child.parents:
            block(state, child)


def _forget(state: "CoreState", operation: Operation) -> None:
    """Leave the indexes of the living, and join the ended ones, of which the oldest go when there are too many."""
    siblings = state.task_live[operation.task_id]
    if len(siblings) == 1:
        del state.task_live[operation.task_id]
    else:
        state.task_live[operation.task_id] = tuple(one for one in siblings if one != operation.operation_id)
    state.open_bytes -= operation.output_bytes + OPERATION_OVERHEAD_BYTES
    state.agents[operation.agent_id].open_operations -= 1
    ended = state.ended
    ended[operation.operation_id] = operation
    # In chunks: the first key of a dict whose front was deleted is slow to find.
    if len(ended) > state.retained + state.retained // 8 + 16:
        oldest = islice(ended.values(), len(ended) - state.retained)
        for old in [one.operation_id for one in oldest if one.batch_id not in state.reposting]:
            del ended[old]


def confirm(state: "CoreState", operation: Operation, entry: TimelineEntry) -> None:
    """The operation is final: its bond returns, its nullifier and task are spent, its children have one parent less.

    The batch calls this for its members, ancestors first, and does what is done once a batch.
    """
    operation_id = operation.operation_id
    assert operation.state is _S.SUBMITTING, f"{operation_id} confirmed in {operation.state}"
    assert not operation.unconfirmed, f"{operation_id} confirmed before its parents"
    operation.state = _S.CONFIRMED
    operation.timeline.append(entry)
    operation.ended_at_ms = entry[0]
    operation.pending = None
    del state.live[operation_id]
    state.confirmed_outputs[operation_id] = operation.output_commitment
    state.confirmed_tasks[operation.task_id] = operation_id
    del state.live_nullifiers[operation.nullifier]
    state.spent_nullifiers[operation.nullifier] = operation_id
    del state.task_in_flight[operation.task_id]
    if operation.committed:
        _return_bond(state, operation)
    _forget(state, operation)
    for child_id in operation.children:
        child = state.live.get(child_id)
        if child is None:
            continue
        child.unconfirmed -= 1
        if not child.unconfirmed:
            if child.speculative:
                end_speculation(state, child)
            if child.state is _S.QUEUED:
                state.ready.close(child)
    counts = state.agents[operation.agent_id].counts(operation.operation_type)
    counts.confirmed += 1
    counts.good += 1
    counts.company = ema(counts.company, bool(operation.children), weight=_COMPANY_WEIGHT)
    fade(counts)
    if state.breaker.probes and operation_id in state.breaker.probes:
        del state.breaker.probes[operation_id]
        state.breaker.probes_confirmed += 1


def _end_probe(state: "CoreState", operation_id: str, failure: str) -> None:
    breaker = state.breaker
    if breaker.probes and operation_id in breaker.probes:
        del breaker.probes[operation_id]
        breaker.probe_failure = breaker.probe_failure or failure


def learn_bad(state: "CoreState", operation: Operation) -> None:
    """An operation of this agent's type did not confirm, for the risk rule."""
    counts = state.agents[operation.agent_id].counts(operation.operation_type)
    counts.bad += 1
    fade(counts)
    state.totals.bad += 1
    fade_totals(state)


def fade(counts: TypeCounts) -> None:
    """Halve the counts when there are many."""
    if counts.good + counts.bad >= FADE_AT:
        counts.good //= 2
        counts.bad //= 2


def fade_totals(state: "CoreState") -> None:
    """Fade the counts of all agents together, likewise but more slowly; a batch may add thousands at once."""
    totals = state.totals
    while totals.good + totals.bad >= 4 * FADE_AT:
        totals.good //= 2
        totals.bad //= 2


def record_outcomes(
    state: "CoreState", at_ms: int, *, finished: int, rolled_back: int = 0, failed: int = 0
) -> None:
    """Count ends, for the rates and the breaker's window."""
    second = at_ms // 1_000
    for buckets in (state.outcomes, state.breaker.window):
        if not buckets or buckets[-1].second < second:
            buckets.append(OutcomeBucket(second))
            if buckets[0].second < second - _OUTCOME_SECONDS:
                del buckets[: _first_kept(buckets, second - _OUTCOME_SECONDS)]
        bucket = buckets[-1]
        bucket.finished += finished
        bucket.rolled_back += rolled_back
        bucket.failed += failed


def _first_kept(buckets: list[OutcomeBucket], oldest_second: int) -> int:
    return next(at for at, bucket in enumerate(buckets) if bucket.second >= oldest_second)
