"""The fold of admission: an operation's record, its place in the graph, its bond."""

from typing import TYPE_CHECKING

from coordinator.core.events import AdmittedOperation, OperationsAdmitted
from coordinator.core.fold_operations import count_branches
from coordinator.core.records import OPERATION_OVERHEAD_BYTES, Agent, Operation, TimelineEntry
from coordinator.core.states import IN_BATCH, BreakerState, OperationState

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

_S = OperationState


def fold_admitted(state: "CoreState", event: OperationsAdmitted) -> None:
    """Operations were admitted, parents before children."""
    for admitted in event.operations:
        admit(state, admitted, at_ms=event.at_ms)


def admit(state: "CoreState", admitted: AdmittedOperation, *, at_ms: int) -> Operation:
    """Make the record of one admitted operation: the same code when it is decided and when it is replayed."""
    agent = state.agents[admitted.agent_id]
    operation = _record(state, admitted, at_ms=at_ms)
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
    state.task_live.setdefault(operation.task_id, []).append(operation_id)
    state.open_bytes += operation.output_bytes + OPERATION_OVERHEAD_BYTES
    state.counts[operation.state] += 1
    if operation.state is _S.QUEUED:
        state.queued_rows += operation.rows
        if not operation.blocked:
            state.ready.add(operation)
    return operation


def _record(state: "CoreState", admitted: AdmittedOperation, *, at_ms: int) -> Operation:
    number = state.totals.admitted
    speculative = admitted.depth > 0 and admitted.state is not _S.DEFERRED
    agent_key = state.agents[admitted.agent_id].agent_key
    return Operation(
        operation_id=admitted.operation_id,
        agent_id=admitted.agent_id,
        task_id=admitted.task_id,
        operation_type=admitted.operation_type,
        parents=admitted.parents,
        content_digest=admitted.content_digest,
        constraint_hash=admitted.constraint_hash,
        output_commitment=admitted.output_commitment,
        nullifier=admitted.nullifier,
        agent_key=agent_key if agent_key == admitted.agent_key else admitted.agent_key,
        public_digest=admitted.public_digest,
        statement=admitted.statement,
        binding=admitted.binding,
        output_bytes=admitted.output_bytes,
        rows=admitted.rows,
        priority=admitted.priority,
        deadline_ms=admitted.deadline_ms,
        retry_of=admitted.retry_of,
        admitted_at_ms=at_ms,
        number=number,
        rank=number,
        depth=admitted.depth,
        bond_lamports=admitted.bond_lamports,
        bonded_by=admitted.agent_id if admitted.bonded_by is None else admitted.bonded_by,
        committed=admitted.committed,
        snapshot=admitted.snapshot,
        speculative=speculative,
        decision=admitted.decision,
        state=admitted.state,
        timeline=_first_entries(admitted, speculative=speculative, at_ms=at_ms),
        unconfirmed=0,
        blocked=0,
    )


def _first_entries(admitted: AdmittedOperation, *, speculative: bool, at_ms: int) -> list[TimelineEntry]:
    entries: list[TimelineEntry] = [(at_ms, _S.SUBMITTED, "submitted")]
    if speculative:
        entries.append((at_ms, _S.SPECULATING, "granted"))
        if admitted.state is _S.QUEUED:
            entries.append((at_ms, _S.QUEUED, "optimistic_proof"))
    elif admitted.state is _S.DEFERRED:
        denial = admitted.decision.denial if admitted.decision is not None else None
        entries.append((at_ms, _S.DEFERRED, "denied" if denial is None else denial.value))
    else:
        entries.append((at_ms, _S.QUEUED, "parents_confirmed" if admitted.parents else "no_parents"))
    return entries


def _link_parents(state: "CoreState", operation: Operation) -> None:
    live, speculative = state.live, operation.speculative
    for parent_id in operation.parents:
        parent = live.get(parent_id)
        if parent is None:
            assert parent_id in state.confirmed_outputs, f"parent {parent_id!r} is neither live nor confirmed"
            continue
        operation.unconfirmed += 1
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
    state.snapshots += operation.snapshot
    state.depth_counts[operation.depth] = state.depth_counts.get(operation.depth, 0) + 1
    if not operation.granted_children:
        count_branches(state, operation, 1)
    if state.breaker.state is BreakerState.HALF_OPEN:
        state.breaker.probes[operation.operation_id] = None
