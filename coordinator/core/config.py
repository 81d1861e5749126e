"""Every effective value that a decision of the core needs; the shell resolves them, anew on every change."""

from dataclasses import dataclass

from coordinator.core.states import RollbackPolicy

BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreConfig:
    """Effective configuration (defaults are the built-in ones of the settings table, mode `conservative`).

    Stake is in lamports, times in milliseconds, chain time in slots. `batch_size=None` lets the planner choose.
    The core trusts the ranges: the settings validate them before.
    """

    enabled: bool = False
    max_depth: int = 3
    max_parallel_branches: int = 2
    confirmation_timeout_ms: int = 30_000
    rollback_policy: RollbackPolicy = RollbackPolicy.CASCADE

    stake_min_lamports: int = 1_000_000
    stake_max_lamports: int = 1_000_000_000
    stake_per_depth_lamports: int = 100_000
    slash_basis_points: int = 1_000
    cooldown_period_ms: int = 60_000

    parallel_speculation: bool = True
    cross_agent: bool = False
    optimistic_proofs: bool = True
    stake_delegation: bool = False
    rollout_percentage: float = 100.0

    max_pending_operations: int = 10_000
    max_open_operations: int = 1_000_000
    max_state_snapshots: int = 100
    max_memory_mb: int = 4_096
    queue_size: int = 1_000

    proof_timeout_ms: int = 60_000
    batch_size: int | None = None
    proof_target_ms: int = 2_000
    hedge: bool = True
    gather_ratio: float = 0.08
    max_log_rows: int = 17

    claim_buffer_ms: int = 60_000
    tasks_require_registration: bool = False

    confirmation_slots: int = 5
    slot_ms: int = 400
    transaction_expiry_slots: int = 10

    breaker_window_ms: int = 60_000
    breaker_min_finished: int = 20
    breaker_rollback_ratio: float = 0.30
    breaker_error_ratio: float = 0.10
    breaker_pause_ms: int = 30_000
    breaker_probes: int = 5
