"""What the console shows every second, in one small answer: figures against the runbook's thresholds, and one sample.

The levels are decided here, from `thresholds`, so that the page, the alerts and the runbook cannot disagree.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Literal

from coordinator.answers_console import ConsoleSample, Figure, GraphNode, Level
from coordinator.core.state import CoreState
from coordinator.health import recent_outcomes
from coordinator.metrics_samples import Reading, stake_utilization
from coordinator.thresholds import (
    CONFIRMATION_P99_S,
    DEPTH,
    MEMORY,
    PROOF_QUEUE,
    ROLLBACK_RATE,
    STAKE_UTILIZATION,
    WORKER_UTILIZATION,
    Threshold,
)

#: Ten minutes at a sample every five seconds: what a fresh page shows of the past.
HISTORY_SAMPLES = 120
HISTORY_STEP_MS = 5_000
#: Pending operations that the graph shows; it says how many there are.
MAX_NODES = 500


class History:
    """The samples of the last ten minutes, one every five seconds, however often it is told one."""

    def __init__(self) -> None:
        self._samples: deque[ConsoleSample] = deque(maxlen=HISTORY_SAMPLES)

    def due(self, now_ms: int) -> bool:
        """Whether a sample would be kept now. A clock that was set back is no reason to wait for it."""
        last_ms = self._samples[-1].at_ms if self._samples else None
        return last_ms is None or not 0 <= now_ms - last_ms < HISTORY_STEP_MS

    def note(self, make: Callable[[], ConsoleSample], *, now_ms: int) -> None:
        """Keep a sample, if one is due."""
        if self.due(now_ms):
            self._samples.append(make())

    @property
    def samples(self) -> tuple[ConsoleSample, ...]:
        """Oldest first."""
        return tuple(self._samples)


def sample(reading: Reading, *, latency_p99_s: float) -> ConsoleSample:
    """The charts' numbers now."""
    state, totals = reading.state, reading.state.totals
    busy = list(reading.utilizations.values())
    return ConsoleSample(
        at_ms=reading.now_ms,
        queued=state.queued,
        open=state.open_operations,
        pending=state.commitments,
        depth=state.current_depth,
        admitted_total=totals.admitted,
        confirmed_total=totals.confirmed,
        rollbacks_total={
            reason.value: count for reason, count in totals.rollbacks_by_reason.items() if count
        },
        latency_p99_s=latency_p99_s,
        locked_lamports=state.locked_lamports,
        memory_bytes=reading.memory_bytes,
        workers_running=reading.workers_running,
        workers_busy=sum(busy) / len(busy) if busy else 0.0,
    )


def figures(reading: Reading, now: ConsoleSample) -> tuple[Figure, ...]:
    """The runbook's critical thresholds, in its order, then the two that only warn."""
    state, config = reading.state, reading.engine.config
    rollback_rate = recent_outcomes(state, now_ms=reading.now_ms).rollback_rate
    memory = reading.memory_bytes / (config.max_memory_mb * 2**20)
    return (
        _figure("rollback_rate", "Rollback rate", rollback_rate, ROLLBACK_RATE, "Reduce depth"),
        _figure("memory", "Memory", memory, MEMORY, "Force GC or reduce limits"),
        _figure("proof_queue", "Proof queue", state.queued / config.queue_size, PROOF_QUEUE, "Scale workers"),
        _figure(
            "confirmation_p99",
            "Confirmation p99",
            now.latency_p99_s,
            CONFIRMATION_P99_S,
            "Check the chain",
            unit="seconds",
        ),
        _figure(
            "stake_utilization",
            "Stake utilization",
            stake_utilization(state),
            STAKE_UTILIZATION,
            "Investigate accumulation",
        ),
        _figure("worker_utilization", "Workers busy", now.workers_busy, WORKER_UTILIZATION, "Scale workers"),
        _figure("depth", "Depth", state.current_depth / config.max_depth, DEPTH, "Reduce depth"),
    )


def level_of(value: float, threshold: Threshold) -> Level:
    """Above, not at, a threshold counts, as in the alerts."""
    if value > threshold.critical:
        return "critical"
    return "warning" if value > threshold.warning else "ok"


def graph(state: CoreState) -> tuple[int, list[GraphNode]]:
    """How many operations are pending, and those that were admitted first."""
    live = state.live
    shown = list(islice(live.values(), MAX_NODES))
    ids = {operation.operation_id for operation in shown}
    return len(live), [
        GraphNode(
            operation_id=operation.operation_id,
            agent_id=operation.agent_id,
            state=operation.state,
            depth=operation.depth,
            speculative=operation.speculative,
            parents=tuple(parent for parent in operation.parents if parent in ids),
        )
        for operation in shown
    ]


def _figure(
    name: str,
    label: str,
    value: float,
    threshold: Threshold,
    action: str,
    *,
    unit: Literal["share", "seconds"] = "share",
) -> Figure:
    critical = None if threshold.critical == float("inf") else threshold.critical
    return Figure(
        name=name,
        label=label,
        unit=unit,
        value=round(value, 4),
        warning=threshold.warning,
        critical=critical,
        level=level_of(value, threshold),
        action=action,
    )
