"""How long proofs and confirmations will take, from what they took before; and what a batch may hold."""

from coordinator.core.config import CoreConfig
from coordinator.core.cost import CostModel, padded_rows
from coordinator.core.limits import MAX_BATCH_OPERATIONS, PADDING_ROWS
from coordinator.core.records import Batch, Operation
from coordinator.core.state import CoreState
from coordinator.core.states import BatchState

#: The size that the planner starts from, left to itself: below it, batches cost confirmations …
AUTO_LOG_ROWS = 15
#: … and the least it goes down to for the latency's sake.
LEAST_LOG_ROWS = 12
#: A proof of twice the rows has to prove so many more rows a second: it confirms later, and strands more if it fails.
GAIN = 1.05


def capacity(config: CoreConfig, cost: CostModel, worker_id: str | None = None) -> tuple[int, int]:
    """(operations, rows of operations) that a batch of this worker's, or of any, may hold.

    A number in `batch_size` is the ceiling of the operations. Else the size is what the cost model says proves the most
    rows a second within the time that a proof may take. What the worker's memory is known not to hold is left out.
    """
    log_rows, operations = config.max_log_rows, MAX_BATCH_OPERATIONS
    if config.batch_size is not None:
        operations = min(config.batch_size, operations)
    else:
        log_rows = best_log_rows(config, cost, worker_id)
    most = cost.max_rows(worker_id)
    if most is not None:
        log_rows = max(min(log_rows, most.bit_length() - 1), PADDING_ROWS.bit_length())
    return operations, (1 << log_rows) - PADDING_ROWS


def best_log_rows(config: CoreConfig, cost: CostModel, worker_id: str | None) -> int:
    """From AUTO_LOG_ROWS down while a proof takes longer than it may, or else up while that pays."""
    line, most = cost.line(worker_id), config.max_log_rows
    log_rows = min(AUTO_LOG_ROWS, most)
    while log_rows > LEAST_LOG_ROWS and line.ms(1 << log_rows) > config.proof_target_ms:
        log_rows -= 1
    if log_rows < AUTO_LOG_ROWS:
        return log_rows
    while log_rows < most:
        taller_ms = line.ms(2 << log_rows)
        if taller_ms > config.proof_target_ms or 2.0 * line.ms(1 << log_rows) < GAIN * taller_ms:
            break
        log_rows += 1
    return log_rows


def settle_ms(state: CoreState, config: CoreConfig) -> float:
    """From a batch's submission to its confirmation."""
    average = state.totals.settle_ema_ms
    return float((config.confirmation_slots + 1) * config.slot_ms) if average is None else average


class Estimates:
    """What the planner expects, now."""

    def __init__(self, state: CoreState, config: CoreConfig, now_ms: int) -> None:
        self._state = state
        self._now_ms = now_ms
        self._confirmed_ms: dict[str, float] = {}
        self.settle_ms = settle_ms(state, config)

    def prove_ms(self, operation_rows: int, worker_id: str | None = None) -> float:
        """A proof of so many operation rows by this worker, or by the fastest."""
        return self._state.totals.cost.line(worker_id).ms(padded_rows(operation_rows))

    def first_confirmed_ms(self) -> float:
        """When the first of the batches in flight will be confirmed."""
        return min(map(self._batch_confirmed_ms, self._state.batches.values()), default=0.0)

    def next_confirmed_ms(self, after_ms: float) -> float | None:
        """When the first of the batches in flight that confirm after this will be confirmed."""
        times = map(self._batch_confirmed_ms, self._state.batches.values())
        return min((time for time in times if time > after_ms), default=None)

    def ancestors_confirmed_ms(self, operation: Operation) -> float:
        """When the last of the batches that hold parents of this operation will be confirmed."""
        state = self._state
        latest = 0.0
        for parent_id in operation.parents:
            parent = state.live.get(parent_id)
            if parent is not None and parent.batch_id is not None:
                latest = max(latest, self._batch_confirmed_ms(state.batches[parent.batch_id]))
        return latest

    def _batch_confirmed_ms(self, batch: Batch) -> float:
        """Batches wait on earlier ones only, so the latest are estimated after those they wait on."""
        known = self._confirmed_ms.get(batch.batch_id)
        if known is not None:
            return known
        stack = [batch]
        while stack:
            top = stack[-1]
            missing = [self._state.batches[one] for one in top.waits_on if one not in self._confirmed_ms]
            if missing:
                stack += missing
                continue
            stack.pop()
            self._confirmed_ms[top.batch_id] = self._estimate(top)
        return self._confirmed_ms[batch.batch_id]

    def _estimate(self, batch: Batch) -> float:
        if batch.state is BatchState.SUBMITTING and batch.submitted_at_ms is not None:
            return batch.submitted_at_ms + self.settle_ms
        proved_ms = float(self._now_ms)
        if batch.state is BatchState.PROVING:
            proved_ms = max(
                proved_ms, batch.started_at_ms + self.prove_ms(batch.operation_rows, batch.worker_id)
            )
        return max([proved_ms, *(self._confirmed_ms[one] for one in batch.waits_on)]) + self.settle_ms
