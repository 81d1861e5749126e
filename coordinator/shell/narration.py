"""Narration: what became durable, as log lines, so that a grep for an operation's id tells its story.

One line for what moves many operations together (their ids in it: a line each would cost more than the decision), one
for each operation of a rollback: the runbook follows a rollback's chain line by line.
"""

from collections.abc import Callable, Sequence

from coordinator.core.engine import Engine
from coordinator.core.events import (
    BatchAwaiting,
    BatchConfirmed,
    BatchProved,
    BatchReturned,
    BatchReverted,
    BatchStarted,
    BatchSubmitted,
    BreakerChanged,
    ChainConnectionChanged,
    ConfigChanged,
    Event,
    FinalityViolated,
    LatchChanged,
    OperationFailed,
    OperationsAdmitted,
    OperationsQueued,
    OperationsRolledBack,
    QueueCleared,
    RollbackPending,
)
from coordinator.logs import get_logger

_log = get_logger("journal")

#: What a batch event is called in the log, and which of its fields the line carries.
_BATCH_LINES: dict[type, tuple[str, tuple[str, ...]]] = {
    BatchStarted: ("batch_started", ("worker_id", "attempt", "reason")),
    BatchReturned: ("batch_returned", ("reason", "detail", "isolate")),
    BatchProved: ("batch_proved", ("worker_id", "backend", "prove_ms", "permutations", "proof_bytes")),
    BatchAwaiting: ("batch_awaiting_ancestors", ()),
    BatchSubmitted: ("batch_submitted", ("transaction", "valid_until_slot")),
    BatchReverted: ("batch_reverted", ("reason", "detail")),
    BatchConfirmed: ("batch_confirmed", ("transaction", "slot")),
}


class Narration:
    """A listener of the journal. `operations_of` gives the ids that an event moved."""

    def __init__(self, engine: Engine, operations_of: Callable[[Event], Sequence[str]]) -> None:
        self._engine = engine
        self._operations_of = operations_of

    def hear(self, _last_seq: int, events: Sequence[Event]) -> None:
        """Writes the lines of a durable group."""
        for event in events:
            if type(event) in _BATCH_LINES:
                self._batch(event)
            else:
                self._other(event)

    def _batch(self, event: Event) -> None:
        name, fields = _BATCH_LINES[type(event)]
        facts = {field: getattr(event, field) for field in fields}
        warn = isinstance(event, BatchReturned | BatchReverted)
        write = _log.warning if warn else _log.info
        batch_id = getattr(event, "batch_id", None)
        write(name, batch_id=batch_id, **facts, operation_ids=list(self._operations_of(event)))

    def _other(self, event: Event) -> None:
        match event:
            case OperationsAdmitted(operations=(operation,)):
                _log.info(
                    "operation_admitted",
                    operation_id=operation.operation_id,
                    agent_id=operation.agent_id,
                    state=operation.state,
                    depth=operation.depth,
                    reason=None if operation.decision is None else operation.decision.denial,
                )
            case OperationsAdmitted():
                ids = [operation.operation_id for operation in event.operations]
                _log.info("operations_admitted", operation_ids=ids)
            case OperationsQueued():
                _log.info("operations_queued", reason=event.reason, operation_ids=list(event.operation_ids))
            case QueueCleared():
                held = [*event.speculating_ids, *event.deferred_ids]
                _log.warning("queue_cleared", batch_ids=list(event.batch_ids), operation_ids=held)
            case OperationsRolledBack():
                for operation_id, reason in zip(event.operation_ids, event.reasons, strict=True):
                    self._ended("rollback", operation_id, reason, cause=event.cause)
            case RollbackPending():
                for operation_id in event.operation_ids:
                    self._ended("rollback_pending", operation_id, event.reason, cause=event.detail)
            case OperationFailed():
                slashed = 0 if event.slash is None else event.slash.lamports
                self._ended(
                    "operation_failed",
                    event.operation_id,
                    event.code,
                    cause=event.detail,
                    slashed_lamports=slashed,
                )
            case BreakerChanged():
                _log.warning("circuit_breaker", state=event.state, reason=event.reason)
            case LatchChanged():
                _log.warning("latch", latch=event.latch, by=event.by)
            case ConfigChanged():
                _log.info("config_changed", changes=event.changes, by=event.by)
            case ChainConnectionChanged():
                _log.warning("chain_connection", reason=event.status)
            case FinalityViolated():
                _log.error("finality_violated", batch_ids=list(event.batch_ids), slot=event.slot)

    def _ended(self, name: str, operation_id: str, reason: str, **facts: object) -> None:
        operation = self._engine.state.ended.get(operation_id) or self._engine.state.live.get(operation_id)
        agent_id = None if operation is None else operation.agent_id
        batch_id = None if operation is None else operation.batch_id
        _log.warning(
            name, operation_id=operation_id, agent_id=agent_id, batch_id=batch_id, reason=reason, **facts
        )
