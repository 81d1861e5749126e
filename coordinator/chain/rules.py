"""What the local chain demands of a batch before its proof is looked at: an ordered list of rules."""

from collections.abc import Callable, Iterable

from coordinator.chain.chain_store import ChainView, Refusal
from coordinator.chain.interface import BatchTransaction, RefusalCode
from workers.statement import MAX_OPERATIONS

Rule = Callable[[BatchTransaction, ChainView], Refusal | None]


def obeys_constraints(batch: BatchTransaction, view: ChainView) -> Refusal | None:
    """A task with a registered constraint hash gets that output and no other."""
    demanded = [view.constraint_hash(operation.task_id) for operation in batch.operations]
    guilty = [
        index
        for index, (operation, demand) in enumerate(zip(batch.operations, demanded, strict=True))
        if demand is not None and demand != operation.constraint_hash
    ]
    return _refusal(RefusalCode.CONSTRAINT_MISMATCH, guilty, "the output is not the one the task asks for")


def spends_once(batch: BatchTransaction, view: ChainView) -> Refusal | None:
    """A nullifier is spent once and a task is done once, within the batch too."""
    nullifiers, tasks, guilty = set[bytes](), set[str](), list[int]()
    for index, operation in enumerate(batch.operations):
        again = operation.nullifier in nullifiers or operation.task_id in tasks
        if again or view.is_spent(operation.nullifier) or view.has_task(operation.task_id):
            guilty.append(index)
        nullifiers.add(operation.nullifier)
        tasks.add(operation.task_id)
    return _refusal(RefusalCode.DOUBLE_SPEND, guilty, "the nullifier is spent or the task is done")


def follows_its_parents(batch: BatchTransaction, view: ChainView) -> Refusal | None:
    """Every parent is confirmed, or stands earlier in the batch."""
    earlier, guilty = set[bytes](), list[int]()
    for index, operation in enumerate(batch.operations):
        if not all(parent in earlier or view.is_confirmed(parent) for parent in operation.parents):
            guilty.append(index)
        earlier.add(operation.output_commitment)
    return _refusal(
        RefusalCode.UNCONFIRMED_PARENT, guilty, "a parent is neither confirmed nor earlier in the batch"
    )


RULES: tuple[Rule, ...] = (obeys_constraints, spends_once, follows_its_parents)


def broken_rule(
    batch: BatchTransaction, view: ChainView, *, accepted: frozenset[str], rejected_tasks: frozenset[str]
) -> Refusal | None:
    """The first rule that the batch breaks. `rejected_tasks` are refused because a fault was asked for."""
    if batch.parameters not in accepted:
        detail = f"this chain takes {', '.join(sorted(accepted))}, not {batch.parameters}"
        return Refusal(RefusalCode.PARAMETERS_REFUSED, (), detail)
    if not 1 <= len(batch.operations) <= MAX_OPERATIONS:
        return Refusal(RefusalCode.INVALID_STATEMENT, (), f"a batch has 1 to {MAX_OPERATIONS} operations")
    for rule in RULES:
        refusal = rule(batch, view)
        if refusal is not None:
            return refusal
    rejected = [index for index, o in enumerate(batch.operations) if o.task_id in rejected_tasks]
    return _refusal(RefusalCode.CHAIN_REFUSED, rejected, "the chain was told to refuse the task")


def _refusal(code: RefusalCode, guilty: Iterable[int], detail: str) -> Refusal | None:
    indices = tuple(guilty)
    return Refusal(code, indices, detail) if indices else None
