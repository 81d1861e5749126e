"""A workload in simulated time: the real engine, planner and speculation rules; agents, workers and chain are modelled.

An agent starts a task as soon as every parent's output is given to it (confirmed, or granted speculatively), takes the
task's run time, and submits. A worker proves one batch at a time, in `Model.proof_ms` of its rows. The chain answers
`latency_ms` after a submission, and confirms, unless `Model.wrong` says that an execution's result is wrong: only then
does it refuse the batch, naming that operation, which is as late, and as dear, as a fault can be found; the agent
executes the task again.

Pure: the same workload, configuration and model give the same answer. It serves `POST /v1/simulate` and the benchmark
of speculation.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from coordinator.core.commands import Observation, ProvedBatch, Submission
from coordinator.core.config import CoreConfig
from coordinator.core.cost import padded_rows
from coordinator.core.engine import Engine
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.planner import PlannerView, plan_until
from coordinator.core.records import Batch, Operation
from coordinator.core.speculation import speculation_on
from coordinator.core.state import CoreState
from coordinator.core.states import OperationState, TransactionStatus

#: How often an agent that was denied asks again, and the core's clock ticks, while nothing happens.
LOOK_MS = 250
START_MS = 1_700_000_000_000
#: Whatever the workload, no more happens than this.
MAX_HAPPENINGS = 200_000
STAKE_LAMPORTS = 1 << 50
_KEY = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One task: its parents by their places in the workload (earlier ones), and how long an execution takes."""

    parents: tuple[int, ...] = ()
    runtime_ms: float = 0.0
    agent_id: str = "agent"
    operation_type: str = "work"
    rows: int = 16
    priority: int = 0
    start_ms: float = 0.0


def never_wrong(operation_id: str) -> bool:
    """No fault."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is modelled: the time of a proof of so many rows of operations, of a confirmation, and wrong results."""

    proof_ms: Callable[[int], float]
    latency_ms: float
    workers: int = 1
    wrong: Callable[[str], bool] = never_wrong


@dataclass(slots=True)
class TaskRun:
    """How a task went: its operation (the last), attempts before it, and what is under way."""

    spec: TaskSpec
    operation_id: str | None = None
    attempts: int = 0
    running: bool = False
    done: bool = False
    confirmed_ms: float = 0.0
    retry_of: str | None = None
    built_on: tuple[str, ...] = field(default=())


class WhatIf:
    """One coordinator over simulated time; workloads may be run on it one after another, and it learns."""

    def __init__(self, config: CoreConfig, model: Model, *, state: CoreState | None = None) -> None:
        self.engine = Engine(CoreState() if state is None else state, config)
        self.now_ms = 0.0
        self.executions = 0
        self._model = model
        self._workers = [f"worker-{number}" for number in range(model.workers)]
        self._busy: set[str] = set()
        self._run = self._order = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._tasks: list[TaskRun] = []
        self._open: dict[int, TaskRun] = {}
        self._woken_ms: float | None = None
        self.engine.set_workers(self._workers)

    @property
    def clock_ms(self) -> int:
        """The time as the core sees it."""
        return START_MS + round(self.now_ms)

    def run(self, tasks: Sequence[TaskSpec]) -> list[TaskRun]:
        """Runs the workload until every task is confirmed.

        Raises:
            CoreError: `invalid`; a task cannot be done under this configuration, or takes too long to simulate.
        """
        self._run += 1
        self._tasks = [TaskRun(spec) for spec in tasks]
        self._open = dict(enumerate(self._tasks))
        self._register(tasks)
        begin_ms = self.now_ms
        for start_ms in sorted({spec.start_ms for spec in tasks}):
            self._at(begin_ms + start_ms - self.now_ms, self._nothing)
        self._begin_ms = begin_ms
        for _ in range(MAX_HAPPENINGS):
            self._look()
            if not self._open:
                break
            if not self._events:
                raise CoreError(ErrorCode.INVALID, "the workload cannot be finished with these settings")
            self.now_ms, _, happen = heapq.heappop(self._events)
            happen()
        else:
            raise CoreError(ErrorCode.INVALID, "the workload takes too long to simulate", field="operations")
        self._events.clear()
        self._woken_ms = None
        return self._tasks

    def _register(self, tasks: Sequence[TaskSpec]) -> None:
        for agent_id in dict.fromkeys(spec.agent_id for spec in tasks):
            if agent_id not in self.engine.state.agents:
                self.engine.register_agent(
                    agent_id,
                    agent_key=_KEY,
                    token_hash=_KEY,
                    deposit_lamports=STAKE_LAMPORTS,
                    now_ms=self.clock_ms,
                )

    def _at(self, delay_ms: float, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._order, happen))

    def _nothing(self) -> None:
        """The time has come; `_look` sees what follows from it."""

    def _wake(self, at_ms: float) -> None:
        """Look again then, unless it is done before."""
        if self._woken_ms is None or at_ms < self._woken_ms or self._woken_ms <= self.now_ms:
            self._woken_ms = at_ms
            self._at(max(1.0, at_ms - self.now_ms), self._nothing)

    def _look(self) -> None:
        """What the live loops do when something happened."""
        self.engine.tick(now_ms=self.clock_ms)
        denied = self._agents_look()
        next_ms = self._prove_next()
        self._submit_due()
        self.engine.take_events()
        self.engine.cancelled_batches()
        if next_ms is not None:
            self._wake(next_ms - START_MS)
        if denied and speculation_on(self.engine.state, self.engine.config):
            self._wake(self.now_ms + LOOK_MS)

    # -- agents ----------------------------------------------------------------------------------------------------

    def _agents_look(self) -> bool:
        """Follows what is submitted and starts what can be; says whether an agent waits for an output it was denied."""
        denied = False
        for place, task in list(self._open.items()):
            if task.operation_id is not None:
                self._follow(place, task)
            if task.operation_id is None and not task.running and not task.done:
                denied |= self._try_start(place, task)
        return denied

    def _follow(self, place: int, task: TaskRun) -> None:
        operation = self._operation(task.operation_id)
        if operation.state is OperationState.CONFIRMED:
            task.done, task.confirmed_ms = True, float(operation.timeline[-1][0] - START_MS)
            del self._open[place]
        elif operation.terminal:
            task.retry_of, task.operation_id = task.operation_id, None
            task.attempts += 1

    def _operation(self, operation_id: str | None) -> Operation:
        assert operation_id is not None
        return self.engine.state.operation(operation_id)

    def _try_start(self, place: int, task: TaskRun) -> bool:
        """Starts the task if every parent's output is given; True when one was denied."""
        if self.now_ms < self._begin_ms + task.spec.start_ms:
            return False
        found = []
        for parent in task.spec.parents:
            operation_id = self._tasks[parent].operation_id
            if operation_id is None:
                return False
            decision = self.engine.output_decision(task.spec.agent_id, operation_id, now_ms=self.clock_ms)
            if not (decision.final or decision.granted):
                return True
            found.append(operation_id)
        task.running, task.built_on = True, tuple(found)
        self.executions += 1
        self._at(task.spec.runtime_ms, lambda: self._finish(place, task))
        return False

    def _finish(self, place: int, task: TaskRun) -> None:
        task.running = False
        current = tuple(self._tasks[parent].operation_id or "" for parent in task.spec.parents)
        if current != task.built_on:  # a parent was rolled back meanwhile: in vain
            task.attempts += 1
            return
        operation_id = f"op-{self._run}-{place}-{task.attempts}"
        submission = self._submission(operation_id, place, task)
        (verdict,) = self.engine.submit([submission], now_ms=self.clock_ms)
        if verdict.error is not None:
            raise verdict.error
        task.operation_id = operation_id

    def _submission(self, operation_id: str, place: int, task: TaskRun) -> Submission:
        digests = [sha256(f"{operation_id}/{name}".encode()).digest() for name in range(7)]
        return Submission(
            operation_id=operation_id,
            agent_id=task.spec.agent_id,
            task_id=f"task-{self._run}-{place}",
            operation_type=task.spec.operation_type,
            parents=task.built_on,
            content_digest=digests[0],
            constraint_hash=digests[1],
            output_commitment=digests[2],
            nullifier=digests[3],
            agent_key=_KEY,
            public_digest=digests[4],
            statement=digests[5],
            binding=digests[6],
            output_bytes=0,
            rows=task.spec.rows,
            priority=task.spec.priority,
            retry_of=task.retry_of,
        )

    # -- workers and chain -----------------------------------------------------------------------------------------

    def _prove_next(self) -> float | None:
        engine = self.engine
        view = PlannerView(
            state=engine.state,
            config=engine.config,
            idle_workers=[worker for worker in self._workers if worker not in self._busy],
            worker_ids=self._workers,
        )
        plans, next_ms = plan_until(view, now_ms=self.clock_ms)
        for one in plans:
            self._prove(engine.state.batch(engine.start_batch(one, now_ms=self.clock_ms)))
        return next_ms

    def _prove(self, batch: Batch) -> None:
        self._busy.add(batch.worker_id)
        took_ms = self._model.proof_ms(batch.operation_rows)
        self._at(took_ms, lambda: self._proved(batch, took_ms))

    def _proved(self, batch: Batch, took_ms: float) -> None:
        self._busy.discard(batch.worker_id)
        result = ProvedBatch(
            root=_KEY,
            proof_digest=_KEY,
            proof_bytes=0,
            worker_id=batch.worker_id,
            backend="model",
            prove_ms=round(took_ms),
            permutations=0,
            rows=padded_rows(batch.operation_rows),
        )
        self.engine.batch_proved(batch.batch_id, result, now_ms=self.clock_ms)

    def _submit_due(self) -> None:
        for batch_id in self.engine.submissions_due():
            self._send(self.engine.state.batch(batch_id))

    def _send(self, batch: Batch) -> None:
        due = self.engine.batch_submitting(batch.batch_id, slot=0, now_ms=self.clock_ms)
        self._at(self._model.latency_ms, lambda: self._answer(batch, due.transaction))

    def _answer(self, batch: Batch, transaction: str) -> None:
        wrong = tuple(at for at, one in enumerate(batch.operation_ids) if self._model.wrong(one))
        status = TransactionStatus.REFUSED if wrong else TransactionStatus.CONFIRMED
        seen = Observation(transaction=transaction, status=status, slot=0, code="wrong", indices=wrong)
        self.engine.chain_observed([seen], slot=0, now_ms=self.clock_ms)
