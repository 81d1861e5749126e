"""What makes a run, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from coordinator.settings import Scalar
from coordinator.sim.coverage import Coverage
from coordinator.sim.faults import Faults


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What makes a run. `steps`: only these steps are taken, None for as many as the operations need."""

    seed: int
    operations: int
    faults: Faults
    steps: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run was. `violation` None: everything held."""

    plan: Plan
    violation: str | None
    digest: str
    operations: int
    events: int
    steps: int
    virtual_s: float
    coverage: Coverage
    last: Sequence[str]


def initial_settings(chance: Random, *, calm: bool) -> dict[str, Scalar]:
    """What an operator sets at the beginning; a calm world has no short limits."""
    settings: dict[str, Scalar] = {
        "speculation.enabled": True,
        "speculation.max_depth": 20 if calm else chance.choice((2, 4, 20)),
        "speculation.max_parallel_branches": 16,
        "speculation.features.enable_cross_agent_speculation": True,
        "speculation.features.enable_optimistic_proofs": chance.random() < 0.7,
        "speculation.features.enable_stake_delegation": chance.random() < 0.5,
        "speculation.rollback_policy": chance.choice(("cascade", "selective", "checkpoint")),
        "speculation.limits.max_state_snapshots": 1_000,
        "speculation.proof.worker_threads": 4,
        "speculation.proof.batch_size": chance.choice(("auto", "auto", 1, 4)),
        "speculation.proof.timeout_ms": 3_000,
        "speculation.stake.cooldown_period_ms": 5_000,
        "circuit_breaker.min_finished": 20,
        "circuit_breaker.window_ms": 10_000,
        "circuit_breaker.pause_ms": 3_000,
        "circuit_breaker.rollback_ratio": 0.6,
        "circuit_breaker.error_ratio": 0.3,
    }
    if not calm:
        settings["speculation.confirmation_timeout_ms"] = chance.choice((5_000, 10_000, 30_000))
    return settings
