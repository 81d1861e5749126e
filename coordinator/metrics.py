"""The metrics of port 9090: histograms fed by durable events, everything else read from the state at the
scrape.

Rendered here and not by the client library, which sorts labels by name: the runbook greps for
`speculation_operations_total{status="rolled_back"`.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar

from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError
from coordinator.core.events import (
    BatchConfirmed,
    BatchProved,
    Event,
    OperationFailed,
    OperationsAdmitted,
    OperationsRolledBack,
    RollbackPending,
)
from coordinator.metrics_samples import READERS, OperationCounts, Reading, Sample
from coordinator.metrics_table import MAX_ERROR_TYPES, METRICS, OTHER
from workers.metric import Metric, MetricKind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LOAD_WINDOW_S = 60
LATENCY_WINDOW_MS = 300_000
MAX_LATENCIES = 20_000

T = TypeVar("T")


class Histogram:
    """Counts of observations by upper bound, with their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation; a value on a bound belongs to it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Confirmed(NamedTuple):
    at_ms: int
    latency_ms: int


class Metrics:
    """What is kept between scrapes, of one engine's durable events. `proof_type` is the generator's name."""

    def __init__(self, engine: Engine, *, proof_type: str) -> None:
        self._engine = engine
        self._proof_type = proof_type
        self._histograms = {
            name: Histogram(metric.buckets)
            for name, metric in METRICS.items()
            if metric.kind is MetricKind.HISTOGRAM
        }
        self._operations = OperationCounts()
        self._errors: dict[tuple[str, str], int] = {}
        self._latencies: deque[_Confirmed] = deque(maxlen=MAX_LATENCIES)
        self._admitted: deque[tuple[int, int]] = deque()
        self._pending_since: dict[str, int] = {}

    def observe(self, _last_seq: int, events: Sequence[Event]) -> None:
        """Count what became durable: a listener of the journal."""
        for event in events:
            match event:
                case OperationsAdmitted():
                    self._observe_admitted(event)
                case BatchProved():
                    self._observe_proved(event)
                case BatchConfirmed():
                    self._observe_confirmed(event)
                case RollbackPending():
                    for operation_id in event.operation_ids:
                        self._pending_since.setdefault(operation_id, event.at_ms)
                case OperationsRolledBack():
                    for operation_id in event.operation_ids:
                        since_ms = self._pending_since.pop(operation_id, event.at_ms)
                        self._observe("speculation_rollback_latency_seconds", (event.at_ms - since_ms) / 1000)
                case OperationFailed():
                    self._pending_since.pop(event.operation_id, None)

    def count_error(self, error_type: str, severity: str) -> None:
        """Count an error that was answered or met; `severity` is warning, error or critical."""
        key = (error_type, severity)
        if key not in self._errors and len(self._errors) >= MAX_ERROR_TYPES:
            key = (OTHER, severity)
        self._errors[key] = self._errors.get(key, 0) + 1

    def observe_gc(self, duration_s: float) -> None:
        """Count one collection: what has ended left memory."""
        self._observe("speculation_gc_duration_seconds", duration_s)

    def render(self, reading: Reading) -> bytes:
        """The exposition in Prometheus's text format, version 0.0.4."""
        lines: list[str] = []
        for metric in METRICS.values():
            lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
            if metric.kind is MetricKind.HISTOGRAM:
                lines += _histogram_lines(
                    metric, self._histograms[metric.name], (self._proof_type,) if metric.labels else ()
                )
            else:
                lines += (
                    _line(metric, values, value) for values, value in self._samples(metric.name, reading)
                )
        return ("\n".join(lines) + "\n").encode()

    def latency_p99_s(self, *, now_ms: int) -> float:
        """99th percentile of the confirmation latency over the last 5 minutes; 0 without confirmations."""
        recent = sorted(
            confirmed.latency_ms
            for confirmed in self._latencies
            if confirmed.at_ms > now_ms - LATENCY_WINDOW_MS
        )
        return recent[(len(recent) * 99 - 1) // 100] / 1000 if recent else 0.0

    def operations_rate(self, *, now_ms: int) -> float:
        """Operations admitted a second, over the last minute."""
        oldest = now_ms // 1000 - LOAD_WINDOW_S
        return sum(count for second, count in self._admitted if second > oldest) / LOAD_WINDOW_S

    def _samples(self, name: str, reading: Reading) -> Iterable[Sample]:
        match name:
            case "speculation_operations_total":
                return self._operations.samples(reading.state)
            case "speculation_operations_rate":
                return (((), self.operations_rate(now_ms=reading.now_ms)),)
            case "speculation_confirmation_latency_p99":
                return (((), self.latency_p99_s(now_ms=reading.now_ms)),)
            case "speculation_errors_total":
                loops = ((f"loop_{loop}", "critical") for loop in reading.loop_failures)
                return [*self._errors.items(), *zip(loops, reading.loop_failures.values(), strict=True)]
        return READERS[name](reading)

    def _observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)

    def _observe_admitted(self, event: OperationsAdmitted) -> None:
        self._count_admitted(event.at_ms // 1000, len(event.operations))
        for operation in event.operations:
            self._observe("speculation_depth_histogram", operation.depth)

    def _count_admitted(self, second: int, count: int) -> None:
        if self._admitted and self._admitted[-1][0] == second:
            count += self._admitted.pop()[1]
        self._admitted.append((second, count))
        while self._admitted[0][0] < second - LOAD_WINDOW_S:
            self._admitted.popleft()

    def _observe_proved(self, event: BatchProved) -> None:
        self._observe("speculation_proof_generation_seconds", event.prove_ms / 1000)
        batch = _kept(self._engine.state.batch, event.batch_id)
        if batch is not None:
            self._observe("speculation_proof_batch_size", len(batch.operation_ids) - batch.lost)

    def _observe_confirmed(self, event: BatchConfirmed) -> None:
        batch = _kept(self._engine.state.batch, event.batch_id)
        for operation_id in () if batch is None else batch.operation_ids:
            self._pending_since.pop(operation_id, None)
            operation = _kept(self._engine.state.operation, operation_id)
            # A batch that is confirmed again after a deep reorg ended its operations long ago.
            if operation is not None and operation.ended_at_ms == event.at_ms:
                latency_ms = event.at_ms - operation.admitted_at_ms
                self._observe("speculation_confirmation_latency_seconds", latency_ms / 1000)
                self._latencies.append(_Confirmed(event.at_ms, latency_ms))


def _kept(find: Callable[[str], T], name: str) -> T | None:
    """The record, unless memory has let go of it since the event."""
    try:
        return find(name)
    except CoreError:
        return None


def _histogram_lines(metric: Metric, histogram: Histogram, values: tuple[str, ...]) -> Iterable[str]:
    bounds = [*(_number(bound) for bound in histogram.bounds), "+Inf"]
    for bound, count in zip(bounds, accumulate(histogram.counts), strict=True):
        yield f"{metric.name}_bucket{_labels(metric, values, le=bound)} {count}"
    yield f"{metric.name}_sum{_labels(metric, values)} {_number(histogram.total)}"
    yield f"{metric.name}_count{_labels(metric, values)} {sum(histogram.counts)}"


def _line(metric: Metric, values: tuple[str, ...], value: float) -> str:
    return f"{metric.name}{_labels(metric, values)} {_number(value)}"


def _labels(metric: Metric, values: tuple[str, ...], *, le: str | None = None) -> str:
    """`{status="failed",agent_id="a"}` in the table's order, `le` last."""
    pairs = [f'{label.name}="{_escape(value)}"' for label, value in zip(metric.labels, values, strict=True)]
    if le is not None:
        pairs.append(f'le="{le}"')
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    """Shortest exact form; whole numbers without a fraction, so that lamports stay readable."""
    return str(int(value)) if value == int(value) else repr(float(value))
