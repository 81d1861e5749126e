"""The answer to a what-if: a described workload through the real core and planner in simulated time.

The configuration is the coordinator's own, with the changes that were asked for; proofs and confirmations take as long
as they have taken here, unless the question says otherwise. Nothing of the running system is touched.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from coordinator.answers_planner import (
    SimulateAnswer,
    SimulateBody,
    SimulatedBatch,
    SimulatedEnd,
    SimulatedOperation,
)
from coordinator.core.config import CoreConfig
from coordinator.core.cost import padded_rows
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.estimates import Estimates
from coordinator.core.graph import arrange
from coordinator.core.state import CoreState
from coordinator.core.what_if import START_MS, Model, TaskRun, TaskSpec, WhatIf
from workers.airs.operation_trace import rows_for


class Measured:
    """What the running coordinator has learned: copied, so that a thread may use it."""

    def __init__(self, state: CoreState, config: CoreConfig) -> None:
        known = CoreState()
        known.totals.cost = copy.deepcopy(state.totals.cost)
        known.totals.settle_ema_ms = state.totals.settle_ema_ms
        estimates = Estimates(known, config, 0)
        self.proof_ms: Callable[[int], float] = estimates.prove_ms
        self.confirmation_ms = estimates.settle_ms


def simulate(body: SimulateBody, *, config: CoreConfig, measured: Measured, workers: int) -> SimulateAnswer:
    """The planner's answer. Takes up to seconds: not for the event loop.

    Raises:
        CoreError: `unknown_parent`, `cycle`, `id_conflict`, or `invalid`: the workload cannot be done with these
            settings, or takes too long to simulate.
    """
    ordered = _in_order(body.operations)
    tasks = _tasks(ordered)
    confirmation_ms = body.confirmation_ms or measured.confirmation_ms
    given_ms = body.proof_ms
    model = Model(
        proof_ms=measured.proof_ms if given_ms is None else lambda _rows: given_ms,
        latency_ms=confirmation_ms,
        workers=body.workers or workers,
    )
    # Learned averages must not be mixed with other times than those of the question.
    slots = config.confirmation_slots + 1
    config = replace(config, slot_ms=max(1, round(confirmation_ms / slots)))
    what_if = WhatIf(config, model)
    done = what_if.run(tasks)
    makespan_ms = max(task.confirmed_ms for task in done)
    without = WhatIf(replace(config, enabled=False), model).run(tasks)
    without_ms = max(task.confirmed_ms for task in without)
    names = {task.operation_id: asked.operation_id for task, asked in zip(done, ordered, strict=True)}
    return SimulateAnswer(
        makespan_ms=makespan_ms,
        without_speculation_ms=without_ms,
        critical_path_ms=_critical_path_ms(tasks),
        speedup=round(without_ms / makespan_ms, 3) if makespan_ms else 1.0,
        confirmation_ms=confirmation_ms,
        workers=model.workers,
        operations=tuple(_end(what_if, asked, task) for asked, task in zip(ordered, done, strict=True)),
        batches=_batches(what_if, names),
    )


def _in_order(operations: Sequence[SimulatedOperation]) -> list[SimulatedOperation]:
    by_id = {one.operation_id: one for one in operations}
    if len(by_id) < len(operations):
        raise CoreError(ErrorCode.ID_CONFLICT, "an operation_id is given twice", field="operations")
    for one in operations:
        for parent in one.depends_on:
            if parent not in by_id:
                message = f"{one.operation_id!r} depends on {parent!r}, which is not in the workload"
                raise CoreError(ErrorCode.UNKNOWN_PARENT, message, field="operations.depends_on")
        if len(set(one.depends_on)) < len(one.depends_on):
            message = f"{one.operation_id!r} names a parent twice"
            raise CoreError(ErrorCode.INVALID, message, field="operations.depends_on")
    ordered, cyclic, _ = arrange(list(by_id), {name: one.depends_on for name, one in by_id.items()})
    if cyclic:
        message = f"{cyclic[0]!r} would depend on itself"
        raise CoreError(ErrorCode.CYCLE, message, field="operations.depends_on")
    return [by_id[name] for name in ordered]


def _tasks(ordered: Sequence[SimulatedOperation]) -> list[TaskSpec]:
    places = {one.operation_id: place for place, one in enumerate(ordered)}
    return [
        TaskSpec(
            parents=tuple(places[parent] for parent in one.depends_on),
            runtime_ms=one.runtime_ms,
            agent_id=one.agent_id,
            operation_type=one.operation_type,
            rows=rows_for(one.output_bytes),
            priority=one.priority,
            start_ms=one.start_ms,
        )
        for one in ordered
    ]


def _critical_path_ms(tasks: Sequence[TaskSpec]) -> float:
    ends: list[float] = []
    for task in tasks:
        start_ms = max((ends[parent] for parent in task.parents), default=0.0)
        ends.append(max(start_ms, task.start_ms) + task.runtime_ms)
    return max(ends)


def _end(what_if: WhatIf, asked: SimulatedOperation, task: TaskRun) -> SimulatedEnd:
    assert task.operation_id is not None
    operation = what_if.engine.state.operation(task.operation_id)
    decision = operation.decision
    return SimulatedEnd(
        operation_id=asked.operation_id,
        granted=decision is not None and decision.denial is None and operation.depth > 0,
        reason="no_unconfirmed_parent" if decision is None else decision.rule,
        depth=operation.depth,
        stake_lamports=operation.bond_lamports,
        batch_id=operation.batch_id or "",
        submitted_ms=float(operation.admitted_at_ms - START_MS),
        confirmed_ms=task.confirmed_ms,
    )


def _batches(what_if: WhatIf, names: Mapping[str | None, str]) -> tuple[SimulatedBatch, ...]:
    batches = what_if.engine.state.ended_batches.values()
    return tuple(
        SimulatedBatch(
            batch_id=batch.batch_id,
            worker=batch.worker_id,
            reason=batch.reason,
            operation_ids=tuple(names.get(one, one) for one in batch.operation_ids),
            trace_rows=padded_rows(batch.operation_rows),
            started_ms=float(batch.started_at_ms - START_MS),
            proved_ms=float((batch.proved_at_ms or START_MS) - START_MS),
            submitted_ms=float((batch.submitted_at_ms or START_MS) - START_MS),
            confirmed_ms=float((batch.ended_at_ms or START_MS) - START_MS),
        )
        for batch in batches
    )
