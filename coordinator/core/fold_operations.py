"""The fold of an operation's moves between admission and end, and what moves with them: queue, branches, snapshots."""

from typing import TYPE_CHECKING

from coordinator.core import snapshots
from coordinator.core.events import OperationsQueued, RollbackPending
from coordinator.core.records import Operation, PendingEnd, TimelineEntry
from coordinator.core.states import TRANSITIONS, OperationState

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

_S = OperationState


def move(state: "CoreState", operation: Operation, entry: TimelineEntry) -> None:
    """Move one operation to the entry's state, as the table of transitions allows."""
    to = entry[1]
    assert to in TRANSITIONS[operation.state], f"{operation.operation_id}: {operation.state} → {to}"
    state.counts[operation.state] -= 1
    state.counts[to] += 1
    operation.state = to
    operation.timeline.append(entry)


def enter_queue(state: "CoreState", operation: Operation) -> None:
    """An operation has just become QUEUED."""
    state.queued_rows += operation.rows
    if operation.group or not operation.blocked:
        state.ready.add(operation)


def leave_queue(state: "CoreState", operation: Operation) -> None:
    """An operation is about to leave QUEUED."""
    state.queued_rows -= operation.rows
    if operation.group or not operation.blocked:
        state.ready.discard(operation)


def fold_queued(state: "CoreState", event: OperationsQueued) -> None:
    """Held operations may be proved now."""
    entry = (event.at_ms, _S.QUEUED, event.reason)
    for operation_id in event.operation_ids:
        operation = state.live[operation_id]
        move(state, operation, entry)
        enter_queue(state, operation)
        if state.held:
            state.held.pop(operation_id, None)


def fold_pending(state: "CoreState", event: RollbackPending) -> None:
    """Rollbacks wait for a transaction to die; a failure overrides a rollback, otherwise the first one stays."""
    for operation_id in event.operation_ids:
        operation = state.live[operation_id]
        assert operation.state is _S.SUBMITTING, "only what is on its way to the chain waits"
        assert operation.batch_id is not None
        if operation.pending is None:
            state.batches[operation.batch_id].pending += 1
        elif event.failure is None or operation.pending.failure is not None:
            continue
        operation.pending = PendingEnd(event.reason, event.failure, event.detail, event.commanded)


def block(state: "CoreState", operation: Operation) -> None:
    """A parent left its batch without being confirmed."""
    if not operation.blocked and operation.state is _S.QUEUED and not operation.group:
        state.ready.discard(operation)
    operation.blocked += 1


def count_branches(state: "CoreState", operation: Operation, change: int) -> None:
    state.agents[operation.agent_id].branches += change
    state.branches += change


def end_speculation(state: "CoreState", operation: Operation) -> None:
    """An operation is speculative no more: its last parent was confirmed, or it ended."""
    operation.speculative = False
    if operation.snapshot:
        state.snapshots -= 1
        snapshots.drop(state, operation)
    left = state.depth_counts[operation.depth] - 1
    if left:
        state.depth_counts[operation.depth] = left
    else:
        del state.depth_counts[operation.depth]
    if not operation.granted_children:
        count_branches(state, operation, -1)
