"""What time brings: timeouts, deadlines, the breaker's pause; and what a restart finds half done."""

from coordinator.core.confirmation import queue_held
from coordinator.core.core import Core
from coordinator.core.events import ChainConnectionChanged, LatchChanged, OperationsQueued
from coordinator.core.operators import end_commitments
from coordinator.core.rollback import end_pending, return_batches, roll_back
from coordinator.core.states import BatchState, OperationState, ReturnReason, RollbackReason


def tick(core: Core, *, now_ms: int) -> None:
    """Do all that is due by now. Cheap when nothing is: it looks at batches and deadlines, not at operations."""
    core.move_breaker(now_ms=now_ms)
    _finish_drain(core, now_ms=now_ms)
    _time_out(core, now_ms=now_ms)
    _end_orphans(core, now_ms=now_ms)
    _queue_again(core, now_ms=now_ms)


def _finish_drain(core: Core, *, now_ms: int) -> None:
    totals = core.state.totals
    if totals.drain_until_ms is None or now_ms < totals.drain_until_ms:
        return
    core.emit(LatchChanged(now_ms, totals.latch, None, "drain deadline"))
    end_commitments(core, RollbackReason.DRAINED, cause="drain deadline", now_ms=now_ms)


def _time_out(core: Core, *, now_ms: int) -> None:
    """A batch's operations time out together: their clock runs from its first transaction."""
    state = core.state
    started_by_ms = state.confirmation_clock_ms(now_ms) - core.config.confirmation_timeout_ms
    roots: dict[str, RollbackReason] = {}
    for batch_id in state.submitted:  # in order of the clock's start
        batch = state.batches[batch_id]
        if batch.submitted_clock_ms is None or batch.submitted_clock_ms > started_by_ms:
            break
        if batch.pending < len(batch.operation_ids):
            for operation in state.members(batch):
                if operation.pending is None:
                    roots[operation.operation_id] = RollbackReason.CONFIRMATION_TIMEOUT
    if roots:
        cause = f"not confirmed within {core.config.confirmation_timeout_ms} ms"
        roll_back(core, roots, cause=cause, now_ms=now_ms)


def _end_orphans(core: Core, *, now_ms: int) -> None:
    """Children that waited in vain for a replacement of their parent go, with their descendants."""
    live = core.state.live
    roots = {
        child_id: RollbackReason.PARENT_ROLLED_BACK
        for parent_id, orphans in core.state.orphans.items()
        if orphans.until_ms <= now_ms
        for child_id in orphans.children
        if child_id in live and parent_id in live[child_id].parents
    }
    if roots:
        roll_back(core, roots, cause="no replacement of the parent came", now_ms=now_ms)


def _queue_again(core: Core, *, now_ms: int) -> None:
    """What a cleared queue held back: all that waits for no confirmation."""
    if not core.state.held:
        return
    optimistic = core.config.optimistic_proofs
    ready = tuple(
        operation.operation_id
        for operation in core.live(list(core.state.held))
        if not operation.unconfirmed or (optimistic and operation.state is OperationState.SPECULATING)
    )
    if ready:
        core.emit(OperationsQueued(now_ms, ready, "queued_again"))


def resume(core: Core, *, now_ms: int) -> None:
    """After a restart: what workers were proving is queued again, the time that nobody ran does not count, and what
    an interrupted command left half done is finished."""
    state = core.state
    totals = state.totals
    down_ms = max(0, now_ms - totals.last_event_at_ms)
    if totals.disconnected_since_ms is None and down_ms and state.submitted:
        core.emit(ChainConnectionChanged(now_ms, totals.connection, down_ms))
    proving = [one.batch_id for one in state.batches.values() if one.state is BatchState.PROVING]
    return_batches(core, proving, ReturnReason.RESTARTED, detail="restart", now_ms=now_ms)
    lost: list[str] = []
    for batch in list(state.batches.values()):
        if batch.state is not BatchState.SUBMITTING:
            lost += end_pending(core, batch, cause="restart", now_ms=now_ms)
            lost += [batch.batch_id] if batch.lost else []
    return_batches(core, lost, ReturnReason.MEMBER_LOST, detail="restart", now_ms=now_ms)
    losers = {
        one.operation_id: RollbackReason.INVALID_STATE
        for one in state.live.values()
        if one.task_id in state.confirmed_tasks
    }
    if losers:
        roll_back(core, losers, cause="the task was confirmed", now_ms=now_ms)
    held = [one for one in state.live if one not in state.held]
    queue_held(core, held, reason="parents_confirmed", now_ms=now_ms)
    core.cancelled_batches()  # nobody proves them any more
