"""Traces: every operation that ended becomes one OpenTelemetry trace, from its admission to its confirmation or end.

    operation                    admission → end; links to the operations that it builds on
      wait_for_parents, queue, prove, submit, confirm     a span for each stay in a stage, in the order of its timeline

They are made from the operation's own timeline once it has ended: tracing costs nothing on the way. A trace's id
follows from the operation's (`trace_id_of`): whoever has the one finds the other. Off unless `tracing.endpoint` is set;
the spans go through a bounded queue to an OTLP collector, and what it does not take in time is dropped.
"""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from coordinator.core.events import BatchConfirmed, Event, OperationFailed, OperationsRolledBack
from coordinator.core.records import Batch, Operation
from coordinator.core.state import CoreState
from coordinator.core.states import OperationState
from coordinator.logs import get_logger
from coordinator.pipeline import STAGE_OF
from coordinator.settings import Settings

if TYPE_CHECKING:  # the extra `tracing`; without it there are no traces
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanContext, Tracer

SERVICE_NAME: Final = "agenc-prover"
#: Traces made a second at most, so that the loop stays free: about 0.2 ms each.
MAX_TRACES_PER_S: Final = 200
#: Parents named as links.
_MAX_LINKS: Final = 32
_QUEUED_SPANS: Final = 4_096
_SPANS_PER_EXPORT: Final = 512
_EXPORT_EVERY_MS: Final = 1_000
_EXPORT_TIMEOUT_S: Final = 5
_RATIO_STEPS: Final = 1 << 32

_log = get_logger("tracing")

OperationsOf = Callable[[Event], Sequence[str]]


class Tracing:
    """A listener of the journal. `operations_of` gives the ids that an event moved."""

    def __init__(
        self,
        provider: "TracerProvider",
        *,
        state: Callable[[], CoreState],
        operations_of: OperationsOf,
        ratio: float,
    ) -> None:
        self._provider = provider
        self._ids: _TraceIds = provider.id_generator  # type: ignore[assignment]  # `open_provider` put it there
        self._tracer: Tracer = provider.get_tracer(SERVICE_NAME)
        self._state = state
        self._operations_of = operations_of
        self._below = round(ratio * _RATIO_STEPS)
        self._second = 0
        self._made = 0
        self._passed_over = 0

    def hear(self, _last_seq: int, events: Sequence[Event]) -> None:
        """Makes the traces of what ended in a durable group."""
        for event in events:
            if isinstance(event, BatchConfirmed | OperationsRolledBack | OperationFailed):
                state = self._state()
                for operation_id in self._operations_of(event):
                    operation = state.ended.get(operation_id)
                    if operation is not None and self._wanted(operation, event.at_ms):
                        self._trace(operation, state)

    def close(self) -> None:
        """Sends what is queued, for a few seconds at most. Blocks."""
        self._provider.shutdown()

    def _wanted(self, operation: Operation, at_ms: int) -> bool:
        """Whether the ratio takes it (by its id, so that it is the same everywhere), and the rate allows it."""
        sample = trace_id_of(operation.operation_id) >> 96
        if sample >= self._below:
            return False
        if at_ms // 1_000 != self._second:
            if self._passed_over:
                _log.warning("traces_passed_over", count=self._passed_over, limit_per_s=MAX_TRACES_PER_S)
            self._second, self._made, self._passed_over = at_ms // 1_000, 0, 0
        if self._made >= MAX_TRACES_PER_S:
            self._passed_over += 1
            return False
        self._made += 1
        return True

    def _trace(self, operation: Operation, state: CoreState) -> None:
        from opentelemetry.trace import Link, Status, StatusCode, set_span_in_context

        timeline = operation.timeline
        self._ids.next_trace = trace_id_of(operation.operation_id)
        batch = _batch_of(operation, state)
        root = self._tracer.start_span(
            "operation",
            start_time=_ns(operation.admitted_at_ms),
            attributes=_attributes(operation, batch),
            links=[Link(_context_of(parent)) for parent in operation.parents[:_MAX_LINKS]],
        )
        inside = set_span_in_context(root)
        for (at_ms, was, reason), (end_ms, _, _) in pairwise(timeline):
            stage = STAGE_OF.get(was)
            if stage is not None:
                facts = {"agenc.state": str(was), "agenc.reason": reason}
                span = self._tracer.start_span(stage, context=inside, start_time=_ns(at_ms), attributes=facts)
                span.end(_ns(end_ms))
        if operation.state is not OperationState.CONFIRMED:
            root.set_status(Status(StatusCode.ERROR, operation.reason))
        root.end(_ns(timeline[-1][0]))


def open_tracing(
    settings: Settings, *, state: Callable[[], CoreState], operations_of: OperationsOf
) -> Tracing | None:
    """Tracing to `tracing.endpoint`; None where that is not set, or the packages of the extra are not installed."""
    endpoint = settings.optional_text("tracing.endpoint")
    if endpoint is None:
        return None
    if not endpoint.startswith(("http://", "https://")):
        _log.error("tracing_unavailable", reason="the endpoint is no HTTP address", endpoint=endpoint)
        return None
    try:
        provider = open_provider(endpoint)
    except ImportError:
        _log.error("tracing_unavailable", reason="install agenc-prover[tracing]", endpoint=endpoint)
        return None
    ratio = settings.number("tracing.sample_ratio")
    _log.info("tracing", endpoint=endpoint, ratio=ratio)
    return Tracing(provider, state=state, operations_of=operations_of, ratio=ratio)


def open_provider(endpoint: str) -> "TracerProvider":
    """Spans to an OTLP collector over HTTP, through a bounded queue.

    Raises:
        ImportError: the packages of the extra `tracing` are not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE_NAME}),
        id_generator=_trace_ids(),
        shutdown_on_exit=False,
    )
    processor = BatchSpanProcessor(
        OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S),
        max_queue_size=_QUEUED_SPANS,
        max_export_batch_size=_SPANS_PER_EXPORT,
        schedule_delay_millis=_EXPORT_EVERY_MS,
    )
    provider.add_span_processor(processor)
    return provider


def trace_id_of(operation_id: str) -> int:
    """The 128-bit id of an operation's trace: the head of its id's SHA-256."""
    return int.from_bytes(hashlib.sha256(operation_id.encode()).digest()[:16], "big")


class _TraceIds:
    """What `_trace_ids` adds to OpenTelemetry's generator: the next trace's id is set, not drawn."""

    next_trace: int


def _trace_ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Generator(RandomIdGenerator, _TraceIds):
        next_trace = 1

        def generate_trace_id(self) -> int:
            return self.next_trace

    return Generator()


def _context_of(operation_id: str) -> "SpanContext":
    """Where a parent's trace is; its root span's own id is not known, so the trace's stands for it."""
    from opentelemetry.trace import SpanContext, TraceFlags

    trace_id = trace_id_of(operation_id)
    return SpanContext(
        trace_id, trace_id & (1 << 64) - 1, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


def _batch_of(operation: Operation, state: CoreState) -> Batch | None:
    batch_id = operation.batch_id
    return None if batch_id is None else state.batches.get(batch_id) or state.ended_batches.get(batch_id)


def _attributes(operation: Operation, batch: Batch | None) -> dict[str, str | int | bool]:
    facts: dict[str, str | int | bool] = {
        "agenc.operation_id": operation.operation_id,
        "agenc.agent_id": operation.agent_id,
        "agenc.task_id": operation.task_id,
        "agenc.operation_type": operation.operation_type,
        "agenc.depth": operation.depth,
        "agenc.speculated": operation.committed and operation.depth > 0,
        "agenc.state": str(operation.state),
        "agenc.reason": operation.reason,
        "agenc.attempts": operation.attempts,
    }
    if batch is not None:
        facts |= {
            "agenc.batch_id": batch.batch_id,
            "agenc.worker_id": batch.worker_id,
            "agenc.backend": batch.backend,
            "agenc.prove_ms": batch.prove_ms,
            "agenc.transaction": batch.transaction or "",
        }
    return facts


def _ns(at_ms: int) -> int:
    return at_ms * 1_000_000
