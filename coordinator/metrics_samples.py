"""The metrics that are read when they are asked for, each from the state as it is at that moment."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias, TypeVar

from coordinator.core.engine import Engine
from coordinator.core.records import TypeCounts
from coordinator.core.state import CoreState
from coordinator.core.states import BreakerState, ReturnReason
from coordinator.health import health_parts, recent_outcomes, speculation_enabled
from coordinator.metrics_table import NAMED_AGENTS, NAMED_TYPES, OPEN_STATES, OTHER, STATUSES, TOP_AGENTS

_K = TypeVar("_K")

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
#: Open operations that are looked at for their age, in order of admission: one that is stuck comes to the front.
_AGED_OPERATIONS = 1_000
_BREAKER_LEVEL = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One scrape's view. `utilizations`: worker id → share of time busy; `writable`: the log takes events;
    `workers_target`: how many may run, of those desired, with these slots and this memory;
    `loop_failures`: how often each of the service's loops ended by a defect.
    """

    engine: Engine
    now_ms: int
    memory_bytes: int
    writable: bool
    workers_running: int
    workers_target: int
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
            workers_target=self.workers_target,
        )


def _one(value: float) -> Iterable[Sample]:
    return (((), value),)


def _by(counts: Iterable[tuple[str, int]]) -> Iterable[Sample]:
    return [((name,), count) for name, count in counts]


class OperationCounts:
    """`speculation_operations_total`: the first agents and the first types by name, the rest together.

    Agents are named in order of registration, which lasts. Types are named as they are first seen, for as long as the
    process lives: a name that came and went would look like a counter's reset.
    """

    def __init__(self) -> None:
        self._types: dict[str, None] = {}

    def samples(self, state: CoreState) -> list[Sample]:
        """Every status of every pair of an agent and a type that is counted apart."""
        sums: dict[tuple[str, str], TypeCounts] = {}
        agents = iter(state.agents.values())
        for agent in islice(agents, NAMED_AGENTS):
            for operation_type, counts in agent.by_type.items():
                _add(sums, (agent.agent_id, self._label(operation_type)), counts)
        others: dict[str, TypeCounts] = {}
        for agent in agents:  # the many: by type alone, labelled afterwards
            for operation_type, counts in agent.by_type.items():
                _add(others, operation_type, counts)
        for operation_type, counts in others.items():
            _add(sums, (OTHER, self._label(operation_type)), counts)
        return [
            ((status, *labels), count)
            for labels, total in sums.items()
            for status, count in zip(
                STATUSES, (total.admitted, total.confirmed, total.rolled_back, total.failed), strict=True
            )
        ]

    def _label(self, operation_type: str) -> str:
        if operation_type not in self._types:
            if len(self._types) >= NAMED_TYPES:
                return OTHER
            self._types[operation_type] = None
        return operation_type


def _add(sums: dict[_K, TypeCounts], key: _K, counts: TypeCounts) -> None:
    total = sums.get(key)
    if total is None:
        total = sums[key] = TypeCounts()
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


def _oldest_ages_s(reading: Reading) -> Iterable[Sample]:
    """The longest time in each state; an operation's last timeline entry is when it came there."""
    since_ms = dict.fromkeys(OPEN_STATES, reading.now_ms)
    for operation in islice(reading.state.live.values(), _AGED_OPERATIONS):
        since_ms[operation.state] = min(since_ms[operation.state], operation.timeline[-1][0])
    return [((state,), (reading.now_ms - at_ms) / 1000) for state, at_ms in since_ms.items()]


def _proof_failures(state: CoreState) -> Iterable[Sample]:
    returns = state.totals.returns_by_reason
    return [((reason,), returns.get(reason, 0)) for reason in _PROOF_FAILURES]


#: Every metric that is read at the scrape, by name; the others are kept by `metrics.Metrics`.
READERS: Mapping[str, Callable[[Reading], Iterable[Sample]]] = {
    "speculation_enabled": lambda r: _one(speculation_enabled(r.engine)),
    "speculation_health_score": lambda r: _one(min(r.health.values())),
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
    "speculation_oldest_state_age_seconds": _oldest_ages_s,
    "speculation_circuit_breaker_state": lambda r: _one(_BREAKER_LEVEL[r.state.breaker.state]),
}
