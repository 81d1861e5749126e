"""The metrics that are read when they are asked for, each from the state as it is at that moment."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from coordinator.core.engine import Engine
from coordinator.core.records import MAX_TYPES_PER_AGENT, TypeCounts
from coordinator.core.state import CoreState
from coordinator.core.states import BreakerState, ReturnReason
from coordinator.health import health_parts, recent_outcomes, speculation_enabled
from coordinator.metrics_table import NAMED_AGENTS, OTHER, TOP_AGENTS

#: (label values in the table's order, value)
Sample: TypeAlias = tuple[tuple[str, ...], float]

#: The prover's own failures; a batch also comes back because of its members, the chain, a restart.
_PROOF_FAILURES = (
    ReturnReason.WORKER_LOST,
    ReturnReason.TIMEOUT,
    ReturnReason.PROVER_ERROR,
    ReturnReason.OUT_OF_MEMORY,
    ReturnReason.INVALID_PROOF,
)
_BREAKER_LEVEL = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One scrape's view. `utilizations`: worker id → share of time busy; `writable`: the log takes events;
    `loop_failures`: how often each of the service's loops ended by a defect.
    """

    engine: Engine
    now_ms: int
    memory_bytes: int
    writable: bool
    workers_running: int
    workers_desired: int
    utilizations: Mapping[str, float]
    loop_failures: Mapping[str, int]

    @property
    def state(self) -> CoreState:
        """The core's state."""
        return self.engine.state

    @property
    def health(self) -> dict[str, float]:
        """The parts of the health score."""
        return health_parts(
            self.engine,
            now_ms=self.now_ms,
            writable=self.writable,
            memory_bytes=self.memory_bytes,
            workers_running=self.workers_running,
            workers_desired=self.workers_desired,
        )


def _one(value: float) -> Iterable[Sample]:
    return (((), value),)


def _by(counts: Iterable[tuple[str, int]]) -> Iterable[Sample]:
    return [((name,), count) for name, count in counts]


def _operations(state: CoreState) -> Iterable[Sample]:
    """The first agents by name, the rest together; dicts keep the order of registration."""
    others: dict[str, TypeCounts] = {}
    samples: list[Sample] = []
    for at, agent in enumerate(state.agents.values()):
        for operation_type, counts in agent.by_type.items():
            if at < NAMED_AGENTS:
                samples += _statuses(agent.agent_id, operation_type, counts)
            else:
                _add(others, operation_type, counts)
    for operation_type, counts in others.items():
        samples += _statuses(OTHER, operation_type, counts)
    return samples


def _statuses(agent_id: str, operation_type: str, counts: TypeCounts) -> list[Sample]:
    return [
        (("pending", agent_id, operation_type), counts.admitted),
        (("confirmed", agent_id, operation_type), counts.confirmed),
        (("rolled_back", agent_id, operation_type), counts.rolled_back),
        (("failed", agent_id, operation_type), counts.failed),
    ]


def _add(others: dict[str, TypeCounts], operation_type: str, counts: TypeCounts) -> None:
    if operation_type not in others and len(others) >= MAX_TYPES_PER_AGENT:
        operation_type = OTHER
    total = others.setdefault(operation_type, TypeCounts())
    total.admitted += counts.admitted
    total.confirmed += counts.confirmed
    total.rolled_back += counts.rolled_back
    total.failed += counts.failed


def _top_agents(state: CoreState) -> Iterable[Sample]:
    bonded = (agent for agent in state.agents.values() if agent.bonded_lamports)
    top = heapq.nlargest(TOP_AGENTS, bonded, key=lambda agent: agent.bonded_lamports)
    return [((agent.agent_id,), agent.bonded_lamports) for agent in top]


def stake_utilization(state: CoreState) -> float:
    """Bonded ÷ all lamports that agents own; 0 where they own none."""
    totals = state.totals
    owned = totals.deposited_lamports - totals.withdrawn_lamports - totals.treasury_lamports
    return state.locked_lamports / owned if owned else 0.0


def _proof_failures(state: CoreState) -> Iterable[Sample]:
    returns = state.totals.returns_by_reason
    return [((reason,), returns.get(reason, 0)) for reason in _PROOF_FAILURES]


#: Every metric that is read at the scrape, by name; the others are kept by `metrics.Metrics`.
READERS: Mapping[str, Callable[[Reading], Iterable[Sample]]] = {
    "speculation_enabled": lambda r: _one(speculation_enabled(r.engine)),
    "speculation_health_score": lambda r: _one(min(r.health.values())),
    "speculation_operations_total": lambda r: _operations(r.state),
    "speculation_rollback_rate": lambda r: _one(recent_outcomes(r.state, now_ms=r.now_ms).rollback_rate),
    "speculation_rollbacks_total": lambda r: _by(r.state.totals.rollbacks_by_reason.items()),
    "speculation_denials_total": lambda r: _by(r.state.totals.denials_by_reason.items()),
    "speculation_current_depth": lambda r: _one(r.state.current_depth),
    "speculation_max_depth": lambda r: _one(r.engine.config.max_depth),
    "speculation_active_branches": lambda r: _one(r.state.branches),
    "speculation_stake_locked_total": lambda r: _one(r.state.locked_lamports),
    "speculation_stake_locked_per_agent": lambda r: _top_agents(r.state),
    "speculation_stake_slashed_total": lambda r: _by(r.state.totals.slashed_by_reason.items()),
    "speculation_stake_utilization": lambda r: _one(stake_utilization(r.state)),
    "speculation_proof_queue_size": lambda r: _one(r.state.queued),
    "speculation_proof_queue_size_max": lambda r: _one(r.engine.config.queue_size),
    "speculation_proof_failures_total": lambda r: _proof_failures(r.state),
    "speculation_proof_worker_utilization": lambda r: [((k,), v) for k, v in r.utilizations.items()],
    "speculation_memory_bytes": lambda r: _one(r.memory_bytes),
    "speculation_memory_limit_bytes": lambda r: _one(r.engine.config.max_memory_mb * 2**20),
    "speculation_state_snapshots_count": lambda r: _one(r.state.snapshots),
    "speculation_pending_operations_count": lambda r: _one(r.state.commitments),
    "speculation_open_operations_count": lambda r: _one(r.state.open_operations),
    "speculation_circuit_breaker_state": lambda r: _one(_BREAKER_LEVEL[r.state.breaker.state]),
}
