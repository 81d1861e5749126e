"""A run: one coordinator's world from its first agent to the end of its last operation.

The real service, shell, core, planner, pool, store and local chain run on a virtual loop (`loop.py`). That is more
faithful than driving the core by hand, since most of what can go wrong lies between core, disk and chain: what is told
before it is durable, what a crash cuts in two, what comes late. Simulated are only time, threads, the disk's timing,
Ray and its workers, the agents, and the faults.

Every choice is drawn from streams that the seed names, one for each step and kind of fault, so that leaving out a step
or a kind does not change the others: that is what makes failing runs shrink well.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, TextIO, TypeVar

from coordinator.chain.interface import ChainUnavailable
from coordinator.core.commands import ProvedBatch
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.core.events import BatchConfirmed, Event
from coordinator.core.states import FailureCode
from coordinator.service import Service, SpeculationDenied
from coordinator.settings import Settings
from coordinator.sim.agents import Author, make_agents
from coordinator.sim.chain import ChainFaults, transaction_of
from coordinator.sim.coverage import Coverage, Topic
from coordinator.sim.faults import Fault
from coordinator.sim.history import History
from coordinator.sim.loop import VirtualLoop
from coordinator.sim.oracle import Guilt, Oracle, Violation
from coordinator.sim.plan import Plan, initial_settings
from coordinator.sim.process import SimulatedProcess, Unreachable
from coordinator.store.errors import StoreError
from coordinator.store.proofs import ProofRecord
from coordinator.submission import NewOperation, SubmitResult
from workers.messages import BatchResult

T = TypeVar("T")

START_MS = 1_700_000_000_000
#: Jobs, writes and local calls take up to this long.
LONGEST_DELAY_S = 0.02
_AGENTS = 5

#: Fixed for the coordinator's life; everything else is set at run time, so that it can be flipped.
_ENVIRONMENT = {
    "AGENC_SPECULATION_PROOF_GENERATOR": "mock",
    "AGENC_CHAIN_SLOT_MS": "400",
}


class World:
    """Everything that a run holds. Agents, nemesis and ending act on it."""

    def __init__(self, plan: Plan, loop: VirtualLoop, folder: Path, out: TextIO | None) -> None:
        self.plan = plan
        self.loop = loop
        self.faults = plan.faults
        self.coverage = Coverage()
        self.history = History(self.now_ms, out)
        self.guilt = Guilt()
        self.oracle = Oracle(self.history, self.coverage, self.guilt)
        self.chain_faults = ChainFaults()
        self.author = Author(make_agents(self.chance("agents"), _AGENTS))
        self.initial = initial_settings(self.chance("settings"), calm=not plan.faults.kinds)
        self.workers = self.chance("workers").randint(1, 4)
        self.acknowledged: dict[str, None] = {}
        self.violation: Violation | None = None
        self.submitted = self.steps = 0
        self.disk_is_full = self.log_is_damaged = False
        self._rebuilt = 0
        self.latest_ms = START_MS
        """The latest time that the clock ever showed before it was set back."""

        self._skew_ms = 0
        self._folder = folder
        self._lives = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._worker_chance = self.chance("proofs")
        self._machine_chance = self.chance("machine")
        self.process = self._new_process()

    # -- time and chance ---------------------------------------------------------------------------

    @staticmethod
    def stream(seed: int, *name: object) -> Random:
        """The stream of chance of that name."""
        return Random("/".join(map(str, (seed, *name))))

    def chance(self, *name: object) -> Random:
        """The run's stream of that name."""
        return self.stream(self.plan.seed, *name)

    def now_ms(self) -> int:
        """The clock, which may jump."""
        return START_MS + round(self.loop.time() * 1000) + self._skew_ms

    def jump(self, jump_ms: int) -> None:
        """The clock is set forward, or back."""
        self.latest_ms = max(self.latest_ms, self.now_ms())
        self._skew_ms += jump_ms

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Something of the world goes on beside everything else."""
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        task.add_done_callback(lambda _done: work.close())  # it may have been cancelled before it began

    async def settled(self) -> None:
        """Returns once nothing that was begun goes on."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """What a client may hear is counted, anything else is a defect."""
        try:
            await work
        except CoreError as error:
            self.coverage.add(Topic.REFUSAL, error.code)
        except SpeculationDenied as denied:
            self.coverage.add(Topic.REFUSAL, f"denied {denied.denial}")
        except Unreachable:
            self.coverage.add(Topic.REFUSAL, "unreachable")
        except Violation as violation:
            self.fail(violation)
        except StoreError as error:
            if not self.disk_refuses:
                self.fail(Violation(f"the store failed on a good disk: {error}"))
        except Exception as error:  # a defect, wherever it came from: the run ends with it
            self.fail(Violation(f"a defect: {type(error).__name__}: {error}"), error)

    def fail(self, violation: Violation, cause: BaseException | None = None) -> None:
        """The first violation is the run's."""
        if self.violation is None:
            self.violation = violation
            if cause is not None:
                violation.__cause__ = cause
            self.history.add("violation", text=str(violation))

    @property
    def disk_refuses(self) -> bool:
        """The disk is full, or was and the coordinator has not found out yet that it takes writes again."""
        return self.disk_is_full or self.log_is_damaged or self.read_only

    @property
    def read_only(self) -> bool:
        """Whether the coordinator takes no writes."""
        service = self.process.service
        return service is not None and service.read_only is not None

    def logged(self, text: str, cause: BaseException | None) -> None:
        """The coordinator logged an error: a defect, but for work that a full disk cut off."""
        refused = isinstance(cause, CoreError) and cause.code is ErrorCode.READ_ONLY
        if not (self.disk_refuses and (refused or text.startswith("read_only"))):
            self.fail(Violation(f"a defect: {text}"), cause)

    # -- the coordinator ----------------------------------------------------------------------------

    def _new_process(self) -> SimulatedProcess:
        folder = self._folder / f"life-{self._lives}"
        self._lives += 1
        settings = Settings.load("test", None, _ENVIRONMENT | {"AGENC_DATA_DIR": str(folder)})
        return SimulatedProcess(folder, settings, self.loop, self._machine_chance, self)

    async def call(self, work: Callable[[Service], Coroutine[Any, Any, T]]) -> T:
        """A request to the coordinator. Raises what it raises, and Unreachable."""
        return await self.process.call(work)

    async def start(self) -> None:
        """Starts the coordinator; its memory is what the log tells."""
        process = self.process
        await process.start()
        service = process.service
        assert service is not None
        if not self.log_is_damaged:
            self.oracle.compare(service.engine.state, when="after a start")
        self.history.add("started")

        def taken_up() -> None:
            """The state was read from the disk again: what was not durable never happened."""
            if self.oracle.rebuilt > self._rebuilt:
                self._rebuilt = self.oracle.rebuilt
                self.log_is_damaged = False
                self.acknowledged.clear()
            elif self.log_is_damaged:
                return
            self.oracle.crashed()
            self._require_acknowledged()
            self.oracle.compare(service.engine.state, when="after the state was read again")
            self.history.add("taken_up")

        service.parts.on_taken_up(lambda: self._checked(taken_up))

    async def crash(
        self, *, torn: bool, down_s: float, meanwhile: Callable[["World", Path], None] | None = None
    ) -> None:
        """kill -9, and a new life on what it left, to which something may happen meanwhile."""
        process = self.process
        if process.dead:
            return
        self.history.add("crash")
        successor = self._new_process()
        is_torn = await process.kill(successor.folder, torn=torn)
        self.disk_is_full = False
        if is_torn:
            self.injected(Fault.TORN_WRITE)
        self.oracle.crashed()
        self._require_acknowledged()
        if meanwhile is not None:
            meanwhile(self, successor.folder)
        await asyncio.sleep(down_s)
        self.process = successor
        await self.start()

    async def end(self) -> None:
        """The last life ends, and nothing is left."""
        for task in list(self._tasks):
            task.cancel()
        await self.process.kill(self._folder / "end", torn=False)

    def _checked(self, check: Callable[[], None]) -> None:
        """A check in the coordinator's own context: what it finds is the run's violation, not the coordinator's."""
        try:
            check()
        except Violation as violation:
            self.fail(violation)

    def _require_acknowledged(self) -> None:
        lost = [one for one in self.acknowledged if one not in self.oracle.admitted]
        if lost:
            raise Violation(f"acknowledged, and lost by a crash: {', '.join(lost[:5])}")

    # -- what agents do, so that the judge knows -------------------------------------------------------

    def answered(self, result: SubmitResult) -> None:
        """An agent heard what became of an operation."""
        error = result.error
        self.history.add(
            "answer",
            operation_id=result.operation_id,
            created=result.created,
            error=None if error is None else error.code,
        )
        if error is not None:
            self.coverage.add(Topic.REFUSAL, error.code)
        else:
            self.oracle.acknowledged(result.operation_id)
            self.acknowledged[result.operation_id] = None

    def require(self, condition: bool, text: str) -> None:
        """Raises:
        Violation: the condition does not hold.
        """
        if not condition:
            raise Violation(text)

    def cancels(self, operation_id: str) -> None:
        """Its agent cancels an operation, whose claim it may hold."""
        self.guilt.accuse(operation_id, FailureCode.CLAIM_ABANDONED)

    def refuses(self, task_id: str) -> None:
        """The chain refuses a task from now on."""
        self.guilt.accuse_task(task_id, FailureCode.CHAIN_REFUSED)
        self.chain_faults.rejected_tasks[task_id] = None
        if self.process.machine.chain is not None and self.process.up:
            self.process.machine.chain.follow()

    def finds_invalid(self, task_id: str) -> None:
        """The chain finds the witness of a task's operation invalid from now on."""
        self.guilt.accuse_task(task_id, FailureCode.INVALID_WITNESS)
        self.chain_faults.bad_witnesses[task_id] = None

    def spend_on_chain(self, operation: NewOperation) -> None:
        """An operation without parents is posted to the chain by its agent, with a valid proof of its own."""
        chain = self.process.machine.chain
        if chain is None or not self.process.up:
            return
        transaction = transaction_of(operation, domain=chain.domain, valid_until_slot=chain.slot() + 20)
        self.injected(Fault.DOUBLE_SPEND, operation_id=operation.operation_id)
        self.guilt.accuse_task(operation.task_id, FailureCode.DOUBLE_SPEND)
        with contextlib.suppress(ChainUnavailable):
            chain.submit(transaction)

    async def delegate(self, delegator_id: str, agent_id: str, cap_lamports: int) -> None:
        """A delegator lets another agent bond on its balance."""
        await self.call(lambda service: service.delegate(delegator_id, agent_id, cap_lamports))

    # -- what the machine tells ----------------------------------------------------------------------

    def heard(self, events: Sequence[Event]) -> None:
        """A write begins."""
        try:
            self.oracle.heard(events)
            self._require_final(events)
        except Violation as violation:
            self.fail(violation)
            raise

    def _require_final(self, events: Sequence[Event]) -> None:
        """What the coordinator calls confirmed, the chain had made final."""
        chain = self.process.machine.chain
        assert chain is not None
        for event in events:
            if isinstance(event, BatchConfirmed) and not chain.has_been_final(event.transaction):
                raise Violation(f"{event.batch_id} is confirmed, {event.transaction} is not final on chain")

    def durable(self, events: Sequence[Event]) -> None:
        """A write has ended."""
        self.oracle.durable(events)

    def injected(self, fault: Fault, **facts: Any) -> None:
        """A fault was injected."""
        self.coverage.add(Topic.FAULT, fault)
        self.history.add("fault", fault=fault, **facts)

    def poisoned(self, task_id: str) -> bool:
        """Whether every prover fails on this task; told by its name alone."""
        probability = self.faults.probability(Fault.POISONED_OPERATION)
        if not probability or self.chance("poison", task_id).random() >= probability:
            return False
        self.coverage.add(Topic.FAULT, Fault.POISONED_OPERATION)
        return True

    def keep_result(self, result: BatchResult) -> None:
        """A worker's result comes again, or late."""
        self.begin(self._deliver(result, after_s=self._worker_chance.uniform(0.0, 5.0)))

    async def _deliver(self, result: BatchResult, *, after_s: float) -> None:
        """As the proving loop takes in a proof: the core says whether anybody still waits for it."""
        await asyncio.sleep(after_s)
        proved = ProvedBatch(
            root=result.root,
            proof_digest=hashlib.sha256(result.proof).digest(),
            proof_bytes=len(result.proof),
            worker_id="late",
            backend=result.backend,
            prove_ms=result.prove_ms,
            permutations=result.permutations,
            rows=result.rows,
        )
        record = ProofRecord(result.batch_id, result.proof, result.root, "mock", result.log_rows)

        async def take_in(service: Service) -> None:
            if service.engine.batch_proved(result.batch_id, proved, now_ms=self.now_ms()):
                await service.parts.journal.commit(proofs=[record])

        await self.call(take_in)
