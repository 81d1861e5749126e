"""Which batches are proved a second time, on another worker, because the first takes too long.

A worker that is stopped, swapped out or on a throttled host keeps its batch for as long as the proof's timeout allows.
Past the 95th percentile of its own times such a batch is started again on a worker that would idle otherwise, and the
first proof counts ("hedged requests": Dean and Barroso, The Tail at Scale, 2013). One batch in twenty is hedged in vain
at most, and only where nobody else has work for the second worker.
"""

from collections.abc import Collection, Sequence

from coordinator.core.cost import ENOUGH, padded_rows
from coordinator.core.records import Batch
from coordinator.core.state import CoreState
from coordinator.core.states import BatchState

#: What a batch takes besides its proof: witnesses, Ray's calls, the check of the proof.
SLACK_MS = 250


def late(state: CoreState, *, now_ms: int) -> list[Batch]:
    """Batches past the 95th percentile of their workers' times, the latest first; none while nothing is known."""
    found = []
    for batch in state.batches.values():
        if batch.state is BatchState.PROVING:
            over_ms = now_ms - batch.started_at_ms - allowed_ms(state, batch)
            if over_ms > 0:
                found.append((-over_ms, batch.number, batch))
    return [batch for _, _, batch in sorted(found)]


def allowed_ms(state: CoreState, batch: Batch) -> float:
    """How long the batch's worker may take; for ever while too little is known of its kind."""
    cost = state.totals.cost
    if all(len(fit.ratios) < ENOUGH for fit in cost.backends.values()):
        return float("inf")
    return cost.p95_ms(padded_rows(batch.operation_rows), batch.worker_id) + SLACK_MS


def seconds(
    state: CoreState, *, idle: Sequence[str], hedged: Collection[str], now_ms: int
) -> list[tuple[str, str]]:
    """(batch, worker) to start: each late batch that has no second worker yet gets the fastest idle one that did not
    fail its operations.
    """
    if not idle:
        return []
    cost, pairs = state.totals.cost, []
    free = sorted(idle, key=lambda worker_id: cost.line(worker_id).ms(1 << 15))
    for batch in late(state, now_ms=now_ms):
        if batch.batch_id in hedged:
            continue
        failed_on = {worker_id for member in state.members(batch) for worker_id in member.failed_on}
        chosen = next((one for one in free if one not in failed_on and one != batch.worker_id), None)
        if chosen is not None:
            free.remove(chosen)
            pairs.append((batch.batch_id, chosen))
    return pairs
