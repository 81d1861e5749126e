"""How operations end without being confirmed, and what that does to descendants and batches.

Leaves first, always. What is on its way to the chain is not touched: its end waits until the transaction is dead, and
is forgotten when it is included (invariant 8). Batches that lost a member go back to the queue, and before them those
that wait on them.
"""

from collections.abc import Iterable, Mapping

from coordinator.core.commands import Outcome
from coordinator.core.core import Core
from coordinator.core.events import (
    BatchReturned,
    OperationFailed,
    OperationsRolledBack,
    RollbackPending,
    Slash,
)
from coordinator.core.graph import leaves_first, with_descendants
from coordinator.core.records import Batch, Operation
from coordinator.core.stake import divide_slash, slash_amount
from coordinator.core.states import (
    IN_BATCH,
    SLASHING,
    WORKER_FAILURES,
    BatchState,
    FailureCode,
    OperationState,
    ReturnReason,
    RollbackPolicy,
    RollbackReason,
)

#: Faults that say nothing against an operation's content: its descendants stay right if the same output comes again.
NOT_OF_CONTENT = frozenset(
    {RollbackReason.CONFIRMATION_TIMEOUT, RollbackReason.PROOF_FAILED, RollbackReason.CHAIN_REORG}
)


def roll_back(
    core: Core,
    roots: Mapping[str, RollbackReason],
    *,
    cause: str,
    commanded: bool = False,
    now_ms: int,
) -> Outcome:
    """Roll back operations with their descendants; those in SUBMITTING wait.

    Args:
        core: the engine.
        roots: live operations, each with its reason.
        cause: what happened, for the record.
        commanded: an operator or the agent asked for it.
        now_ms: the time.
    """
    waiting: dict[RollbackReason, list[str]] = {}
    ending: dict[str, RollbackReason] = {}
    for operation_id, reason in roots.items():
        operation = core.state.live[operation_id]
        if operation.state is not OperationState.SUBMITTING:
            ending[operation_id] = reason
        elif operation.pending is None:
            waiting.setdefault(reason, []).append(operation_id)
    for reason, operation_ids in waiting.items():
        core.emit(RollbackPending(now_ms, tuple(operation_ids), reason, commanded=commanded))
    ended, batches = end(core, ending, cause=cause, commanded=commanded, now_ms=now_ms)
    return_batches(core, batches, ReturnReason.MEMBER_LOST, detail=cause, now_ms=now_ms)
    core.move_breaker(now_ms=now_ms)
    return Outcome(rolled_back=ended, pending=tuple(i for ids in waiting.values() for i in ids))


def end(
    core: Core, roots: Mapping[str, RollbackReason], *, cause: str, commanded: bool, now_ms: int
) -> tuple[tuple[str, ...], list[str]]:
    """End operations (none in SUBMITTING) and, as the policy has it, their descendants.

    Returns:
        The ids that ended, leaves first, and the batches that lost members by it, still to be returned.
    """
    if not roots:
        return (), []
    operations = [core.state.live[operation_id] for operation_id in roots]
    orphans_until_ms: int | None = None
    if _descendants_may_wait(core, roots.values(), commanded=commanded):
        operations = leaves_first(operations)
        orphans_until_ms = now_ms + core.config.confirmation_timeout_ms
    else:
        operations = with_descendants(core.state, operations)
    batches = _batches_of(operations)
    ids = tuple(operation.operation_id for operation in operations)
    reasons = tuple(roots.get(operation_id, RollbackReason.PARENT_ROLLED_BACK) for operation_id in ids)
    core.emit(
        OperationsRolledBack(
            now_ms, ids, reasons, cause, commanded=commanded, orphans_until_ms=orphans_until_ms
        )
    )
    return ids, batches


def _descendants_may_wait(core: Core, reasons: Iterable[RollbackReason], *, commanded: bool) -> bool:
    return (
        core.config.rollback_policy is RollbackPolicy.SELECTIVE
        and not commanded
        and all(reason in NOT_OF_CONTENT for reason in reasons)
    )


def _batches_of(operations: Iterable[Operation]) -> list[str]:
    found: dict[str, None] = {}
    for operation in operations:
        if operation.state in IN_BATCH and operation.batch_id is not None:
            found[operation.batch_id] = None
    return list(found)


def fail(core: Core, guilty: Iterable[tuple[Operation, FailureCode, str]], *, now_ms: int) -> list[str]:
    """End operations by their own fault, each after its descendants; one on its way to the chain waits.

    Returns:
        The batches that lost members by it, still to be returned.
    """
    faults = {operation.operation_id: (code, detail) for operation, code, detail in guilty}
    batches: dict[str, None] = {}
    for operation in leaves_first(core.live(list(faults))):
        code, detail = faults[operation.operation_id]
        if operation.state is OperationState.SUBMITTING:
            core.emit(
                RollbackPending(
                    now_ms,
                    (operation.operation_id,),
                    RollbackReason.PARENT_FAILED,
                    failure=code,
                    detail=detail,
                )
            )
        else:
            batches.update(dict.fromkeys(_fail(core, operation, code, detail, now_ms=now_ms)))
    return list(batches)


def _fail(core: Core, operation: Operation, code: FailureCode, detail: str, *, now_ms: int) -> list[str]:
    affected = with_descendants(core.state, [operation])
    batches = _batches_of(affected)
    descendants = [one for one in affected if one is not operation]
    slash = _slash(core, operation, code, descendants, now_ms=now_ms)
    if descendants:
        core.emit(
            OperationsRolledBack(
                now_ms,
                tuple(one.operation_id for one in descendants),
                (RollbackReason.PARENT_FAILED,) * len(descendants),
                operation.operation_id,
            )
        )
    core.emit(OperationFailed(now_ms, operation.operation_id, code, detail, slash))
    return batches


def _slash(
    core: Core, operation: Operation, code: FailureCode, descendants: list[Operation], *, now_ms: int
) -> Slash | None:
    """What the fault takes; nothing where nothing is bonded, or the fault is not the agent's own."""
    if code not in SLASHING or not operation.committed:
        return None
    return divide_slash(
        f"slash-{core.state.totals.slashes + 1}",
        slash_amount(operation.bond_lamports, core.config.slash_basis_points),
        agent_id=operation.agent_id,
        bonded_by=operation.bonded_by,
        victims=[
            (one.agent_id, one.bond_lamports)
            for one in descendants
            if one.committed and one.agent_id != operation.agent_id
        ],
        cooldown_until_ms=now_ms + core.config.cooldown_period_ms,
    )


def end_pending(core: Core, batch: Batch, *, cause: str, now_ms: int) -> list[str]:
    """The batch's transaction is dead: end what waited for that.

    Returns:
        The batches that lost members by it, still to be returned.
    """
    if not batch.pending:
        return []
    members = [(one, one.pending) for one in core.state.members(batch) if one.pending is not None]
    batches = fail(
        core,
        [(one, pending.failure, pending.detail) for one, pending in members if pending.failure is not None],
        now_ms=now_ms,
    )
    for commanded in (False, True):
        roots = {
            one.operation_id: pending.reason
            for one, pending in members
            if pending.failure is None
            and pending.commanded is commanded
            and one.operation_id in core.state.live
        }
        batches += end(core, roots, cause=cause, commanded=commanded, now_ms=now_ms)[1]
    return list(dict.fromkeys(batches))


def return_batches(
    core: Core,
    batch_ids: Iterable[str],
    reason: ReturnReason,
    *,
    detail: str,
    now_ms: int,
    isolate: bool = False,
    isolate_index: int | None = None,
) -> None:
    """Give batches back to the queue, those that wait on them first. Those already gone are left out."""
    batches = core.state.batches
    named = {batch_id: batches[batch_id] for batch_id in batch_ids if batch_id in batches}
    found = dict(named)
    order = list(found.values())
    for batch in order:  # grows while it is walked
        for waiter_id in batch.waiters:
            if waiter_id not in found:
                found[waiter_id] = batches[waiter_id]
                order.append(batches[waiter_id])
    for batch in sorted(order, key=lambda one: one.number, reverse=True):
        mine = batch.batch_id in named
        if batch.state is BatchState.PROVING and not (mine and reason in WORKER_FAILURES):
            core.cancel_batch(batch.batch_id)
        core.emit(
            BatchReturned(
                now_ms,
                batch.batch_id,
                reason if mine else ReturnReason.ANCESTOR_RETURNED,
                detail,
                isolate and mine,
                isolate_index if mine else None,
            )
        )
