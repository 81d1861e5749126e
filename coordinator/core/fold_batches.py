"""The fold of a batch's events: each moves all the operations that the batch still holds.

What is in flight has its unconfirmed parents in flight: so batches wait only on batches that were started before them,
never on each other. Whoever returns a batch to the queue returns those that wait on it first.
"""

from typing import TYPE_CHECKING

from coordinator.core.cost import padded_rows
from coordinator.core.events import (
    BatchAwaiting,
    BatchConfirmed,
    BatchProved,
    BatchReturned,
    BatchReverted,
    BatchStarted,
    BatchSubmitted,
    QueueCleared,
)
from coordinator.core.fold_ends import confirm, fade_totals, record_outcomes
from coordinator.core.fold_operations import block, enter_queue, leave_queue
from coordinator.core.records import Batch, Operation, TimelineEntry, ema
from coordinator.core.states import WORKER_FAILURES, BatchState, OperationState, ReturnReason, RevertReason

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

_S = OperationState
_MAX_ENDED_BATCHES = 20_000


def _move_all(
    state: "CoreState", operations: list[Operation], before: tuple[OperationState, ...], entry: TimelineEntry
) -> None:
    """Move a batch's operations together; they share one timeline entry."""
    to, counts = entry[1], state.counts
    for operation in operations:
        assert operation.state in before, f"{operation.operation_id}: {operation.state} → {to}"
        counts[operation.state] -= 1
        operation.state = to
        operation.timeline.append(entry)
    counts[to] += len(operations)


def fold_started(state: "CoreState", event: BatchStarted) -> None:
    """A worker was given a batch: its operations block their children no more."""
    live = state.live
    operations = [live[operation_id] for operation_id in event.operation_ids]
    batch_id = event.batch_id
    for operation in operations:
        leave_queue(state, operation)
        operation.batch_id = batch_id
        operation.attempts += 1
        assert operation.task_id not in state.task_in_flight, f"task {operation.task_id!r} twice in flight"
        state.task_in_flight[operation.task_id] = operation.operation_id
    _move_all(state, operations, (_S.QUEUED,), (event.at_ms, _S.PROVING, event.reason))
    state.totals.last_batch_number += 1
    batch = Batch(
        batch_id=batch_id,
        number=state.totals.last_batch_number,
        operation_ids=event.operation_ids,
        worker_id=event.worker_id,
        attempt=event.attempt,
        reason=event.reason,
        operation_rows=sum(operation.rows for operation in operations),
        state=BatchState.PROVING,
        started_at_ms=event.at_ms,
        waits_on=_waits_on(state, operations, batch_id),
    )
    for ancestor_id in batch.waits_on:
        state.batches[ancestor_id].waiters.append(batch_id)
    state.batches[batch_id] = batch
    state.totals.batches_started += 1
    state.totals.cost.started_rows += batch.operation_rows
    for operation in operations:
        for child_id in operation.children:
            child = live.get(child_id)
            if child is not None:
                child.blocked -= 1
                if not child.blocked and child.state is _S.QUEUED and not child.group:
                    state.ready.add(child)
    for agent_id in {operation.agent_id: None for operation in operations}:
        state.ready.served(agent_id)


def _waits_on(state: "CoreState", operations: list[Operation], batch_id: str) -> list[str]:
    """The batches in flight that hold unconfirmed parents from outside; every unconfirmed parent is in flight."""
    live = state.live
    found: dict[str, None] = {}
    for operation in operations:
        if operation.unconfirmed:
            for parent_id in operation.parents:
                parent = live.get(parent_id)
                if parent is not None and parent.batch_id != batch_id:
                    assert parent.batch_id is not None, f"{parent_id} is not in flight, its child is"
                    found[parent.batch_id] = None
    return list(found)


def _dissolve(state: "CoreState", batch: Batch, at_ms: int, reason: str) -> None:
    """A batch is no more: nothing waits on it (its waiters went first) and it waits on nothing."""
    assert not batch.waiters, f"{batch.batch_id} returned before {batch.waiters}, which wait on it"
    for ancestor_id in batch.waits_on:
        state.batches[ancestor_id].waiters.remove(batch.batch_id)
    batch.waits_on = []
    batch.state = BatchState.DISSOLVED
    _end_batch(state, batch, at_ms, reason)


def _end_batch(state: "CoreState", batch: Batch, at_ms: int, reason: str) -> None:
    batch_id = batch.batch_id
    batch.ended_at_ms, batch.ended_reason = at_ms, reason
    del state.batches[batch_id]
    state.due.pop(batch_id, None)
    state.submitted.pop(batch_id, None)
    ended = state.ended_batches
    ended[batch_id] = batch
    state.ended_batch_operations += len(batch.operation_ids)
    limit = state.retained
    if state.ended_batch_operations > limit + limit // 8 + 16 or len(ended) > _MAX_ENDED_BATCHES * 9 // 8:
        _evict_batches(state, limit)


def _evict_batches(state: "CoreState", limit: int) -> None:
    ended = state.ended_batches
    surplus = len(ended) - _MAX_ENDED_BATCHES
    old = []
    for at, batch in enumerate(ended.values()):
        if state.ended_batch_operations <= limit and at >= surplus:
            break
        if not batch.reposting:
            old.append(batch.batch_id)
            state.ended_batch_operations -= len(batch.operation_ids)
    for batch_id in old:
        del ended[batch_id]


def _leave(state: "CoreState", operations: list[Operation]) -> None:
    """Operations leave their batch without being confirmed: they block their children again."""
    live = state.live
    for operation in operations:
        operation.batch_id = None
        del state.task_in_flight[operation.task_id]
        for child_id in operation.children:
            child = live.get(child_id)
            if child is not None:
                block(state, child)


def fold_returned(state: "CoreState", event: BatchReturned) -> None:
    """A batch gave its live operations back to the queue."""
    batch = state.batches[event.batch_id]
    operations = list(state.members(batch))
    assert batch.state is not BatchState.SUBMITTING, "its transaction may still be included"
    if event.isolate:
        _isolate(state, batch, operations, event.isolate_index)
    if event.reason in WORKER_FAILURES:
        for operation in operations:
            operation.failures += 1
            operation.solo_failures += len(batch.operation_ids) == 1
            if event.isolate:
                operation.failed_on = (batch.worker_id,)
            elif batch.worker_id not in operation.failed_on:
                operation.failed_on = (*operation.failed_on, batch.worker_id)
    # PROVING → QUEUED is a loss of the worker, the others isolation; the table has both.
    before = (_S.PROVING, _S.PROVED, _S.AWAITING_ANCESTORS)
    _move_all(state, operations, before, (event.at_ms, _S.QUEUED, event.reason.value))
    _dissolve(state, batch, event.at_ms, event.reason.value)
    _leave(state, operations)
    for operation in operations:
        enter_queue(state, operation)
    state.totals.returns_by_reason[event.reason] += 1
    if event.reason is ReturnReason.OUT_OF_MEMORY:
        state.totals.cost.out_of_memory(batch.worker_id, padded_rows(batch.operation_rows))


def _isolate(state: "CoreState", batch: Batch, operations: list[Operation], index: int | None) -> None:
    """Put the halves, or the one that was named and the others, into groups to be proved apart."""
    first, second = state.totals.last_group + 1, state.totals.last_group + 2
    state.totals.last_group = second
    if index is None:
        half = (len(operations) + 1) // 2
        for at, operation in enumerate(operations):
            operation.group = first if at < half else second
    else:
        named = batch.operation_ids[index]
        for operation in operations:
            operation.group = second if operation.operation_id == named else first


def fold_queue_cleared(state: "CoreState", event: QueueCleared) -> None:
    """Batches were discarded and the queue emptied; the operations are held until the next tick."""
    for batch_id in event.batch_ids:
        batch = state.batches[batch_id]
        assert batch.state is BatchState.PROVING, "only what is being proved is discarded"
        # Batches that wait on each other's ancestors are all in the list; they let go of one another here.
        for ancestor_id in batch.waits_on:
            state.batches[ancestor_id].waiters.remove(batch_id)
        batch.waits_on = []
    for batch_id in event.batch_ids:
        batch = state.batches[batch_id]
        operations = list(state.members(batch))
        _dissolve(state, batch, event.at_ms, "queue_cleared")
        _leave(state, operations)
    for operation_ids, to in ((event.speculating_ids, _S.SPECULATING), (event.deferred_ids, _S.DEFERRED)):
        operations = [state.live[operation_id] for operation_id in operation_ids]
        for operation in operations:
            if operation.state is _S.QUEUED:
                leave_queue(state, operation)
            state.held[operation.operation_id] = None
        _move_all(state, operations, (_S.QUEUED, _S.PROVING), (event.at_ms, to, "queue_cleared"))


def fold_proved(state: "CoreState", event: BatchProved) -> None:
    """A verified proof of the batch is stored."""
    batch = state.batches[event.batch_id]
    operations = list(state.members(batch))
    _move_all(state, operations, (_S.PROVING,), (event.at_ms, _S.PROVED, event.backend))
    batch.state = BatchState.PROVED
    batch.proved_at_ms = event.at_ms
    batch.root, batch.proof_digest, batch.proof_bytes = event.root, event.proof_digest, event.proof_bytes
    batch.worker_id, batch.backend, batch.prove_ms = event.worker_id, event.backend, event.prove_ms
    batch.permutations, batch.rows = event.permutations, event.rows
    rows = event.rows or padded_rows(batch.operation_rows)  # a mock proof has none
    state.totals.cost.proved(event.worker_id, event.backend, rows, event.prove_ms)
    if not batch.waits_on:
        state.due[batch.batch_id] = None


def fold_awaiting(state: "CoreState", event: BatchAwaiting) -> None:
    """A proved batch waits until ancestors outside it are confirmed."""
    batch = state.batches[event.batch_id]
    assert batch.waits_on, "nothing to wait for"
    operations = list(state.members(batch))
    _move_all(state, operations, (_S.PROVED,), (event.at_ms, _S.AWAITING_ANCESTORS, ",".join(batch.waits_on)))
    batch.state = BatchState.AWAITING_ANCESTORS


def fold_submitted(state: "CoreState", event: BatchSubmitted) -> None:
    """A transaction is about to be sent; for a confirmed batch that the chain undid, it only posts it again."""
    batch = state.batches.get(event.batch_id)
    if batch is None:
        batch = state.ended_batches[event.batch_id]
        assert batch.reposting, "a confirmed batch is posted again only when the chain undid it"
        batch.repost_due = False
        state.due.pop(batch.batch_id, None)
    else:
        assert not batch.waits_on, "proof ordering"
        assert not batch.lost, "its proof covers an operation that has ended"
        del state.due[batch.batch_id]
        entry = (event.at_ms, _S.SUBMITTING, event.transaction)
        _move_all(state, list(state.members(batch)), (_S.PROVED, _S.AWAITING_ANCESTORS), entry)
        batch.state = BatchState.SUBMITTING
        if batch.submitted_at_ms is None:
            batch.submitted_at_ms = event.at_ms
            batch.submitted_clock_ms = state.confirmation_clock_ms(event.at_ms)
            state.submitted[batch.batch_id] = None
    batch.tries += 1
    batch.transaction = event.transaction
    batch.valid_until_slot = event.valid_until_slot


def fold_reverted(state: "CoreState", event: BatchReverted) -> None:
    """The transaction is dead: the batch is PROVED again, or, posted again after its confirmation, due or given up."""
    state.totals.reverts_by_reason[event.reason] += 1
    batch = state.batches.get(event.batch_id)
    if batch is None:
        batch = state.ended_batches[event.batch_id]
        batch.repost_due = batch.reposting = event.reason is not RevertReason.REFUSED
        if batch.reposting:
            state.due[batch.batch_id] = None
        else:
            del state.reposting[batch.batch_id]
        return
    entry = (event.at_ms, _S.PROVED, event.reason.value)
    _move_all(state, list(state.members(batch)), (_S.SUBMITTING,), entry)
    batch.state = BatchState.PROVED
    batch.reorged = batch.reorged or event.reason is RevertReason.REORG
    # The chain may have forgotten a transaction that another node still knows.
    batch.uncertain = batch.uncertain or event.reason in (RevertReason.REORG, RevertReason.DROPPED)
    state.due[batch.batch_id] = None


def fold_confirmed(state: "CoreState", event: BatchConfirmed) -> None:
    """The batch is final."""
    batch = state.batches.get(event.batch_id)
    if batch is None:
        batch = state.ended_batches[event.batch_id]
        batch.reposting = batch.repost_due = batch.reorged = False
        batch.confirmed_slot = event.slot
        del state.reposting[batch.batch_id]
        return
    entry = (event.at_ms, _S.CONFIRMED, event.transaction)
    admitted_ms, confirmed = 0, 0
    for operation in list(state.members(batch)):
        confirm(state, operation, entry)
        admitted_ms += operation.admitted_at_ms
        confirmed += 1
    assert confirmed == len(batch.operation_ids), "a batch confirms whole"
    state.depth_cache.clear()
    state.lineage_cache.clear()
    batch.pending, batch.reorged = 0, False
    batch.state = BatchState.CONFIRMED
    batch.confirmed_slot, batch.transaction = event.slot, event.transaction
    for waiter_id in batch.waiters:
        waiter = state.batches[waiter_id]
        waiter.waits_on.remove(batch.batch_id)
        if not waiter.waits_on and waiter.state is not BatchState.PROVING:
            state.due[waiter_id] = None
    batch.waiters = []
    _count_confirmed(state, batch, event.at_ms, confirmed, confirmed * event.at_ms - admitted_ms)
    _end_batch(state, batch, event.at_ms, "confirmed")


def _count_confirmed(state: "CoreState", batch: Batch, at_ms: int, confirmed: int, waited_ms: int) -> None:
    totals = state.totals
    state.counts[_S.SUBMITTING] -= confirmed
    state.counts[_S.CONFIRMED] += confirmed
    totals.confirmed += confirmed
    totals.batches_confirmed += 1
    totals.good += confirmed
    fade_totals(state)
    totals.latency_ema_ms = ema(totals.latency_ema_ms, waited_ms / confirmed)
    if batch.submitted_at_ms is not None:
        totals.settle_ema_ms = ema(totals.settle_ema_ms, at_ms - batch.submitted_at_ms)
    record_outcomes(state, at_ms, finished=confirmed)
