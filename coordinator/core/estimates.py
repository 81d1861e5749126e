"""How long proofs and confirmations will take, from what they took before; and what a batch may hold."""

from coordinator.core.config import CoreConfig
from coordinator.core.limits import MAX_BATCH_OPERATIONS, PADDING_ROWS
from coordinator.core.records import Batch, Operation
from coordinator.core.state import CoreState
from coordinator.core.states import BatchState

#: Left to itself, the planner does not go above this: a bigger proof gains little and confirms later.
AUTO_LOG_ROWS = 15
#: Expected milliseconds a row, before any proof was made.
INITIAL_MS_PER_ROW = 0.02


def capacity(config: CoreConfig) -> tuple[int, int]:
    """(operations, rows of operations) that a batch may hold: a fixed ceiling, or the planner's own."""
    if config.batch_size is not None:
        return min(config.batch_size, MAX_BATCH_OPERATIONS), (1 << config.max_log_rows) - PADDING_ROWS
    log_rows = min(AUTO_LOG_ROWS, config.max_log_rows)
    return MAX_BATCH_OPERATIONS, (1 << log_rows) - PADDING_ROWS


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

    def prove_ms(self, operation_rows: int) -> float:
        """A proof of so many operation rows, by the nearest size that was proved, in proportion."""
        log_rows = (operation_rows + PADDING_ROWS - 1).bit_length()
        averages = self._state.totals.prove_ema_ms
        if not averages:
            return INITIAL_MS_PER_ROW * (1 << log_rows)
        nearest = min(averages, key=lambda known: (abs(known - log_rows), known))
        return averages[nearest] * 2.0 ** (log_rows - nearest)

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
            proved_ms = max(proved_ms, batch.started_at_ms + self.prove_ms(batch.operation_rows))
        return max([proved_ms, *(self._confirmed_ms[one] for one in batch.waits_on)]) + self.settle_ms
