"""What an unconfirmed operation waits for: the answer to "why is it not confirmed yet"."""

from coordinator.answers_admin import Blocker, BlockerKind
from coordinator.core.engine import Engine
from coordinator.core.records import Batch, Operation
from coordinator.core.states import BatchState, ConnectionStatus, OperationState

#: Ids named in one answer; the detail has the number of all.
_MAX_IDS = 20

_S = OperationState


def blocker_of(engine: Engine, operation: Operation) -> Blocker | None:
    """The one thing that the operation waits for now; None once it has ended."""
    match operation.state:
        case _S.SUBMITTED | _S.SPECULATING | _S.DEFERRED:
            return _parents(
                engine, operation, why=f"{operation.reason}: waits until its parents are confirmed"
            )
        case _S.QUEUED:
            return _queued(engine, operation)
        case _S.PROVING | _S.PROVED | _S.AWAITING_ANCESTORS | _S.SUBMITTING:
            return _in_batch(engine, engine.state.batches[operation.batch_id or ""])
        case _S.CONFIRMED | _S.ROLLED_BACK | _S.FAILED:
            return None


def _parents(engine: Engine, operation: Operation, *, why: str) -> Blocker:
    live = engine.state.live
    return _blocker("parents", [parent for parent in operation.parents if parent in live], why)


def _queued(engine: Engine, operation: Operation) -> Blocker:
    if operation.operation_id in engine.state.held:
        return _blocker("held", [], "the queue was cleared: held back until the next tick")
    if operation.blocked:
        live = engine.state.live
        held = [parent for parent in operation.parents if parent in live and live[parent].batch_id is None]
        return _blocker("parents", held, "a parent is not being proved yet: batches follow the graph")
    if operation.group:
        return _blocker(
            "isolation", [], f"a batch with it was refused: group {operation.group} is proved apart"
        )
    return _blocker("worker", [], f"waits for a free proof worker, with {engine.state.queued} in the queue")


def _in_batch(engine: Engine, batch: Batch) -> Blocker:
    match batch.state:
        case BatchState.PROVING:
            return _blocker(
                "proof", [batch.batch_id], f"{batch.worker_id} proves it, attempt {batch.attempt}"
            )
        case BatchState.SUBMITTING:
            return _blocker("chain", [batch.batch_id], _chain_detail(engine, batch))
    if batch.waits_on:
        return _blocker("batches", batch.waits_on, "batches with its ancestors have to be confirmed first")
    return _blocker("submission", [batch.batch_id], "proved: it is sent to the chain in the next round")


def _chain_detail(engine: Engine, batch: Batch) -> str:
    connection = engine.state.totals.connection
    detail = f"transaction {batch.transaction}, dead after slot {batch.valid_until_slot} unless included"
    if connection is not ConnectionStatus.CONNECTED:
        return f"the chain is {connection}; {detail}"
    return detail


def _blocker(kind: BlockerKind, ids: list[str], detail: str) -> Blocker:
    more = f" ({len(ids)} in all)" if len(ids) > _MAX_IDS else ""
    return Blocker(kind=kind, ids=tuple(ids[:_MAX_IDS]), detail=detail + more)
