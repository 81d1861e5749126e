"""Where a figure becomes a warning and where it becomes critical: the runbook's table, once.

The health score, the alerts, the dashboard's colours and the docs follow it; tests compare the files that cannot
import it.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple


class Threshold(NamedTuple):
    """Above `warning` an operator looks when there is time; above `critical` at once (infinite: never)."""

    warning: float
    critical: float = math.inf


ROLLBACK_RATE: Final = Threshold(0.05, 0.15)
MEMORY: Final = Threshold(0.80, 0.95)
PROOF_QUEUE: Final = Threshold(0.50, 0.80)
CONFIRMATION_P99_S: Final = Threshold(30, 60)
STAKE_UTILIZATION: Final = Threshold(0.80, 0.95)
WORKER_UTILIZATION: Final = Threshold(0.85)
DEPTH: Final = Threshold(0.80)
#: The runbook calls an operation stuck that is older than this.
STUCK_S: Final = Threshold(60)

#: By the metric that is compared, a share being one metric divided by its limit.
THRESHOLDS: Mapping[str, Threshold] = {
    "speculation_rollback_rate": ROLLBACK_RATE,
    "speculation_memory_bytes": MEMORY,
    "speculation_proof_queue_size": PROOF_QUEUE,
    "speculation_confirmation_latency_p99": CONFIRMATION_P99_S,
    "speculation_stake_utilization": STAKE_UTILIZATION,
    "speculation_proof_worker_utilization": WORKER_UTILIZATION,
    "speculation_current_depth": DEPTH,
    "speculation_oldest_state_age_seconds": STUCK_S,
}
