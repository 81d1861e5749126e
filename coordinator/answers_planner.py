"""JSON of the planner's decisions: `GET /admin/plan` and `POST /v1/simulate`."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from coordinator.submission import MAX_OUTPUT_BYTES, MAX_PARENTS, MAX_PRIORITY, Id, OperationType

Scalar: TypeAlias = bool | int | float | str | None

MAX_SIMULATED = 500
DAY_MS = 86_400_000

Milliseconds: TypeAlias = Annotated[float, Meta(ge=0, le=DAY_MS)]


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A body that the server sends."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body that a client sends."""


class PlannedBatch(_Answer, frozen=True):
    """A batch that would start now: where, of what, why, and how long its proof is expected to take."""

    worker: str
    operation_ids: tuple[str, ...]
    reason: str
    expected_proof_ms: float


class WaitingGroup(_Answer, frozen=True):
    """Operations that wait for the same thing, a sample of their ids, and how long the oldest has stood still."""

    reason: str
    detail: str
    count: int
    operation_ids: tuple[str, ...]
    oldest_seconds: float


class PlanAnswer(_Answer, frozen=True):
    """What the planner would do at this moment, and why the rest waits; `looked_at` open operations were explained."""

    batches: tuple[PlannedBatch, ...]
    waiting: tuple[WaitingGroup, ...]
    idle_workers: tuple[str, ...]
    looked_at: int
    open_operations: int
    expected_confirmation_ms: float
    max_batch_operations: int
    max_batch_rows: int


class ScalingLoad(_Answer, frozen=True):
    """What the autoscaler looks at: rows of operations that wait or are being proved, those that come a second, a whole
    batch's rows, the 95th percentile of its proof's time, and how many workers deadlines need.
    """

    rows: int
    rows_per_second: float
    batch_rows: int
    batch_p95_ms: float
    deadline_workers: int


class ScalingAnswer(_Answer, frozen=True):
    """What the autoscaler would do this instant: from `current` workers to `target`, and why; `wanted` are as many as
    the load asks for, within the limits. `mode` says whether it does so; `machines` whom it asks for hosts.
    """

    mode: str
    machines: str
    current: int
    wanted: int
    target: int
    reason: str
    detail: str
    min_workers: int
    max_workers: int
    drain_window_ms: int
    load: ScalingLoad
    held_until: str | None
    failures: int
    last_error: str | None


class SimulatedOperation(_Body, frozen=True):
    """One operation of the workload: what it builds on, and how long its agent takes to execute it."""

    operation_id: Id
    depends_on: Annotated[tuple[Id, ...], Meta(max_length=MAX_PARENTS)] = ()
    agent_id: Id = "agent"
    operation_type: OperationType = "work"
    runtime_ms: Milliseconds = 0.0
    start_ms: Milliseconds = 0.0
    output_bytes: Annotated[int, Meta(ge=0, le=MAX_OUTPUT_BYTES)] = 256
    priority: Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0


class SimulateBody(_Body, frozen=True):
    """A workload, and what should be different from how the coordinator runs now.

    `settings`: runtime configuration by its dotted keys. `workers`: as many as run now where it is not given.
    `confirmation_ms` and `proof_ms`: what has been measured, where they are not given.
    """

    operations: Annotated[tuple[SimulatedOperation, ...], Meta(min_length=1, max_length=MAX_SIMULATED)]
    settings: Annotated[dict[str, Scalar], Meta(max_length=100)] = {}
    workers: Annotated[int, Meta(ge=1, le=64)] | None = None
    confirmation_ms: Annotated[float, Meta(ge=1, le=3_600_000)] | None = None
    proof_ms: Annotated[float, Meta(ge=0, le=3_600_000)] | None = None


class SimulatedEnd(_Answer, frozen=True):
    """How one operation went: the speculation decision, its batch, and when it was submitted and confirmed."""

    operation_id: str
    granted: bool
    reason: str
    depth: int
    stake_lamports: int
    batch_id: str
    submitted_ms: float
    confirmed_ms: float


class SimulatedBatch(_Answer, frozen=True):
    """A batch of the simulation; times from its start, in milliseconds."""

    batch_id: str
    worker: str
    reason: str
    operation_ids: tuple[str, ...]
    trace_rows: int
    started_ms: float
    proved_ms: float
    submitted_ms: float
    confirmed_ms: float


class SimulateAnswer(_Answer, frozen=True):
    """What the planner makes of the workload; `critical_path_ms` is the longest chain of run times.

    `without_speculation_ms`: the makespan of the same workload where nobody speculates.
    """

    makespan_ms: float
    without_speculation_ms: float
    critical_path_ms: float
    speedup: float
    confirmation_ms: float
    workers: int
    operations: tuple[SimulatedEnd, ...]
    batches: tuple[SimulatedBatch, ...]
