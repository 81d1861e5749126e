"""A batch between plan and proof: started, proved, or failed and proved again, apart where one of it is at fault."""

from coordinator.core.commands import BatchPlan, ProvedBatch
from coordinator.core.core import Core
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import BatchAwaiting, BatchProved, BatchStarted
from coordinator.core.limits import MAX_BATCH_OPERATIONS
from coordinator.core.records import Operation
from coordinator.core.rollback import end, return_batches
from coordinator.core.states import IN_BATCH, BatchState, OperationState, ReturnReason, RollbackReason

#: Failures of a batch of several, through lost workers and the like, after which its halves are tried apart.
TRIES_TOGETHER = 3
#: Failures of an operation alone after which it is given up.
TRIES_ALONE = 5
#: Errors that the batch's content may cause: its halves are tried apart at once.
_OF_CONTENT = frozenset({ReturnReason.PROVER_ERROR, ReturnReason.OUT_OF_MEMORY})
_OF_CHANCE = frozenset({ReturnReason.WORKER_LOST, ReturnReason.TIMEOUT})


def start_batch(core: Core, plan: BatchPlan, *, now_ms: int) -> str:
    """Give a batch to a worker.

    Returns:
        The batch's id, `batch-N`.

    Raises:
        CoreError: `invalid`, the plan does not fit the state (any more).
    """
    operations = _check_plan(core, plan)
    batch_id = f"batch-{core.state.totals.last_batch_number + 1}"
    attempt = 1 + max(operation.attempts for operation in operations)
    core.emit(BatchStarted(now_ms, batch_id, plan.operation_ids, plan.worker_id, attempt, plan.reason))
    return batch_id


def _check_plan(core: Core, plan: BatchPlan) -> list[Operation]:
    """What is in flight must have its unconfirmed parents in flight, and each task at most once."""
    if not 1 <= len(plan.operation_ids) <= MAX_BATCH_OPERATIONS:
        raise _misfit(f"{len(plan.operation_ids)} operations")
    state = core.state
    before: dict[str, None] = {}
    tasks: dict[str, None] = {}
    operations = []
    for operation_id in plan.operation_ids:
        operation = state.live.get(operation_id)
        if operation is None or operation.state is not OperationState.QUEUED or operation_id in before:
            raise _misfit(f"{operation_id!r} is not queued, or named twice")
        if operation.task_id in tasks or operation.task_id in state.task_in_flight:
            raise _misfit(f"task {operation.task_id!r} is in flight already")
        if operation.unconfirmed and not _parents_in_flight(core, operation, before):
            raise _misfit(f"{operation_id!r} has a parent that is not in flight")
        before[operation_id] = None
        tasks[operation.task_id] = None
        operations.append(operation)
    return operations


def _parents_in_flight(core: Core, operation: Operation, before: dict[str, None]) -> bool:
    for parent_id in operation.parents:
        if parent_id in before or parent_id in core.state.confirmed_outputs:
            continue
        parent = core.state.live.get(parent_id)
        if parent is None or parent.state not in IN_BATCH:
            return False
    return True


def _misfit(message: str) -> CoreError:
    return CoreError(ErrorCode.INVALID, f"the plan does not fit: {message}", field="plan")


def batch_proved(core: Core, batch_id: str, result: ProvedBatch, *, now_ms: int) -> bool:
    """A verified proof of the batch is stored.

    Returns:
        False when nobody waits for it any more (the batch was returned meanwhile).
    """
    batch = core.state.batches.get(batch_id)
    if batch is None or batch.state is not BatchState.PROVING:
        return False
    core.emit(
        BatchProved(
            now_ms,
            batch_id,
            result.root,
            result.proof_digest,
            result.proof_bytes,
            result.worker_id,
            result.backend,
            result.prove_ms,
            result.permutations,
            result.rows,
        )
    )
    if batch.waits_on:
        core.emit(BatchAwaiting(now_ms, batch_id))
    return True


def batch_failed(
    core: Core, batch_id: str, reason: ReturnReason, detail: str, *, index: int | None, now_ms: int
) -> bool:
    """A worker did not prove the batch. Its operations are proved again, apart where one may be at fault; one that
    keeps failing alone is rolled back.

    Args:
        core: the engine.
        batch_id: the batch.
        reason: why.
        detail: for the record.
        index: the operation of the batch that the prover names, where it does.
        now_ms: the time.

    Returns:
        False when nobody waits for it any more.
    """
    batch = core.state.batches.get(batch_id)
    if batch is None or batch.state is not BatchState.PROVING:
        return False
    members = list(core.state.members(batch))
    failures = 1 + max(operation.failures for operation in members)
    if len(members) == 1:
        only = members[0]
        if only.solo_failures + 1 >= _tries_alone(core, reason):
            roots = {only.operation_id: RollbackReason.PROOF_FAILED}
            end(core, roots, cause=f"{reason}: {detail}", commanded=False, now_ms=now_ms)
        isolate = False
    else:
        isolate = reason in _OF_CONTENT or failures >= TRIES_TOGETHER
    named = index if isolate and index is not None and 0 <= index < len(batch.operation_ids) else None
    return_batches(
        core, [batch_id], reason, detail=detail, now_ms=now_ms, isolate=isolate, isolate_index=named
    )
    core.move_breaker(now_ms=now_ms)
    return True


def _tries_alone(core: Core, reason: ReturnReason) -> int:
    """An error is tried on every other worker once, or twice on the only one; chance gets its full number."""
    if reason in _OF_CHANCE:
        return TRIES_ALONE
    return min(TRIES_ALONE, max(2, len(core.worker_ids)))
