"""The fold of admission: an operation's record, its place in the graph, its bond."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import astuple

from coordinator.core import snapshots
from coordinator.core.events import AdmittedOperation, OperationsAdmitted
from coordinator.core.fold_operations import count_branches
from coordinator.core.graph import with_descendants
from coordinator.core.records import OPERATION_OVERHEAD_BYTES, Agent, Operation, TimelineEntry, ema
from coordinator.core.states import IN_BATCH, BreakerState, OperationState

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

_S = OperationState


def fold_admitted(state: "CoreState", event: OperationsAdmitted) -> None:
    """Operations were admitted, parents before children."""
    entries: dict[str, TimelineEntry] = {}
    for admitted in event.operations:
        admit(state, admitted, at_ms=event.at_ms, entries=entries)


def admit(
    state: "CoreState", admitted: AdmittedOperation, *, at_ms: int, entries: dict[str, TimelineEntry]
) -> Operation:
    """Make the record of one admitted operation: the same code when it is decided and when it is replayed.

    Args:
        state: the state.
        admitted: what was admitted.
        at_ms: when.
        entries: the timeline entries that the operations of one event share, by reason; empty at first.
    """
    agent = state.agents[admitted.agent_id]
    operation = _record(state, admitted, agent, at_ms=at_ms, entries=entries)
    operation_id = operation.operation_id
    assert operation_id not in state.live, f"operation {operation_id!r} admitted twice"
    state.live[operation_id] = operation
    state.depth_cache[operation_id] = operation.depth
    state.totals.admitted += 1
    _link_parents(state, operation)
    if operation.retry_of is not None:
        _replace(state, operation)
    _bond(state, operation, agent)
    agent.open_operations += 1
    agent.counts(operation.operation_type).admitted += 1
    denial = admitted.decision.denial if admitted.decision is not None else None
    if denial is not None:
        state.totals.denials_by_reason[denial] += 1
    if operation.speculative:
        _begin_speculation(state, operation, agent)
    state.live_nullifiers[operation.nullifier] = operation_id
    state.task_live[operation.task_id] = (*state.task_live.get(operation.task_id, ()), operation_id)
    state.open_bytes += operation.output_bytes + OPERATION_OVERHEAD_BYTES
    state.counts[operation.state] += 1
    if operation.state is _S.QUEUED:
        state.queued_rows += operation.rows
        if not operation.blocked:
            state.ready.add(operation)
    return operation


def _record(
    state: "CoreState",
    admitted: AdmittedOperation,
    agent: Agent,
    *,
    at_ms: int,
    entries: dict[str, TimelineEntry],
) -> Operation:
    number = state.totals.admitted
    speculative = admitted.depth > 0 and admitted.state is not _S.DEFERRED
    timeline = [
        entries.get(reason) or entries.setdefault(reason, (at_ms, to, reason))
        for to, reason in _first_moves(admitted, speculative=speculative)
    ]
    operation = _MAKE(*astuple(admitted), at_ms, number, number, speculative, timeline)
    if admitted.bonded_by is None:
        operation.bonded_by = admitted.agent_id
    if admitted.agent_key == agent.agent_key:
        operation.agent_key = agent.agent_key  # one object for all of an agent's operations
    return operation


#: By place, since by name takes eight times as long; `Operation` says what stands where.
_MAKE: Callable[..., Operation] = Operation
_GRANTED = ((_S.SUBMITTED, "submitted"), (_S.SPECULATING, "granted"))
_OPTIMISTIC = (*_GRANTED, (_S.QUEUED, "optimistic_proof"))
_QUEUED = ((_S.SUBMITTED, "submitted"), (_S.QUEUED, "no_unconfirmed_parent"))


def _first_moves(admitted: AdmittedOperation, *, speculative: bool) -> tuple[tuple[OperationState, str], ...]:
    if speculative:
        return _OPTIMISTIC if admitted.state is _S.QUEUED else _GRANTED
    if admitted.state is not _S.DEFERRED:
        return _QUEUED
    denial = admitted.decision.denial if admitted.decision is not None else None
    return (_S.SUBMITTED, "submitted"), (_S.DEFERRED, "denied" if denial is None else denial.value)


def _link_parents(state: "CoreState", operation: Operation) -> None:
    live, speculative = state.live, operation.speculative
    for parent_id in operation.parents:
        parent = live.get(parent_id)
        if parent is None:
            assert parent_id in state.confirmed_outputs, f"parent {parent_id!r} is neither live nor confirmed"
            continue
        operation.unconfirmed += 1
        if not parent.children:
            counts = state.agents[parent.agent_id].counts(parent.operation_type)
            counts.gap_ms = ema(counts.gap_ms, max(0, operation.admitted_at_ms - parent.admitted_at_ms))
        parent.children.append(operation.operation_id)
        if parent.state not in IN_BATCH:
            operation.blocked += 1
        if speculative:
            parent.granted_children += 1
            if parent.speculative and parent.granted_children == 1:
                count_branches(state, parent, -1)


def _replace(state: "CoreState", operation: Operation) -> None:
    """A replacement takes over the waiting children of what it replaces, if they were built on the same output.

    It takes that rank too, which stays below the children's; hence all its own parents must rank lower still, which
    also keeps the graph acyclic.
    """
    assert operation.retry_of is not None
    old = state.ended.get(operation.retry_of)
    if old is not None:
        old.replaced_by = operation.operation_id
    orphans = state.orphans.get(operation.retry_of)
    if orphans is None or orphans.output_commitment != operation.output_commitment:
        return
    live = state.live
    if any(parent in live and live[parent].rank >= orphans.rank for parent in operation.parents):
        return
    del state.orphans[operation.retry_of]
    state.lineage_cache.clear()
    operation.rank = orphans.rank
    for child_id in orphans.children:
        child = live.get(child_id)
        if child is None:
            continue
        child.parents = tuple(
            operation.operation_id if parent == operation.retry_of else parent for parent in child.parents
        )
        operation.children.append(child_id)
        operation.granted_children += child.speculative
    snapshots.retake(state, with_descendants(state, [operation])[::-1])


def _bond(state: "CoreState", operation: Operation, agent: Agent) -> None:
    if not operation.committed:
        return
    bond_lamports = operation.bond_lamports
    payer = agent if operation.bonded_by == operation.agent_id else state.agents[operation.bonded_by]
    assert 0 <= bond_lamports <= payer.free_lamports, "a bond above the free balance"
    payer.free_lamports -= bond_lamports
    payer.bonded_lamports += bond_lamports
    payer.bonded_ever_lamports += bond_lamports
    if payer is not agent:
        agent.delegators[payer.agent_id].used_lamports += bond_lamports
    agent.commitments += 1
    state.commitments += 1
    state.locked_lamports += bond_lamports


def _begin_speculation(state: "CoreState", operation: Operation, agent: Agent) -> None:
    if operation.snapshot:
        state.snapshots += 1
        snapshots.take(state, operation)
    state.depth_counts[operation.depth] = state.depth_counts.get(operation.depth, 0) + 1
    if not operation.granted_children:
        count_branches(state, operation, 1)
    if state.breaker.state is BreakerState.HALF_OPEN:
        state.breaker.probes[operation.operation_id] = None
