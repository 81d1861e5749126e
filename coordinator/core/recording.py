"""A run as it was, taken from the state that it left, to be run again in simulated time under other conditions.

Of each confirmed operation: what it built on and how long its agent took; of each proof its size and time; of the chain
how long it took to confirm. An agent that was granted an unconfirmed output began when its parent was admitted, else
when the parent was confirmed: so the same agents under another depth begin earlier, or later.

What is assumed: workers beyond those of the recording are as fast as those were, with cores of their own.
"""

from dataclasses import dataclass, replace
from statistics import median

import msgspec

from coordinator.core.config import CoreConfig
from coordinator.core.cost import Line, padded_rows
from coordinator.core.estimates import settle_ms
from coordinator.core.records import Operation
from coordinator.core.state import CoreState
from coordinator.core.states import BatchState, OperationState
from coordinator.core.what_if import Model, TaskSpec, WhatIf

#: Operations of a recording that are run again, the latest ones.
MAX_RECORDED = 5_000
#: In simulated time nobody is refused for a full queue: a real agent would come again.
_NO_LIMIT = 1 << 30


class Recorded(msgspec.Struct, frozen=True, array_like=True):
    """One operation. `parents` are places of earlier ones; `start_ms` counts from the run's beginning, for those
    without parents; `runtime_ms` from when the last parent's output was given.
    """

    parents: tuple[int, ...]
    agent_id: str
    operation_type: str
    rows: int
    priority: int
    start_ms: float
    runtime_ms: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Confirmation latencies (admission to confirmation) and throughput, from the first admission to the last
    confirmation.
    """

    operations: int
    p50_ms: float
    p99_ms: float
    operations_per_s: float
    makespan_ms: float


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A run. `line`: what proofs cost by their rows; `overhead_ms`: what a batch takes besides its proof; `settle_ms`:
    from a batch's submission to its confirmation; `workers` that proved; whether agents speculated, on others' results
    too, and within which limits, as the decisions say (0: none was made); and the outcome.
    """

    operations: tuple[Recorded, ...]
    line: Line
    overhead_ms: float
    settle_ms: float
    workers: int
    speculation: bool
    cross_agent: bool
    max_depth: int
    max_branches: int
    measured: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What should be different; None: as it was. A `depth` of 0 is no speculation."""

    workers: int | None = None
    batch: int | None = None
    depth: int | None = None


def record(state: CoreState, config: CoreConfig) -> Recording | None:
    """The recording of what was confirmed; None where nothing was."""
    found = [one for one in state.ended.values() if one.state is OperationState.CONFIRMED]
    found = sorted(found, key=lambda one: one.rank)[-MAX_RECORDED:]
    if not found:
        return None
    places = {one.operation_id: at for at, one in enumerate(found)}
    batches = [one for one in state.ended_batches.values() if one.state is BatchState.CONFIRMED]
    waits = [
        batch.ended_at_ms - batch.submitted_at_ms
        for batch in batches
        if batch.ended_at_ms is not None and batch.submitted_at_ms is not None
    ]
    overheads = [
        batch.proved_at_ms - batch.started_at_ms - batch.prove_ms
        for batch in batches
        if batch.proved_at_ms is not None
    ]
    begin_ms = found[0].admitted_at_ms
    owners = {one.operation_id: one.agent_id for one in found}
    decisions = [one.decision for one in found if one.decision is not None]
    return Recording(
        operations=tuple(_recorded(one, found, places, begin_ms) for one in found),
        line=state.totals.cost.line(),
        overhead_ms=max(0.0, float(median(overheads))) if overheads else 0.0,
        settle_ms=float(median(waits)) if waits else settle_ms(state, config),
        workers=max(1, len({batch.worker_id for batch in batches})),
        speculation=any(map(_granted, found)),
        cross_agent=any(
            _granted(one) and any(owners.get(parent, one.agent_id) != one.agent_id for parent in one.parents)
            for one in found
        ),
        max_depth=max((one.max_depth for one in decisions), default=0),
        max_branches=max((one.max_branches for one in decisions), default=0),
        measured=_outcome([(one.admitted_at_ms, one.timeline[-1][0]) for one in found]),
    )


def _granted(operation: Operation) -> bool:
    return operation.decision is not None and operation.decision.denial is None


def _recorded(one: Operation, found: list[Operation], places: dict[str, int], begin_ms: int) -> Recorded:
    parents = tuple(places[parent] for parent in one.parents if parent in places)
    granted = _granted(one)
    given_ms = max(
        (found[at].admitted_at_ms if granted else found[at].timeline[-1][0] for at in parents),
        default=one.admitted_at_ms,
    )
    return Recorded(
        parents,
        one.agent_id,
        one.operation_type,
        one.rows,
        one.priority,
        0.0 if parents else float(one.admitted_at_ms - begin_ms),
        float(max(0, one.admitted_at_ms - given_ms)),
    )


def predict(recording: Recording, config: CoreConfig, question: Question) -> Outcome:
    """The outcome in simulated time, by the real planner and speculation rules.

    Raises:
        CoreError: `invalid`; the run takes too long to simulate.
    """
    speculation = recording.speculation if question.depth is None else question.depth > 0
    config = replace(
        config,
        enabled=speculation,
        cross_agent=config.cross_agent or recording.cross_agent,
        max_depth=question.depth or recording.max_depth or config.max_depth,
        max_parallel_branches=recording.max_branches or config.max_parallel_branches,
        batch_size=config.batch_size if question.batch is None else question.batch,
        slot_ms=max(1, round(recording.settle_ms / (config.confirmation_slots + 1))),
        queue_size=_NO_LIMIT,
        max_open_operations=_NO_LIMIT,
    )
    line, overhead_ms = recording.line, recording.overhead_ms
    model = Model(
        proof_ms=lambda rows: overhead_ms + line.ms(padded_rows(rows)),
        latency_ms=recording.settle_ms,
        workers=question.workers or recording.workers,
    )
    what_if = WhatIf(config, model)
    runs = what_if.run(
        [
            TaskSpec(
                parents=one.parents,
                runtime_ms=one.runtime_ms,
                agent_id=one.agent_id,
                operation_type=one.operation_type,
                rows=one.rows,
                priority=one.priority,
                start_ms=one.start_ms,
            )
            for one in recording.operations
        ]
    )
    done = [what_if.engine.state.operation(run.operation_id) for run in runs if run.operation_id is not None]
    return _outcome([(one.admitted_at_ms, one.timeline[-1][0]) for one in done])


def _outcome(spans: list[tuple[int, int]]) -> Outcome:
    latencies = sorted(end - begin for begin, end in spans)
    makespan_ms = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return Outcome(
        operations=len(spans),
        p50_ms=float(latencies[(len(latencies) - 1) // 2]),
        p99_ms=float(latencies[-1 - len(latencies) // 100]),
        operations_per_s=1_000.0 * len(spans) / max(makespan_ms, 1),
        makespan_ms=float(makespan_ms),
    )
