"""A batch between proof and finality: submitted, followed on the chain, confirmed, or reverted and tried again."""

from collections.abc import Iterable, Sequence
from itertools import islice

from coordinator.core import breaker
from coordinator.core.commands import Observation, TransactionDue
from coordinator.core.core import Core
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import (
    BatchConfirmed,
    BatchReverted,
    BatchSubmitted,
    ChainConnectionChanged,
    FinalityViolated,
    OperationsQueued,
)
from coordinator.core.records import Batch, Operation
from coordinator.core.rollback import end, end_pending, fail, return_batches, roll_back
from coordinator.core.states import (
    SLASHING,
    BatchState,
    ConnectionStatus,
    FailureCode,
    OperationState,
    ReturnReason,
    RevertReason,
    RollbackReason,
    TransactionStatus,
)

#: Confirmed batches that are watched for a reorganisation deeper than the chain promises.
WATCHED_BATCHES = 32
_DEAD = {
    TransactionStatus.EXPIRED: RevertReason.EXPIRED,
    TransactionStatus.DROPPED: RevertReason.DROPPED,
    TransactionStatus.REORGED: RevertReason.REORG,
    TransactionStatus.REFUSED: RevertReason.REFUSED,
}
_HELD = (OperationState.DEFERRED, OperationState.SPECULATING)


# -- submission --------------------------------------------------------------------------------


def submissions_due(core: Core) -> list[str]:
    """The batches whose transaction may be sent now: proved, whole, their ancestors confirmed. None while the chain
    cannot be reached, since a transaction's time runs from its submission."""
    if core.state.totals.connection is ConnectionStatus.DISCONNECTED:
        return []
    batches = core.state.batches
    return [
        batch_id
        for batch_id in core.state.due
        if batch_id not in batches or not (batches[batch_id].lost or batches[batch_id].pending)
    ]


def batch_submitting(core: Core, batch_id: str, *, slot: int, now_ms: int) -> TransactionDue:
    """Name the batch's next transaction; to be logged before it is sent.

    Raises:
        CoreError: `invalid`, the batch is not due.
    """
    if batch_id not in submissions_due(core):
        raise CoreError(ErrorCode.INVALID, f"batch {batch_id!r} is not due", field="batch_id")
    batch = core.state.batch(batch_id)
    due = TransactionDue(
        batch_id, f"{batch_id}:{batch.tries + 1}", slot + core.config.transaction_expiry_slots
    )
    core.emit(BatchSubmitted(now_ms, batch_id, due.transaction, due.valid_until_slot))
    return due


def transactions_open(core: Core) -> list[TransactionDue]:
    """The transactions on their way, to be polled, and sent again where the chain may not have got them."""
    state = core.state
    batches = [batch for batch in state.batches.values() if batch.state is BatchState.SUBMITTING]
    batches += [state.ended_batches[batch_id] for batch_id in state.reposting if batch_id not in state.due]
    return [
        TransactionDue(batch.batch_id, batch.transaction, batch.valid_until_slot)
        for batch in batches
        if batch.transaction is not None
    ]


def transactions_watched(core: Core) -> list[str]:
    """The open transactions, and those of the last confirmed batches, to notice that the chain undoes one."""
    confirmed = (
        batch.transaction
        for batch in reversed(core.state.ended_batches.values())
        if batch.state is BatchState.CONFIRMED
        and not batch.reposting
        and batch.transaction is not None
        and batch.operation_ids[0] in core.state.ended  # what was let go could not be posted again
    )
    return [due.transaction for due in transactions_open(core)] + list(islice(confirmed, WATCHED_BATCHES))


# -- observation -------------------------------------------------------------------------------


def chain_observed(core: Core, observations: Sequence[Observation], *, slot: int, now_ms: int) -> None:
    """Take in what the chain says about transactions; what it says twice changes nothing twice."""
    state = core.state
    queueable: dict[str, None] = {}
    undone: list[str] = []
    for seen in observations:
        batch_id = seen.transaction.rpartition(":")[0]
        batch = state.batches.get(batch_id)
        if batch is not None:
            _observe(core, batch, seen, queueable, now_ms=now_ms)
        elif batch_id in state.ended_batches:
            ended = state.ended_batches[batch_id]
            if _observe_ended(core, ended, seen, now_ms=now_ms) and batch_id not in undone:
                undone.append(batch_id)
    if undone:
        core.emit(FinalityViolated(now_ms, tuple(undone), slot))
        core.emit(breaker.opened(breaker.FINALITY_VIOLATION, core.config, now_ms=now_ms))
    queue_held(core, queueable, reason="parents_confirmed", now_ms=now_ms)
    core.move_breaker(now_ms=now_ms)


def queue_held(core: Core, operation_ids: Iterable[str], *, reason: str, now_ms: int) -> None:
    """Queue those held operations that have no unconfirmed parent any more."""
    ready = tuple(
        operation.operation_id
        for operation in core.live(list(operation_ids))
        if not operation.unconfirmed and operation.state in _HELD
    )
    if ready:
        core.emit(OperationsQueued(now_ms, ready, reason))


def _observe(core: Core, batch: Batch, seen: Observation, queueable: dict[str, None], *, now_ms: int) -> None:
    current = batch.state is BatchState.SUBMITTING and seen.transaction == batch.transaction
    if seen.status is TransactionStatus.CONFIRMED:
        if current or _was_sent(core, batch, seen, now_ms=now_ms):
            _confirm(core, batch, seen, queueable, now_ms=now_ms)
    elif current and seen.status is TransactionStatus.REFUSED:
        _refuse(core, batch, seen, now_ms=now_ms)
    elif current and seen.status in _DEAD:
        _revert(core, batch, _DEAD[seen.status], now_ms=now_ms)


def _was_sent(core: Core, batch: Batch, seen: Observation, *, now_ms: int) -> bool:
    """An earlier transaction of the batch that was held for dead is confirmed after all: inclusion wins."""
    if not batch.tries or batch.lost:
        return False
    if batch.state is not BatchState.SUBMITTING:
        core.emit(BatchSubmitted(now_ms, batch.batch_id, seen.transaction, batch.valid_until_slot))
    return True


def _confirm(core: Core, batch: Batch, seen: Observation, queueable: dict[str, None], *, now_ms: int) -> None:
    state = core.state
    members = list(state.members(batch))
    # The rivals for a task end before it is confirmed, so that at no instant a confirmed task has a live operation.
    losers = {
        rival_id: RollbackReason.INVALID_STATE
        for operation in members
        for rival_id in state.task_live[operation.task_id]
        if rival_id != operation.operation_id
    }
    if losers:
        roll_back(core, losers, cause=f"{batch.batch_id} confirms the task", now_ms=now_ms)
    core.emit(BatchConfirmed(now_ms, batch.batch_id, seen.transaction, seen.slot))
    for operation in members:
        queueable.update(dict.fromkeys(operation.children))


def _revert(core: Core, batch: Batch, reason: RevertReason, *, now_ms: int) -> None:
    core.emit(BatchReverted(now_ms, batch.batch_id, reason, batch.transaction or ""))
    lost = end_pending(core, batch, cause=f"{batch.transaction} {reason}", now_ms=now_ms)
    return_batches(core, lost, ReturnReason.MEMBER_LOST, detail=reason.value, now_ms=now_ms)


def _refuse(core: Core, batch: Batch, seen: Observation, *, now_ms: int) -> None:
    """The chain refused the batch: whom it names is at fault; where it names nobody, the halves are tried apart."""
    code = seen.code or "refused"
    detail = f"{seen.transaction}: {code}"
    core.emit(BatchReverted(now_ms, batch.batch_id, RevertReason.REFUSED, code))
    lost = end_pending(core, batch, cause=detail, now_ms=now_ms)
    named = _named(core, batch, seen)
    if batch.reorged or (batch.uncertain and code == FailureCode.DOUBLE_SPEND):
        # The chain changed under a proof that it had taken, or may hold the earlier transaction: nobody's fault.
        roots = {one.operation_id: RollbackReason.CHAIN_REORG for one in named or core.state.members(batch)}
        lost += end(core, roots, cause=detail, commanded=False, now_ms=now_ms)[1]
    elif named:
        lost += fail(core, [(one, failure_code(code), detail) for one in named], now_ms=now_ms)
    elif len(batch.operation_ids) == 1:
        members = core.state.members(batch)
        lost += fail(core, [(one, FailureCode.CHAIN_REFUSED, detail) for one in members], now_ms=now_ms)
    others = [batch_id for batch_id in lost if batch_id != batch.batch_id]
    return_batches(core, others, ReturnReason.MEMBER_LOST, detail=detail, now_ms=now_ms)
    return_batches(
        core,
        [batch.batch_id],
        ReturnReason.REFUSED,
        detail=detail,
        now_ms=now_ms,
        isolate=not batch.lost,
    )


def _named(core: Core, batch: Batch, seen: Observation) -> list[Operation]:
    count = len(batch.operation_ids)
    return core.live([batch.operation_ids[index] for index in seen.indices if 0 <= index < count])


def failure_code(code: str) -> FailureCode:
    """The failure of an operation that the chain names: its own fault where that is one, else a plain refusal."""
    return FailureCode(code) if code in SLASHING else FailureCode.CHAIN_REFUSED


def _observe_ended(core: Core, batch: Batch, seen: Observation, *, now_ms: int) -> bool:
    """What the chain says about a batch that has ended. Returns whether it breaks finality."""
    if batch.state is not BatchState.CONFIRMED:
        # Held for dead, its operations proved again elsewhere or ended, and now final: said once.
        return seen.status is TransactionStatus.CONFIRMED and batch.confirmed_slot is None
    if seen.transaction != batch.transaction or batch.repost_due:
        return False
    if not batch.reposting:
        return seen.status is TransactionStatus.REORGED and not batch.reorged
    if seen.status is TransactionStatus.CONFIRMED:
        core.emit(BatchConfirmed(now_ms, batch.batch_id, seen.transaction, seen.slot))
    elif seen.status in _DEAD:
        core.emit(BatchReverted(now_ms, batch.batch_id, _DEAD[seen.status], seen.code or ""))
    return False


# -- connection --------------------------------------------------------------------------------


def chain_connection(core: Core, status: ConnectionStatus, *, now_ms: int) -> None:
    """The chain can be reached, or not: confirmation timeouts stand still while it cannot."""
    totals = core.state.totals
    if status is totals.connection:
        return
    since_ms = totals.disconnected_since_ms
    paused_ms = 0 if since_ms is None else max(0, now_ms - since_ms)
    core.emit(ChainConnectionChanged(now_ms, status, paused_ms))
