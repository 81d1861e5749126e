"""The planner's decisions with their reasons: what would be started now, and what everything else waits for.

The same `plan` as the live loop's, asked about a moment; nothing is started.
"""

from collections.abc import Iterator
from itertools import islice

import msgspec

from coordinator.core.commands import BatchPlan
from coordinator.core.estimates import Estimates, capacity
from coordinator.core.gathering import Gathering
from coordinator.core.planner import PlannerView, plan
from coordinator.core.records import Operation
from coordinator.core.states import OperationState

#: Open operations that are looked at, oldest first.
MAX_EXPLAINED = 20_000
#: Ids that stand beside each reason.
SAMPLE_IDS = 20

#: Why an operation is not in a batch that starts now.
WAITING: dict[str, str] = {
    "parents": "deferred, or speculating without optimistic proofs: until its parents are confirmed",
    "held": "the queue was cleared: until the next tick",
    "isolation": "a batch with it failed: its group is proved by itself, one group a worker",
    "parent_queued": "a parent is queued and in no batch yet: batches follow the graph",
    "ancestors_in_flight": "until its proof would be ready just when its ancestors are confirmed",
    "task_in_flight": "another operation of the same task is being proved",
    "gathering": "until the operations that build on it have stopped coming",
    "worker": "until a worker is idle that has not failed it, and the batch has room",
}


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Operations that wait for the same thing: how many, the first of them, and since when the oldest waits."""

    reason: str
    count: int
    operation_ids: tuple[str, ...]
    oldest_ms: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What would start now and what waits; `proof_ms` of each batch and `settle_ms` are the planner's estimates."""

    batches: tuple[BatchPlan, ...]
    proof_ms: tuple[float, ...]
    settle_ms: float
    waiting: tuple[Waiting, ...]
    looked_at: int
    max_operations: int
    max_rows: int


def explain(view: PlannerView, *, now_ms: int) -> Explanation:
    """The plan for this moment, with reasons for what it leaves out; a pure function of the view and the time."""
    plans = plan(view, now_ms=now_ms)
    estimates = Estimates(view.state, view.config, now_ms)
    gathering = Gathering(view.state, view.config, estimates)
    planned = {operation_id for one in plans for operation_id in one.operation_ids}
    found: dict[str, list[Operation]] = {}
    looked_at = 0
    for operation in islice(_out_of_batches(view), MAX_EXPLAINED):
        looked_at += 1
        if operation.operation_id not in planned:
            found.setdefault(_reason(view, gathering, operation, now_ms), []).append(operation)
    live = view.state.live
    rows = [sum(live[operation_id].rows for operation_id in one.operation_ids) for one in plans]
    max_operations, max_rows = capacity(view.config, view.state.totals.cost)
    return Explanation(
        batches=tuple(plans),
        proof_ms=tuple(
            round(estimates.prove_ms(each, one.worker_id), 1) for each, one in zip(rows, plans, strict=True)
        ),
        settle_ms=round(estimates.settle_ms, 1),
        waiting=tuple(
            Waiting(
                reason=reason,
                count=len(found[reason]),
                operation_ids=tuple(one.operation_id for one in found[reason][:SAMPLE_IDS]),
                oldest_ms=max(0, now_ms - min(one.timeline[-1][0] for one in found[reason])),
            )
            for reason in WAITING
            if reason in found
        ),
        looked_at=looked_at,
        max_operations=max_operations,
        max_rows=max_rows,
    )


def _out_of_batches(view: PlannerView) -> Iterator[Operation]:
    return (operation for operation in view.state.live.values() if operation.batch_id is None)


def _reason(view: PlannerView, gathering: Gathering, operation: Operation, now_ms: int) -> str:
    state = view.state
    if operation.operation_id in state.held:
        return "held"
    if operation.state is not OperationState.QUEUED:
        return "parents"
    if operation.group:
        return "isolation"
    if operation.blocked:
        return "parent_queued"
    if operation.task_id in state.task_in_flight:
        return "task_in_flight"
    if operation.unconfirmed:
        return "ancestors_in_flight"
    return "gathering" if gathering.until_ms(operation) > now_ms else "worker"
