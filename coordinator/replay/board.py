"""What has become of every task of a run; agents wait on it for their parents' operations.

A task has at most one live operation. When that is rolled back it is withdrawn, and those who build on it
wait for another; when the task ends without being confirmed they are told so.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from coordinator.replay.session import Admission
from coordinator.replay.workflow import Task, Workflow


class Outcome(StrEnum):
    """How a task ended. The four partition the workflow."""

    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class TaskRecord:
    """One task's way through a run; times are the loop's monotonic clock, in seconds."""

    agent_id: str
    operation_id: str | None = None
    bond_lamports: int = 0
    attempts: int = 0
    executions: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    outcome: Outcome | None = None
    detail: str = ""
    denials: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Board:
    """The run's one table of tasks; changed only on the event loop's thread."""

    records: dict[str, TaskRecord]
    awaited: dict[str, set[str]]
    """By agent: its tasks that others build on and that are not submitted yet."""
    rollbacks: Counter[str] = field(default_factory=Counter)
    denials: Counter[str] = field(default_factory=Counter)
    changes: int = 0

    @classmethod
    def for_workflow(cls, workflow: Workflow, agent_ids: list[str]) -> "Board":
        """Tasks in order, dealt to the agents in turn."""
        records = {
            task.task_id: TaskRecord(agent_id=agent_ids[index % len(agent_ids)])
            for index, task in enumerate(workflow.tasks)
        }
        awaited: dict[str, set[str]] = {agent_id: set() for agent_id in agent_ids}
        for task in workflow.tasks:
            for parent in task.parents:
                awaited[records[parent].agent_id].add(parent)
        return cls(records=records, awaited=awaited)

    def start(self, task_id: str, *, now_s: float) -> None:
        """The task executes (again)."""
        record = self.records[task_id]
        record.executions += 1
        if record.started_s is None:
            record.started_s = now_s
        self._wake(record)

    def publish(self, task_id: str, operation_id: str, admission: Admission) -> None:
        """The task's operation was admitted: children may build on it."""
        record = self.records[task_id]
        record.operation_id = operation_id
        record.bond_lamports = admission.bond_lamports
        record.attempts += 1
        self.awaited[record.agent_id].discard(task_id)
        if admission.denial is not None:
            record.denials.append(admission.denial)
            self.denials[admission.denial] += 1
        self._wake(record)

    def withdraw(self, task_id: str, *, reason: str) -> None:
        """The task's operation was rolled back: whoever built on it waits for another or the end."""
        self.rollbacks[reason] += 1
        record = self.records[task_id]
        record.operation_id = None
        self._wake(record)

    def end(self, task_id: str, outcome: Outcome, *, now_s: float, detail: str = "") -> None:
        """The task is over."""
        record = self.records[task_id]
        assert record.outcome is None, f"{task_id} ended twice"
        record.outcome = outcome
        record.detail = detail
        record.ended_s = now_s
        self.awaited[record.agent_id].discard(task_id)
        self._wake(record)

    def live(self, task_id: str) -> str | None:
        """The task's live or confirmed operation; None while there is none, and once the task is lost."""
        record = self.records[task_id]
        return record.operation_id if record.outcome in (None, Outcome.CONFIRMED) else None

    def lost(self, task_id: str) -> bool:
        """Whether the task ended without being confirmed."""
        return self.records[task_id].outcome not in (None, Outcome.CONFIRMED)

    async def live_operation(self, task_id: str, *, other_than: str | None = None) -> str | None:
        """Waits for the task's live operation, `other_than` a dead one; None when the task is lost."""
        while not self.lost(task_id):
            operation_id = self.live(task_id)
            if operation_id is not None and operation_id != other_than:
                return operation_id
            await self.records[task_id].changed.wait()
        return None

    async def gone(self, task_id: str, operation_id: str) -> None:
        """Waits until `operation_id` is no longer the task's live operation."""
        while self.live(task_id) == operation_id:
            await self.records[task_id].changed.wait()

    async def confirmed(self, task_id: str) -> bool:
        """Waits for the task's end; whether it was confirmed."""
        while self.records[task_id].outcome is None:
            await self.records[task_id].changed.wait()
        return self.records[task_id].outcome is Outcome.CONFIRMED

    def count(self, outcome: Outcome) -> int:
        """How many tasks ended so."""
        return sum(record.outcome is outcome for record in self.records.values())

    def by_outcome(self, outcome: Outcome) -> frozenset[str]:
        """The tasks that ended so."""
        return frozenset(task_id for task_id, record in self.records.items() if record.outcome is outcome)

    @property
    def makespan_s(self) -> float:
        """From the first task's start to the last one's end; tasks that were skipped did neither."""
        ran = [r for r in self.records.values() if r.started_s is not None and r.ended_s is not None]
        started = (record.started_s for record in ran if record.started_s is not None)
        ended = (record.ended_s for record in ran if record.ended_s is not None)
        return max(ended) - min(started) if ran else 0.0

    def deny(self, task_id: str, denial: str) -> None:
        """The task's agent was denied a parent's unconfirmed output."""
        self.records[task_id].denials.append(denial)
        self.denials[denial] += 1

    async def at_leisure(self, task: Task) -> None:
        """Waits until the task's agent has submitted all that others build on, or the task's parents have ended.

        For a task that nobody builds on: a speculation of its agent's, which has only so many, serves others first.
        """
        agent_id = self.records[task.task_id].agent_id
        while self.awaited[agent_id]:
            ahead = next(iter(self.awaited[agent_id]))
            if all(self.records[parent].outcome is not None for parent in task.parents):
                return
            events = [self.records[one].changed.wait() for one in (ahead, *task.parents)]
            waits = [asyncio.ensure_future(event) for event in events]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _wake(self, record: TaskRecord) -> None:
        """Whoever waits for this task looks again. The event is replaced: nobody waits on one that is set."""
        self.changes += 1
        record.changed.set()
        record.changed = asyncio.Event()
