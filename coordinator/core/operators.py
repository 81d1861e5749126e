"""What operators and agents command: settings, stops, cleared queues, forced timeouts, cancellations."""

from collections.abc import Mapping

import msgspec

from coordinator.core.commands import Outcome
from coordinator.core.core import Core
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import (
    AdminActed,
    BreakerChanged,
    ConfigChanged,
    LatchChanged,
    QueueCleared,
)
from coordinator.core.graph import with_descendants
from coordinator.core.records import Operation
from coordinator.core.rollback import fail, return_batches, roll_back
from coordinator.core.states import (
    TERMINAL,
    BatchState,
    BreakerState,
    FailureCode,
    Latch,
    OperationState,
    ReturnReason,
    RollbackReason,
)

ENABLED_KEY = "speculation.enabled"
DRAIN = "drain_speculation"
DISABLE = "disable_speculation"
DEFAULT_DEADLINE_S = 30


def _act(core: Core, by: str, action: str, before: object, after: object, *, now_ms: int) -> None:
    texts = [msgspec.json.encode(value).decode() for value in (before, after)]
    core.emit(AdminActed(now_ms, by, action, texts[0], texts[1]))


def note(core: Core, action: str, *, before: object, after: object, by: str, now_ms: int) -> None:
    """Keep what an operator did that changes no state of the core (a profile, a look at the whole log)."""
    _act(core, by, action, before, after, now_ms=now_ms)


def set_config(
    core: Core, changes: Mapping[str, bool | int | float | str | None], *, by: str, now_ms: int
) -> None:
    """Keep validated runtime settings (None removes one); enabling speculation clears an operator's stop."""
    state = core.state
    before = {key: state.overrides.get(key) for key in changes}
    core.emit(ConfigChanged(now_ms, dict(changes), by))
    if changes.get(ENABLED_KEY) is True and state.totals.latch is not None:
        core.emit(LatchChanged(now_ms, None, None, by))
    _act(core, by, "config", before, dict(changes), now_ms=now_ms)


def emergency(
    core: Core, action: str, *, force: bool, deadline_s: int | None, by: str, now_ms: int
) -> Outcome:
    """Stop new speculation by a latch; what is in flight finishes until the deadline, or with `force` ends now.

    Raises:
        CoreError: `invalid`, no such action.
    """
    latches = {DRAIN: Latch.DRAINING, DISABLE: Latch.DISABLED}
    if action not in latches:
        raise CoreError(ErrorCode.INVALID, f"action must be one of {', '.join(latches)}", field="action")
    before = core.state.totals.latch
    now = force and action == DISABLE
    seconds = DEFAULT_DEADLINE_S if deadline_s is None else deadline_s
    until_ms = None if now else now_ms + seconds * 1_000
    core.emit(LatchChanged(now_ms, latches[action], until_ms, by))
    outcome = Outcome((), (), until_ms)
    if now:
        outcome = end_commitments(core, RollbackReason.EMERGENCY, cause=f"{action} by {by}", now_ms=now_ms)
    after = {"latch": latches[action], "drain_until_ms": until_ms, "rolled_back": len(outcome.rolled_back)}
    _act(core, by, action, {"latch": before}, after, now_ms=now_ms)
    return outcome


def end_commitments(core: Core, reason: RollbackReason, *, cause: str, now_ms: int) -> Outcome:
    """Roll back every live commitment with its descendants; nobody is slashed."""
    roots = {one.operation_id: reason for one in core.state.live.values() if one.committed}
    return roll_back(core, roots, cause=cause, commanded=True, now_ms=now_ms)


def clear_queue(core: Core, *, by: str, now_ms: int) -> tuple[int, int]:
    """Discard the batches that are being proved and empty the queue. No operation is dropped: all are held, and
    queued again at the next tick.

    Returns:
        (batches discarded, operations held).
    """
    state = core.state
    proving = [batch for batch in state.batches.values() if batch.state is BatchState.PROVING]
    waiters = [
        waiter_id
        for batch in proving
        for waiter_id in batch.waiters
        if state.batches[waiter_id].state is not BatchState.PROVING
    ]
    return_batches(core, waiters, ReturnReason.ANCESTOR_RETURNED, detail="queue cleared", now_ms=now_ms)
    proving = [batch for batch in proving if batch.batch_id in state.batches]
    held = [
        one for one in state.live.values() if one.state in (OperationState.QUEUED, OperationState.PROVING)
    ]
    for batch in proving:
        core.cancel_batch(batch.batch_id)
    if held:
        core.emit(
            QueueCleared(
                now_ms,
                tuple(batch.batch_id for batch in proving),
                tuple(one.operation_id for one in held if one.speculative),
                tuple(one.operation_id for one in held if not one.speculative),
            )
        )
    after = {"batches": len(proving), "operations": len(held)}
    _act(core, by, "clear_queue", {}, after, now_ms=now_ms)
    return len(proving), len(held)


def timeout_stale(core: Core, older_than_s: int, *, by: str, now_ms: int) -> Outcome:
    """Time out every open operation that was admitted longer ago than this."""
    newest_ms = now_ms - older_than_s * 1_000
    roots: dict[str, RollbackReason] = {}
    for operation in core.state.live.values():  # in order of admission
        if operation.admitted_at_ms > newest_ms:
            break
        roots[operation.operation_id] = RollbackReason.CONFIRMATION_TIMEOUT
    outcome = roll_back(core, roots, cause=f"timeout-stale by {by}", commanded=True, now_ms=now_ms)
    after = {"rolled_back": len(outcome.rolled_back), "pending": len(outcome.pending)}
    _act(core, by, "timeout_stale", {"older_than_s": older_than_s}, after, now_ms=now_ms)
    return outcome


def reset_breaker(core: Core, *, by: str, now_ms: int) -> None:
    """Close the circuit breaker and empty its window."""
    before = core.state.breaker
    facts = {"state": before.state, "reason": before.reason}
    core.emit(BreakerChanged(now_ms, BreakerState.CLOSED, f"reset by {by}", None))
    _act(core, by, "reset_breaker", facts, {"state": BreakerState.CLOSED}, now_ms=now_ms)


def cancel(core: Core, operation_id: str, *, now_ms: int) -> tuple[str, ...]:
    """End an operation and its descendants at the agent's wish. An agent that so gives up a task it holds the claim
    of, while others have staked on its result, fails by its own fault.

    Returns:
        The ids that ended, descendants before ancestors.

    Raises:
        CoreError: `unknown_operation`, `not_cancellable`.
    """
    operation = core.state.operation(operation_id)
    if operation.state in TERMINAL or operation.state is OperationState.SUBMITTING:
        message = f"{operation_id!r} is {operation.state}"
        raise CoreError(ErrorCode.NOT_CANCELLABLE, message, field="operation_id")
    if not _abandons_claim(core, operation, now_ms=now_ms):
        roots = {operation_id: RollbackReason.CANCELLED}
        return roll_back(core, roots, cause="cancelled", commanded=True, now_ms=now_ms).rolled_back
    ended = tuple(one.operation_id for one in with_descendants(core.state, [operation]))
    detail = f"cancelled while it held the claim of {operation.task_id!r}"
    lost = fail(core, [(operation, FailureCode.CLAIM_ABANDONED, detail)], now_ms=now_ms)
    return_batches(core, lost, ReturnReason.MEMBER_LOST, detail=detail, now_ms=now_ms)
    core.move_breaker(now_ms=now_ms)
    return ended


def _abandons_claim(core: Core, operation: Operation, *, now_ms: int) -> bool:
    task = core.state.tasks.get(operation.task_id)
    if task is None or task.claimed_by != operation.agent_id or now_ms >= task.claim_expires_ms:
        return False
    return operation.committed and any(
        one.committed and one.agent_id != operation.agent_id
        for one in with_descendants(core.state, [operation])
    )
