"""Every metric of port 9091, once; `node` exposes exactly these.

Names are fixed: the runbook greps for `proof_queue`, `proof_worker` and `proof_failures`.
"""

from collections.abc import Mapping
from typing import Final

from workers.messages import FAILURE_TYPES, GENERATION_BUCKETS_S
from workers.metric import Label, Metric, MetricKind

#: The most workers that one endpoint tells of.
MAX_WORKERS: Final = 1_024
#: Kinds of device: cpu, cuda.
MAX_DEVICES: Final = 4

_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM
_WORKER = (Label("worker", MAX_WORKERS),)

_TABLE = (
    Metric(
        "proof_queue_size",
        _GAUGE,
        "Operations that wait for a proof, in the whole cluster, as last reported.",
        "The backlog, seen from the workers' side: they may be scaled by it.",
        unit="operations",
    ),
    Metric(
        "proof_worker_up",
        _GAUGE,
        "1 while the worker's process answers, else 0.",
        "Which worker died, and whether it came back.",
        unit="0 or 1",
        labels=_WORKER,
    ),
    Metric(
        "proof_worker_utilization",
        _GAUGE,
        "Busy share of the last minute, 0 to 1, by the pool's monotonic clock.",
        "All near 1: more workers help.",
        unit="ratio",
        labels=_WORKER,
    ),
    Metric(
        "proof_worker_batches_total",
        _COUNTER,
        "Batches proved under this worker id.",
        "A worker that is up and proves none while others wait is never given work (SpeculationProofWorkerIdle).",
        unit="batches",
        labels=_WORKER,
    ),
    Metric(
        "proof_worker_device",
        _GAUGE,
        "Workers that are up and compute on this device.",
        "A GPU that is not used shows as a missing cuda.",
        unit="workers",
        labels=(Label("device", MAX_DEVICES),),
    ),
    Metric(
        "proof_failures_total",
        _COUNTER,
        "Batches that got no proof, by what went wrong.",
        "Whether workers die, hang, run out of memory or refuse.",
        unit="batches",
        labels=(Label("error_type", len(FAILURE_TYPES)),),
    ),
    Metric(
        "proof_generation_seconds",
        _HISTOGRAM,
        "From request to proof, trace included, by the worker's own clock.",
        "Told apart from the coordinator's figure, it shows time lost between the two.",
        unit="seconds",
        buckets=GENERATION_BUCKETS_S,
    ),
    Metric(
        "proof_permutations_total",
        _COUNTER,
        "Poseidon2 permutations of operations proved.",
        "The work done, whatever the batches' sizes.",
        unit="permutations",
    ),
)

NODE_METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _TABLE}
