"""The faults of a run: read, checked against the workflow before anything starts, and handed to the system.

A lie is the agent's: it submits a wrong output, and the chain, which knows the task's true constraint hash,
refuses it. The others are the system's. All of them reach the embedded system in one file:
`{"faults": [texts], "tasks": {task id: constraint hash}}`, tasks by the id that the API knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.chain.faults import FaultError, FaultPlan
from coordinator.replay.expectation import Expectation
from coordinator.replay.names import api_task_id
from coordinator.replay.outputs import true_outputs
from coordinator.replay.workflow import Workflow


class FaultsError(ValueError):
    """The faults cannot be read, or do not fit the workflow."""


@dataclass(frozen=True)
class PlannedFaults:
    """The faults as texts and as what they make of the workflow's tasks (by the workflow's ids)."""

    texts: tuple[str, ...]
    lies: frozenset[str]
    rejects: frozenset[str]

    @property
    def expectation(self) -> Expectation:
        """What must come of a run with these faults."""
        return Expectation(lies=self.lies, rejects=self.rejects)

    def file_for(self, workflow: Workflow) -> Mapping[str, object] | None:
        """What the embedded system reads; None when there is no fault."""
        if not self.texts:
            return None
        from workers.statement import constraint_hash

        outputs = true_outputs(workflow)
        return {
            "faults": [_with_api_id(text) for text in self.texts],
            "tasks": {
                api_task_id(task_id): constraint_hash(outputs[task_id]).hex() for task_id in sorted(self.lies)
            },
        }


def plan_faults(texts: Sequence[str], workflow: Workflow) -> PlannedFaults:
    """The faults of a run of this workflow.

    Raises:
        FaultsError: one cannot be read, names a task that is not there, or a task has two.
    """
    try:
        plan = FaultPlan.parse(texts)
    except FaultError as error:
        raise FaultsError(str(error)) from None
    for task_id in sorted(plan.lied_tasks | plan.rejected_tasks):
        if task_id not in workflow.task_ids:
            raise FaultsError(f"a fault names task {task_id!r}, which is not in the workflow {workflow.name}")
    if both := sorted(plan.lied_tasks & plan.rejected_tasks):
        raise FaultsError(f"task {both[0]!r} has two faults; it can fail only once")
    return PlannedFaults(texts=tuple(texts), lies=plan.lied_tasks, rejects=plan.rejected_tasks)


def _with_api_id(text: str) -> str:
    kind, colon, rest = text.partition(":")
    return f"{kind}{colon}{api_task_id(rest)}" if kind in ("lie@op", "reject@op") else text
