"""A world around the engine for tests: a clock, a model chain and model workers, and a second state that only the
events feed. After every event all invariants are checked on it, and after every command it must equal the engine's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import pairwise
from typing import Any

from coordinator.core.commands import BatchPlan, Observation, ProvedBatch, Submission, Verdict
from coordinator.core.config import CoreConfig
from coordinator.core.engine import Engine
from coordinator.core.events import Event, decode_event, encode_event
from coordinator.core.invariants import check
from coordinator.core.planner import PlannerView, plan
from coordinator.core.records import Operation
from coordinator.core.state import CoreState
from coordinator.core.states import OperationState, ReturnReason, TransactionStatus

START_MS = 1_700_000_000_000

#: Everything on and wide open; tests narrow it.
OPEN = CoreConfig(
    enabled=True,
    max_depth=20,
    max_parallel_branches=16,
    cross_agent=True,
    queue_size=1_000_000,
    max_state_snapshots=1_000_000,
    max_pending_operations=1_000_000,
    stake_max_lamports=1 << 50,
    breaker_min_finished=1 << 30,
    gather_ratio=0.0,
)


def digest(*parts: object) -> bytes:
    return sha256("/".join(map(str, parts)).encode()).digest()


def assert_invariants(state: CoreState) -> None:
    broken = [report for report in check(state) if not report.ok]
    assert not broken, broken


@dataclass
class World:
    """`events` is the whole log; `moves` every transition that any operation made."""

    config: CoreConfig = OPEN
    workers: list[str] = field(default_factory=lambda: ["w1"])
    retained: int = 10_000
    check: bool = True

    def __post_init__(self) -> None:
        self.now_ms = START_MS
        self.engine = Engine(CoreState(retained=self.retained), self.config)
        self.engine.set_workers(self.workers)
        self.shadow = CoreState(retained=self.retained)
        self.events: list[Event] = []
        self.moves: set[tuple[OperationState, OperationState]] = set()
        self.running: dict[str, str] = {}
        self.chain: dict[str, str] = {}

    # -- commands --------------------------------------------------------------------------

    @property
    def state(self) -> CoreState:
        return self.engine.state

    @property
    def slot(self) -> int:
        return (self.now_ms - START_MS) // self.config.slot_ms

    def configure(self, **changes: Any) -> None:
        self.config = replace(self.config, **changes)
        self.engine.config = self.config

    def do(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Run a command of the engine now, and take in its events."""
        before = self.state.dump() if self.check else b""
        try:
            answer = getattr(self.engine, command)(*args, **kwargs, now_ms=self.now_ms)
        except Exception:
            assert not self.engine.take_events(), "a refused command decided something"
            assert not self.check or self.state.dump() == before, "a refused command changed something"
            raise
        self.flush()
        return answer

    def flush(self) -> list[Event]:
        taken = self.engine.take_events()
        for event in taken:
            again = decode_event(encode_event(event))
            assert again == event
            self.shadow.apply(again)
            self.events.append(event)
            if self.check:
                assert_invariants(self.shadow)
        if taken and self.check:
            assert self.shadow.dump() == self.state.dump(), "the log does not tell the state"
        for batch_id in self.engine.cancelled_batches():
            assert batch_id in self.running, "only what a worker is proving is to be stopped"
            del self.running[batch_id]
        return taken

    def agent(self, agent_id: str = "alice", deposit_lamports: int = 1_000_000_000) -> str:
        self.do(
            "register_agent",
            agent_id,
            agent_key=digest("key", agent_id),
            token_hash=digest("token", agent_id),
            deposit_lamports=deposit_lamports,
        )
        return agent_id

    def submission(
        self, operation_id: str, *parents: str, agent: str = "alice", **changes: Any
    ) -> Submission:
        """A submission of a task of its own, unless told otherwise; digests follow from the names."""
        task_id = changes.pop("task", f"task-{operation_id}")
        output = changes.pop("output", f"output-of-{task_id}")
        values = {
            "operation_id": operation_id,
            "agent_id": agent,
            "task_id": task_id,
            "operation_type": "work",
            "parents": parents,
            "content_digest": digest("content", agent, task_id, output, parents),
            "constraint_hash": digest("C", output),
            "output_commitment": digest("O", output),
            "nullifier": digest("N", agent, task_id, *map(self._output, parents)),
            "agent_key": digest("key", agent),
            "public_digest": digest("P", operation_id),
            "statement": digest("S", operation_id),
            "binding": digest("B", operation_id),
            "output_bytes": 100,
            "rows": 16,
        }
        return Submission(**(values | changes))

    def _output(self, operation_id: str) -> object:
        return self.state.commitment_of(operation_id) or operation_id

    def submit(self, operation_id: str, *parents: str, agent: str = "alice", **changes: Any) -> Operation:
        """Submit one operation that must be admitted."""
        verdict = self.try_submit(operation_id, *parents, agent=agent, **changes)
        if verdict.error is not None:
            raise verdict.error
        assert verdict.created
        return self.state.live[operation_id]

    def try_submit(self, operation_id: str, *parents: str, agent: str = "alice", **changes: Any) -> Verdict:
        (verdict,) = self.do("submit", [self.submission(operation_id, *parents, agent=agent, **changes)])
        return verdict

    def chain_of(self, count: int, *, agent: str = "alice", prefix: str = "op") -> list[str]:
        """A chain of operations, each depending on the one before it."""
        ids = [f"{prefix}{number}" for number in range(count)]
        for number, operation_id in enumerate(ids):
            self.submit(operation_id, *ids[max(0, number - 1) : number], agent=agent)
        return ids

    # -- workers ---------------------------------------------------------------------------

    @property
    def idle(self) -> list[str]:
        busy = set(self.running.values())
        return [worker for worker in self.workers if worker not in busy]

    def start(self, *operation_ids: str) -> list[str]:
        """Plan for the idle workers and start; with ids, only a batch of these, whatever the planner thinks."""
        started = []
        view = PlannerView(
            state=self.state, config=self.config, idle_workers=self.idle, worker_ids=self.workers
        )
        plans = plan(view, now_ms=self.now_ms)
        if operation_ids:
            plans = [BatchPlan(operation_ids, self.idle[0], "by hand")]
        for one in plans:
            batch_id = self.do("start_batch", one)
            self.running[batch_id] = one.worker_id
            started.append(batch_id)
        return started

    def prove(self, batch_id: str) -> None:
        worker_id = self.running.pop(batch_id)
        result = ProvedBatch(
            root=digest("root", batch_id),
            proof_digest=digest("proof", batch_id),
            proof_bytes=1_000,
            worker_id=worker_id,
            backend="cpu",
            prove_ms=500,
            permutations=100,
            rows=512,
        )
        assert self.do("batch_proved", batch_id, result)

    def fail_batch(
        self, batch_id: str, reason: ReturnReason = ReturnReason.WORKER_LOST, index: int | None = None
    ) -> None:
        self.running.pop(batch_id)
        assert self.do("batch_failed", batch_id, reason, "a test", index=index)

    # -- the chain -------------------------------------------------------------------------

    def send_due(self) -> list[str]:
        sent = []
        for batch_id in self.engine.submissions_due():
            due = self.do("batch_submitting", batch_id, slot=self.slot)
            self.chain[due.transaction] = batch_id
            sent.append(due.transaction)
        return sent

    def see(
        self,
        transaction: str,
        status: TransactionStatus,
        code: str | None = None,
        indices: Iterable[int] = (),
    ) -> None:
        seen = Observation(
            transaction=transaction, status=status, slot=self.slot, code=code, indices=tuple(indices)
        )
        self.do("chain_observed", [seen], slot=self.slot)

    def confirm(self, transaction: str) -> None:
        self.see(transaction, TransactionStatus.CONFIRMED)

    def refuse(self, transaction: str, code: str, *indices: int) -> None:
        self.see(transaction, TransactionStatus.REFUSED, code, indices)

    # -- whole ways ------------------------------------------------------------------------

    def to_submitting(self, *operation_ids: str) -> str:
        """Bring one batch of these operations to the chain; returns its transaction."""
        (batch_id,) = self.start(*operation_ids)
        self.prove(batch_id)
        return next(transaction for transaction in self.send_due() if transaction.startswith(f"{batch_id}:"))

    def settle(self, *operation_ids: str) -> None:
        """Bring one batch of these operations to its confirmation."""
        self.confirm(self.to_submitting(*operation_ids))

    def advance(self, milliseconds: int) -> None:
        self.now_ms += milliseconds
        self.do("tick")

    def run_until_quiet(self, rounds: int = 500) -> None:
        """Everything works: prove, send and confirm whatever is there until no operation is live."""
        for _ in range(rounds):
            if not self.state.live:
                return
            self.start()
            for batch_id in list(self.running):
                self.prove(batch_id)
            self.send_due()
            for due in self.engine.transactions_open():
                self.confirm(due.transaction)
            self.advance(400)
        raise AssertionError(
            f"stranded: {[(one.operation_id, one.state) for one in self.state.live.values()]}"
        )

    # -- looking ---------------------------------------------------------------------------

    def where(self, *operation_ids: str) -> list[str]:
        return [self.state.operation(operation_id).state.value for operation_id in operation_ids]

    def why(self, operation_id: str) -> str:
        return self.state.operation(operation_id).reason

    def seen(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def transitions(states: Iterable[Operation]) -> set[tuple[OperationState, OperationState]]:
    """The moves that the operations' timelines show."""
    found: set[tuple[OperationState, OperationState]] = set()
    for operation in states:
        found |= set(pairwise(entry[1] for entry in operation.timeline))
    return found


def balances(state: CoreState) -> Mapping[str, int]:
    return {agent_id: agent.balance_lamports for agent_id, agent in state.agents.items()}
