"""Every metric of port 9090, once: its name, type, labels with their bounds, what it says and why it is
there.

The exposition, the docs and the tests read this table. Names are fixed: alerts and dashboards hold on to
them.
"""

from collections.abc import Mapping
from typing import Final

from coordinator.core.states import (
    TERMINAL,
    Denial,
    FailureCode,
    OperationState,
    ReturnReason,
    RollbackReason,
)
from workers.metric import Label, Metric, MetricKind

#: The first agents to register keep their name in the labels for good; what comes later is counted as OTHER.
NAMED_AGENTS: Final = 100
#: So do the first operation types.
NAMED_TYPES: Final = 32
STATUSES: Final = ("pending", "confirmed", "rolled_back", "failed")
TOP_AGENTS: Final = 10
MAX_ERROR_TYPES: Final = 64
OTHER: Final = "other"
#: The states that an operation can be stuck in.
OPEN_STATES: Final = tuple(state for state in OperationState if state not in TERMINAL)

_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM
_LATENCY_S = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_PROOF_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_GC_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)

_TABLE = (
    Metric(
        "speculation_enabled",
        _GAUGE,
        "1 while new speculation is possible: enabled, no operator's stop, breaker not open.",
        "Shows a stop that nobody meant (SpeculationDisabledUnexpectedly).",
        unit="0 or 1",
    ),
    Metric(
        "speculation_health_score",
        _GAUGE,
        "0 to 1: the worst of log, chain, breaker, rollback rate, proof queue, memory and workers.",
        "One number for a dashboard's first tile.",
        unit="ratio",
    ),
    Metric(
        "speculation_operations_total",
        _COUNTER,
        "Operations by what became of them; pending counts admissions.",
        "The runbook finds agents whose work is rolled back by it.",
        unit="operations",
        labels=(
            Label("status", len(STATUSES)),
            Label("agent_id", NAMED_AGENTS + 1),
            Label("operation_type", NAMED_TYPES + 1),
        ),
    ),
    Metric(
        "speculation_operations_rate",
        _GAUGE,
        "Operations admitted a second, over the last minute.",
        "The load, without a query over counters.",
        unit="operations/s",
    ),
    Metric(
        "speculation_rollback_rate",
        _GAUGE,
        "Rolled back ÷ finished over 5 minutes, operators' and agents' own rollbacks left out.",
        "The alerts at 5 % and 15 % compare it as it is.",
        unit="ratio",
    ),
    Metric(
        "speculation_rollbacks_total",
        _COUNTER,
        "Rollbacks by reason.",
        "The reason says what to do: see the runbook's table.",
        unit="operations",
        labels=(Label("reason", len(RollbackReason)),),
    ),
    Metric(
        "speculation_denials_total",
        _COUNTER,
        "Submissions with unconfirmed parents that were denied speculation, by reason.",
        "Shows which limit is in the way.",
        unit="operations",
        labels=(Label("reason", len(Denial)),),
    ),
    Metric(
        "speculation_current_depth",
        _GAUGE,
        "Greatest depth (at admission) among the speculative operations.",
        "Near the limit, agents wait although they need not.",
        unit="depth",
    ),
    Metric(
        "speculation_max_depth",
        _GAUGE,
        "The depth limit in force.",
        "What current depth is compared with.",
        unit="depth",
    ),
    Metric(
        "speculation_active_branches",
        _GAUGE,
        "Speculative operations without speculative children, of all agents.",
        "How wide the speculative graph is: memory and stake follow it.",
        unit="branches",
    ),
    Metric(
        "speculation_depth_histogram",
        _HISTOGRAM,
        "Depth of operations at admission.",
        "Whether a deeper limit would be used at all.",
        unit="depth",
        buckets=(1, 2, 3, 5, 8, 10, 15, 20),
    ),
    Metric(
        "speculation_confirmation_latency_seconds",
        _HISTOGRAM,
        "Admission to CONFIRMED, by the log's clock.",
        "What agents wait for; the queue, the prover and the chain all show in it.",
        unit="seconds",
        buckets=_LATENCY_S,
    ),
    Metric(
        "speculation_confirmation_latency_p99",
        _GAUGE,
        "99th percentile of that over the last 5 minutes, in seconds; 0 without confirmations.",
        "The alerts at 30 s and 60 s compare it as it is.",
        unit="seconds",
    ),
    Metric(
        "speculation_rollback_latency_seconds",
        _HISTOGRAM,
        "From the decision to roll back to its end: a transaction on its way has to die first.",
        "Long ones hold stake and descendants.",
        unit="seconds",
        buckets=_LATENCY_S,
    ),
    Metric(
        "speculation_stake_locked_total",
        _GAUGE,
        "Lamports bonded now.",
        "A jump means that operations do not end (SpeculationStakeAccumulationSpike).",
        unit="lamports",
    ),
    Metric(
        "speculation_stake_locked_per_agent",
        _GAUGE,
        "Lamports bonded now, of the agents with the most.",
        "Whose operations do not end.",
        unit="lamports",
        labels=(Label("agent_id", TOP_AGENTS),),
    ),
    Metric(
        "speculation_stake_slashed_total",
        _COUNTER,
        "Lamports slashed, by the fault.",
        "Slashes are rare: each is worth a look.",
        unit="lamports",
        labels=(Label("reason", len(FailureCode)),),
    ),
    Metric(
        "speculation_stake_utilization",
        _GAUGE,
        "Bonded ÷ all of the agents' lamports.",
        "Near 1, agents cannot bond more and are denied.",
        unit="ratio",
    ),
    Metric(
        "speculation_proof_queue_size",
        _GAUGE,
        "Operations in QUEUED.",
        "The backlog; its alerts compare it with the maximum.",
        unit="operations",
    ),
    Metric(
        "speculation_proof_queue_size_max",
        _GAUGE,
        "proof.queue_size in force.",
        "The size's denominator.",
        unit="operations",
    ),
    Metric(
        "speculation_proof_generation_seconds",
        _HISTOGRAM,
        "Time a worker took for a batch's proof.",
        "A slower prover shows here before it shows in latency.",
        unit="seconds",
        labels=(Label("proof_type", 2),),
        buckets=_PROOF_S,
    ),
    Metric(
        "speculation_proof_failures_total",
        _COUNTER,
        "Batches that came back without a proof, by reason.",
        "Dying or failing workers.",
        unit="batches",
        labels=(Label("error_type", len(ReturnReason)),),
    ),
    Metric(
        "speculation_proof_worker_utilization",
        _GAUGE,
        "Share of time that a worker was busy.",
        "All near 1: more workers help. One at 0: it is never given work.",
        unit="ratio",
        labels=(Label("worker", 1_024),),
    ),
    Metric(
        "speculation_proof_batch_size",
        _HISTOGRAM,
        "Operations in a proved batch.",
        "Small batches under load waste provers.",
        unit="operations",
        buckets=_SIZES,
    ),
    Metric(
        "speculation_memory_bytes",
        _GAUGE,
        "Resident memory of the coordinator.",
        "Its alerts: 80 %, 95 %.",
        unit="bytes",
    ),
    Metric(
        "speculation_memory_limit_bytes",
        _GAUGE,
        "limits.max_memory_mb in bytes.",
        "Memory's denominator.",
        unit="bytes",
    ),
    Metric(
        "speculation_state_snapshots_count",
        _GAUGE,
        "Snapshots of speculative operations.",
        "At its limit new speculation is denied.",
        unit="snapshots",
    ),
    Metric(
        "speculation_pending_operations_count",
        _GAUGE,
        "Live commitments: operations in flight with a bonded stake.",
        "The runbook waits for 0 before it disables speculation.",
        unit="operations",
    ),
    Metric(
        "speculation_open_operations_count",
        _GAUGE,
        "Unconfirmed operations of every kind.",
        "At its limit submissions get 429.",
        unit="operations",
    ),
    Metric(
        "speculation_oldest_state_age_seconds",
        _GAUGE,
        "Longest time that an open operation has been in this state, among the thousand oldest; 0 without one.",
        "Something is stuck, and where (SpeculationOperationStuck).",
        unit="seconds",
        labels=(Label("state", len(OPEN_STATES)),),
    ),
    Metric(
        "speculation_gc_duration_seconds",
        _HISTOGRAM,
        "Time of a collection: what has ended leaves memory.",
        "A slow one holds up every answer.",
        unit="seconds",
        buckets=_GC_S,
    ),
    Metric(
        "speculation_errors_total",
        _COUNTER,
        "Errors answered or met, by code.",
        "internal is a defect; unauthorized in numbers is someone guessing.",
        unit="errors",
        labels=(Label("error_type", MAX_ERROR_TYPES + 1), Label("severity", 3)),
    ),
    Metric(
        "speculation_circuit_breaker_state",
        _GAUGE,
        "0 closed, 1 half-open, 2 open.",
        "Open means that rollbacks or errors passed its limits (SpeculationCircuitBreakerOpen).",
        unit="level",
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _TABLE}
