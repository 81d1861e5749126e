"""How the system stands: whether new speculation is possible, its rates, and one score for a dashboard's
first tile.
"""

from typing import NamedTuple

from coordinator.core.engine import Engine
from coordinator.core.speculation import speculation_on
from coordinator.core.state import CoreState
from coordinator.core.states import BreakerState, ConnectionStatus
from coordinator.thresholds import MEMORY, PROOF_QUEUE, ROLLBACK_RATE

RATE_WINDOW_S = 300
#: The rollback rate at which the score is 0: twice the critical alert's, where the breaker opens too.
WORST_ROLLBACK_RATE = 2 * ROLLBACK_RATE.critical

_CHAIN_SCORE = {
    ConnectionStatus.CONNECTED: 1.0,
    ConnectionStatus.DEGRADED: 0.5,
    ConnectionStatus.DISCONNECTED: 0.0,
}
_BREAKER_SCORE = {BreakerState.CLOSED: 1.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 0.0}


class Outcomes(NamedTuple):
    """What ended within the window, operators' and agents' own rollbacks left out."""

    finished: int
    rolled_back: int
    failed: int

    @property
    def rollback_rate(self) -> float:
        """Rolled back ÷ finished; 0 without any."""
        return self.rolled_back / self.finished if self.finished else 0.0


def speculation_enabled(engine: Engine) -> bool:
    """Whether new speculation is possible at all: enabled, no operator's stop, the breaker not open."""
    state = engine.state
    return speculation_on(state, engine.config) and state.breaker.state is not BreakerState.OPEN


def recent_outcomes(state: CoreState, *, now_ms: int, window_s: int = RATE_WINDOW_S) -> Outcomes:
    """The outcomes of the last `window_s` seconds (at most ten minutes are kept)."""
    oldest = now_ms // 1000 - window_s
    kept = [bucket for bucket in state.outcomes if bucket.second > oldest]
    return Outcomes(
        finished=sum(bucket.finished for bucket in kept),
        rolled_back=sum(bucket.rolled_back for bucket in kept),
        failed=sum(bucket.failed for bucket in kept),
    )


def health_parts(
    engine: Engine,
    *,
    now_ms: int,
    writable: bool,
    memory_bytes: int,
    workers_running: int,
    workers_target: int,
) -> dict[str, float]:
    """Every part of the score, from 0 (as bad as it gets) to 1; the score is the least of them.

    Queue and memory count from their warning thresholds on; workers against `workers_target`, the number that may run:
    desiring more than the machine has slots for is no illness.
    """
    state, config = engine.state, engine.config
    limit_bytes = config.max_memory_mb * 2**20
    return {
        "log": 1.0 if writable else 0.0,
        "chain": _CHAIN_SCORE[state.totals.connection],
        "circuit_breaker": _BREAKER_SCORE[state.breaker.state],
        "rollback_rate": 1
        - min(recent_outcomes(state, now_ms=now_ms).rollback_rate / WORST_ROLLBACK_RATE, 1),
        "proof_queue": _above(state.queued / config.queue_size, PROOF_QUEUE.warning),
        "memory": _above(memory_bytes / limit_bytes, MEMORY.warning),
        "workers": min(workers_running / workers_target, 1) if workers_target else 0.0,
    }


def _above(share: float, threshold: float) -> float:
    return 1 - min(max((share - threshold) / (1 - threshold), 0.0), 1.0)
