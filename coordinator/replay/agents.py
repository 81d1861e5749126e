"""Simulated agents: a task waits for its parents' outputs, runs, submits, and follows its operation.

Everything goes through the HTTP API with the agent's own token, as any agent's client would do it. An agent's
tasks run at the same time: its limits are the system's (stake, branches), not a pretended processor.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from coordinator.client.session import RESUBMITTED
from coordinator.core.states import OperationState
from coordinator.replay.board import Board, Outcome
from coordinator.replay.names import api_task_id, fresh_operation_id, operation_type
from coordinator.replay.outputs import lying_output, task_output
from coordinator.replay.session import (
    Admission,
    ParentGoneError,
    ParentResult,
    Session,
    SubmissionRefusedError,
)
from coordinator.replay.workflow import Task, Workflow
from coordinator.submission import SALT_BYTES

MAX_ATTEMPTS = 25
GONE_PAUSE_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the agents behave.

    `speculate` False: an agent waits until its parents are confirmed, whatever the system would let it do.
    `awaited_first`: an agent speculates on tasks that nobody builds on only once it has submitted those that
    others build on, for it has only so many branches. `lies`: tasks whose agent submits a wrong output.
    `suffix` keeps runs on one system apart.
    """

    time_scale: float
    speculate: bool = True
    awaited_first: bool = False
    lies: frozenset[str] = frozenset()
    suffix: str = ""


@dataclass
class Cast:
    """The agents of one run and the workflow they act out on the board."""

    workflow: Workflow
    board: Board
    sessions: Mapping[str, Session]
    options: Options

    @cached_property
    def _leaves(self) -> frozenset[str]:
        """Tasks that nobody builds on."""
        return self.workflow.task_ids - {parent for task in self.workflow.tasks for parent in task.parents}

    async def play(self) -> None:
        """Acts out every task; returns when each has ended."""
        async with asyncio.TaskGroup() as group:
            for task in self.workflow.tasks:
                group.create_task(self._play_task(task), name=task.task_id)

    async def _play_task(self, task: Task) -> None:
        """The task's whole life: try by try until it is confirmed, fails, or has nothing left to build on."""
        trial = _Trial()
        if self.options.awaited_first and task.task_id in self._leaves:
            await self.board.at_leisure(task)
        while trial.attempts < MAX_ATTEMPTS:
            parents = await self._parent_results(task)
            if parents is None:
                self._end(task, trial.lost_outcome, trial.reason or "a parent was not confirmed")
                return
            if trial.work is None or trial.work.parent_outputs != [parent.output for parent in parents]:
                trial.work = await self._execute(task, parents)
            operation_id = fresh_operation_id(task, attempt=trial.attempts)
            try:
                admission = await self._submit(task, operation_id, parents, trial)
            except ParentGoneError:
                await asyncio.sleep(GONE_PAUSE_S)  # whoever follows the parent has not heard of it yet
                continue
            except SubmissionRefusedError as refusal:
                self._end(task, Outcome.FAILED, f"refused at submission: {refusal}")
                return
            trial.attempts += 1
            self.board.publish(task.task_id, operation_id, admission)
            ending = await self._session(task).follow(operation_id)
            if ending.state is not OperationState.ROLLED_BACK:
                confirmed = ending.state is OperationState.CONFIRMED
                self._end(task, Outcome.CONFIRMED if confirmed else Outcome.FAILED, ending.reason)
                return
            trial.rolled_back, trial.reason = operation_id, ending.reason
            self.board.withdraw(task.task_id, reason=ending.reason)
            if ending.reason not in RESUBMITTED:
                break
        self._end(task, Outcome.ROLLED_BACK, trial.reason)

    async def _parent_results(self, task: Task) -> list[ParentResult] | None:
        """Every parent's output, as soon as the system gives it; None as soon as a parent is lost."""
        waits = [asyncio.ensure_future(self._parent_result(task, parent)) for parent in task.parents]
        try:
            for wait in asyncio.as_completed(waits):
                if await wait is None:
                    return None
            return [result for wait in waits if (result := wait.result()) is not None]
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _parent_result(self, task: Task, parent: str) -> ParentResult | None:
        dead: str | None = None
        while True:
            if not self.options.speculate and not await self.board.confirmed(parent):
                return None
            operation_id = await self.board.live_operation(parent, other_than=dead)
            if operation_id is None:
                return None
            try:
                return await self._session(task).output(
                    operation_id,
                    gone=self.board.gone(parent, operation_id),
                    denied=partial(self.board.deny, task.task_id),
                )
            except ParentGoneError:
                dead = operation_id

    async def _execute(self, task: Task, parents: Sequence[ParentResult]) -> "_Work":
        self.board.start(task.task_id, now_s=asyncio.get_running_loop().time())
        await asyncio.sleep(task.runtime_s * self.options.time_scale)
        compute = lying_output if task.task_id in self.options.lies else task_output
        outputs = [parent.output for parent in parents]
        return _Work(outputs, output=compute(task.task_id, outputs), salt=secrets.token_bytes(SALT_BYTES))

    async def _submit(
        self,
        task: Task,
        operation_id: str,
        parents: Sequence[ParentResult],
        trial: "_Trial",
    ) -> Admission:
        assert trial.work is not None
        return await self._session(task).submit(
            operation_id=operation_id,
            task_id=api_task_id(task.task_id, suffix=self.options.suffix),
            operation_type=operation_type(task.name),
            parents=parents,
            output=trial.work.output,
            salt=trial.work.salt,
            retry_of=trial.rolled_back,
        )

    def _session(self, task: Task) -> Session:
        return self.sessions[self.board.records[task.task_id].agent_id]

    def _end(self, task: Task, outcome: Outcome, detail: str = "") -> None:
        self.board.end(task.task_id, outcome, now_s=asyncio.get_running_loop().time(), detail=detail)


@dataclass(frozen=True)
class _Work:
    """What an execution gave, and what it was computed from."""

    parent_outputs: list[bytes]
    output: bytes
    salt: bytes
    """Kept for every try: the same output under the same commitment."""


@dataclass
class _Trial:
    """What a task has behind it: its last execution, how often it was admitted, and how that ended."""

    work: _Work | None = None
    attempts: int = 0
    rolled_back: str | None = None
    reason: str = ""

    @property
    def lost_outcome(self) -> Outcome:
        """What the task ends as once it has nothing to build on."""
        return Outcome.SKIPPED if self.rolled_back is None else Outcome.ROLLED_BACK
