"""The model of the speculation benchmark: times as measured, and faults drawn from a seed; see `core/what_if.py`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

from coordinator.core.config import CoreConfig
from coordinator.core.cost import padded_rows
from coordinator.core.what_if import Model, TaskSpec, WhatIf

#: As measured for operations with short outputs on one core (`bench.operations`).
PROOF_BASE_MS = 50.0
PROOF_ROW_MS = 0.014
ROWS = 16


def config(*, latency_s: float, speculate: bool) -> CoreConfig:
    """The shipped configuration with room for the graph, on a chain of that latency."""
    slots = CoreConfig().confirmation_slots + 1
    return replace(
        CoreConfig(),
        enabled=speculate,
        max_depth=20,
        max_parallel_branches=16,
        cross_agent=True,
        max_state_snapshots=10_000,
        queue_size=100_000,
        slot_ms=round(latency_s * 1_000 / slots),
        confirmation_timeout_ms=300_000,
        stake_max_lamports=1 << 50,
    )


def proof_ms(rows: int) -> float:
    """Milliseconds to prove so many operation rows."""
    return PROOF_BASE_MS + PROOF_ROW_MS * padded_rows(rows)


def floor_s(tasks: Sequence[TaskSpec], *, latency_s: float) -> float:
    """No run can be shorter: the longest chain of run times, one proof and one confirmation."""
    ends: list[float] = []
    for task in tasks:
        ends.append(task.runtime_ms + max((ends[parent] for parent in task.parents), default=0.0))
    return (max(ends) + proof_ms(ROWS)) / 1_000 + latency_s


def faults(seed: int, rate: float) -> Callable[[str], bool]:
    """Which executions are wrong: this share of them, the same for the same seed and operation."""

    def wrong(operation_id: str) -> bool:
        draw = sha256(f"{seed}/{operation_id}".encode()).digest()
        return int.from_bytes(draw[:8], "big") < rate * 2**64

    return wrong


class Bench:
    """One coordinator on which workloads run one after another."""

    def __init__(self, settings: CoreConfig, *, latency_s: float, rate: float = 0.0, seed: int = 1) -> None:
        model = Model(proof_ms=proof_ms, latency_ms=latency_s * 1_000, wrong=faults(seed, rate))
        self._what_if = WhatIf(settings, model)

    def run(self, tasks: Sequence[TaskSpec]) -> float:
        """Seconds until all tasks are confirmed."""
        start_ms = self._what_if.now_ms
        done = self._what_if.run(tasks)
        return (max(task.confirmed_ms for task in done) - start_ms) / 1_000

    @property
    def executions(self) -> int:
        """Executions so far, those in vain included."""
        return self._what_if.executions
