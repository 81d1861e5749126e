"""The operator's JSON, as structs; see `answers` for the conventions.

Ages and times of `confirmation-status` are in seconds, as the runbook has them.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from coordinator.answers import MONTH_S, OperationAnswer
from coordinator.answers_recovery import LogHealth

Scalar: TypeAlias = bool | int | float | str | None


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A body that the server sends."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body that a client sends."""


class HealthAnswer(_Answer, frozen=True, omit_defaults=True):
    """Liveness. `rollout` stands there while speculation is enabled, `proofs` where they prove nothing."""

    status: Literal["healthy", "unhealthy"]
    speculation: Literal["enabled", "disabled"]
    rollout: int | float | None = None
    version: str = ""
    proofs: str = ""


class ReadyAnswer(_Answer, frozen=True):
    """Whether operations are taken, and what stands against it."""

    ready: bool
    reasons: tuple[str, ...]


class DetailedHealthAnswer(_Answer, frozen=True):
    """Health in parts: each from 0 to 1, the score is the least."""

    status: str
    score: float
    parts: dict[str, float]
    speculation: str
    generator: str
    version: str
    log: LogHealth


class ConfigKey(_Answer, frozen=True):
    """One configuration key: its value, where that came from, and what is allowed."""

    value: Scalar | tuple[str, ...]
    source: str
    detail: str
    default: Scalar | tuple[str, ...]
    type: str
    range: str
    unit: str
    restart_only: bool
    description: str


class ConfigAnswer(_Answer, frozen=True):
    """Every key, and what was wrong with the sources."""

    env: str
    problems: tuple[str, ...]
    keys: dict[str, ConfigKey]


class ConfigChange(_Answer, frozen=True):
    """An accepted change: the effective values of its keys before and after."""

    before: dict[str, Scalar]
    after: dict[str, Scalar]


class EmergencyBody(_Body, frozen=True):
    """Stops speculation; `force` rolls back what is in flight at once, else it has until the deadline."""

    action: Literal["drain_speculation", "disable_speculation"]
    force: bool = False
    deadline_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 30


class StaleBody(_Body, frozen=True):
    """Rolls back what was admitted longer ago than this and is not confirmed."""

    older_than_seconds: Annotated[int, Meta(ge=0, le=MONTH_S)]


class NoBody(_Body, frozen=True):
    """The body of an action that takes nothing: `{}` or none."""


class EmergencyAnswer(_Answer, frozen=True):
    """What was stopped: rolled back now, pending until its transaction is dead; and when a drain ends."""

    action: str
    latch: str | None
    rolled_back: tuple[str, ...]
    pending: tuple[str, ...]
    drain_until: str | None


class StaleAnswer(_Answer, frozen=True):
    """What was rolled back, descendants first; pending ones wait for their transaction's end."""

    timed_out: int
    rolled_back: tuple[str, ...]
    pending: tuple[str, ...]


class ClearedQueue(_Answer, frozen=True):
    """Batches that were discarded, and operations that are held until the next tick and queued again."""

    batches_discarded: int
    operations_held: int


class RollbackStats(_Answer, frozen=True):
    """Rollbacks of the last hour; `by_reason` has every reason and sums to the total."""

    total_rollbacks_1h: int
    by_reason: dict[str, int]


class BreakerAnswer(_Answer, frozen=True):
    """The circuit breaker, why it is as it is, and its window."""

    state: str
    reason: str
    changed_at: str | None
    until: str | None
    window_seconds: int | float
    finished: int
    rolled_back: int
    failed: int
    rollback_ratio: float
    error_ratio: float
    rollback_ratio_limit: float
    error_ratio_limit: float
    min_finished: int
    probes: int
    probes_confirmed: int


class DecisionAnswer(_Answer, frozen=True):
    """The numbers that the speculation decision saw, and the rule that decided."""

    rule: str
    denial: str | None
    probability: float
    expected_gain_ms: float
    expected_loss_ms: float
    stake_lamports: int
    max_depth: int
    branches: int
    max_branches: int
    bonded_lamports: int
    max_stake_lamports: int
    claim_margin_ms: int | None


BlockerKind: TypeAlias = Literal[
    "parents", "batches", "worker", "proof", "held", "isolation", "submission", "chain"
]


class Blocker(_Answer, frozen=True):
    """What an operation waits for: operations or batches by id, and in words."""

    kind: BlockerKind
    ids: tuple[str, ...]
    detail: str


class BlockedOperation(_Answer, frozen=True):
    """An operation that is not confirmed yet, and what it waits for."""

    operation_id: str
    agent_id: str
    state: str
    age_seconds: float
    in_state_seconds: float
    blocked_by: Blocker


class OperationDetail(_Answer, frozen=True):
    """All that is known of an operation. `rests_on`: the unconfirmed results that it takes for final, as output
    commitments by operation (at most 1,000); its rollback returns to the state with these and without it.
    """

    operation: OperationAnswer
    decision: DecisionAnswer | None
    blocked_by: Blocker | None
    depth_now: int
    rests_on: dict[str, str]
    children: tuple[str, ...]
    rows: int
    output_bytes: int
    attempts: int
    bonded_by: str
    batch: dict[str, Any] | None
    pending_rollback: str | None
    failure: str | None
    ended_at: str | None
    end_cause: str | None
    slash_id: str | None
    replaced_by: str | None


class TimelineEntry(_Answer, frozen=True):
    """A transition: when, to what, why, and how long the operation stood there (null: it still does)."""

    at: str
    state: str
    reason: str
    duration_ms: int | None


class TimelineAnswer(_Answer, frozen=True):
    """An operation's transitions, oldest first."""

    operation_id: str
    timeline: tuple[TimelineEntry, ...]


class SlashAnswer(_Answer, frozen=True):
    """One slash: what was taken from whom for what, and where it went."""

    slash_id: str
    operation_id: str
    agent_id: str
    bonded_by: str
    reason: str
    detail: str
    at: str
    bond_lamports: int
    slashed_lamports: int
    victims: dict[str, int]
    treasury_lamports: int
    cooldown_until: str


class StakeStatus(_Answer, frozen=True):
    """All stake: owned = free + locked; deposited = withdrawn + owned + treasury."""

    locked_lamports: int
    free_lamports: int
    treasury_lamports: int
    deposited_lamports: int
    withdrawn_lamports: int
    slashed_lamports: int
    utilization: float
    agents: int
    agents_with_locked_stake: int
    conserved: bool


class ConfirmationStatus(_Answer, frozen=True):
    """The confirmation pipeline; ages and times in seconds, null where there is nothing to say."""

    pending_confirmations: int
    submitted_to_chain: int
    avg_confirmation_time: float | None
    avg_settlement_time: float | None
    p99_confirmation_time: float
    oldest_pending_age: float | None
    oldest_pending_operation: str | None
    by_state: dict[str, int]
    reverted: dict[str, int]


class ChainStatus(_Answer, frozen=True):
    """The chain as the coordinator sees it."""

    connection_status: str
    domain: str
    slot: int
    slot_ms: int
    confirmation_slots: int
    transaction_expiry_slots: int
    disconnected_seconds: float | None
    batches_in_flight: int
    batches_confirmed: int
    reorgs: int


class AgentSpeculation(_Answer, frozen=True):
    """An agent's speculation: what it has in flight, and what became of its operations by type."""

    agent_id: str
    in_rollout: bool
    cooldown_until: str | None
    live_commitments: int
    active_branches: int
    open_operations: int
    balance_lamports: int
    bonded_lamports: int
    slashed_lamports: int
    by_type: dict[str, dict[str, int]]


class AgentLine(_Answer, frozen=True):
    """An agent in a line of the list."""

    agent_id: str
    in_rollout: bool
    cooldown_until: str | None
    open_operations: int
    live_commitments: int
    balance_lamports: int
    bonded_lamports: int
    slashed_lamports: int


class RolledBack(_Answer, frozen=True):
    """A rolled-back operation: why, and what started it."""

    operation_id: str
    at: str
    reason: str
    cause: str | None
    task_id: str
    operation_type: str
    depth: int
    replaced_by: str | None


class WorkerCost(_Answer, frozen=True):
    """What a worker's proofs cost: `fixed_ms + unit_ms * rows * log2(rows)` of the trace.

    `samples`: proofs that it was learned from. `error`: mean relative error of the predictions; `p95`: the 95th
    percentile of measured over predicted time. `max_rows`: the tallest trace it is given since it ran out of memory.
    """

    fixed_ms: float
    unit_ms: float
    samples: int
    error: float
    p95: float
    max_rows: int | None = None


class HedgingAnswer(_Answer, frozen=True):
    """Batches that were started a second time since the coordinator began, on how many of them the second was first,
    and the workers' seconds that were for nothing.
    """

    started: int
    won: int
    wasted_seconds: float


class WorkerAnswer(_Answer, frozen=True):
    """One proof worker. `expected_ms`: how long the proof of its batch is expected to take in all."""

    worker_id: str
    state: str
    backend: str | None
    batch_id: str | None
    busy_seconds: float | None
    utilization: float
    batches: int
    failures: int
    restarts: int
    permutations: int
    memory_bytes: int | None
    last_error: str | None
    expected_ms: float | None = None
    cost: WorkerCost | None = None


class WorkersAnswer(_Answer, frozen=True):
    """Proof workers wanted, those that are up, the most that may run, and what limits that."""

    desired: int
    running: int
    target: int
    limited_by: str | None
    workers: tuple[WorkerAnswer, ...]
    refused_hosts: tuple[str, ...] = ()
    hedging: HedgingAnswer = HedgingAnswer(started=0, won=0, wasted_seconds=0.0)


class SpeculationStatus(_Answer, frozen=True):
    """Whether new speculation is possible, and the live commitments."""

    enabled: bool
    pending_operations: int


class StatusAnswer(_Answer, frozen=True):
    """The system at a glance."""

    status: str
    version: str
    env: str
    uptime_seconds: float
    speculation: SpeculationStatus
    mode: str
    rollout_percentage: int | float
    latch: str | None
    drain_until: str | None
    circuit_breaker: str
    generator: str
    parameters: str
    read_only: str | None
    open_operations: int
    queued_operations: int
    operations_by_state: dict[str, int]
    totals: dict[str, int]
    chain: dict[str, Any]
    workers: dict[str, Any]
    log: dict[str, Any]
    loop_failures: dict[str, int]
    config_problems: tuple[str, ...]


class AuditEntry(_Answer, frozen=True):
    """An operator's action: who (the token's name), what, before and after."""

    seq: int
    at: str
    by: str
    action: str
    before: Any
    after: Any
