"""How many operations a second does the pure core take from admission to confirmation, on one core?

Agents submit chains in calls of many operations; batches are planned, started, proved, submitted and confirmed by
events alone: no log (but for `Sink`s that others hand in), no proof, no chain. Seconds are of the processor. Prints one
line of JSON.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TypeAlias, TypeVar

from coordinator.core.commands import BatchPlan, Observation, ProvedBatch, Submission
from coordinator.core.config import CoreConfig
from coordinator.core.engine import Engine
from coordinator.core.events import Event
from coordinator.core.planner import PlannerView, plan
from coordinator.core.state import CoreState
from coordinator.core.states import TransactionStatus

PROVED = ProvedBatch(
    root=bytes(32),
    proof_digest=bytes(32),
    proof_bytes=0,
    worker_id="w0",
    backend="none",
    prove_ms=300,
    permutations=0,
    rows=1 << 15,
)


T = TypeVar("T")
#: Takes the events of each step; what it does with them is its own.
Sink: TypeAlias = Callable[[Sequence[Event], Sequence[Submission]], None]

#: Wide open: the core's own speed, not its limits.
CONFIG = CoreConfig(
    enabled=True,
    max_depth=20,
    max_parallel_branches=1 << 20,
    max_state_snapshots=1 << 30,
    max_pending_operations=1 << 30,
    queue_size=1 << 30,
    max_log_rows=20,
    batch_size=4_096,
    gather_ratio=0.0,
    stake_max_lamports=1 << 50,
)
NOW_MS = 1_700_000_000_000


def submissions(first: int, last: int, *, agents: int, chain: int) -> Iterator[Submission]:
    """The operations of these numbers: chains of `chain`, agent by agent in turn."""
    for number in range(first, last):
        digests = [sha256(f"{number}/{name}".encode()).digest() for name in range(7)]
        yield Submission(
            operation_id=f"op-{number}",
            agent_id=f"agent-{number // chain % agents}",
            task_id=f"task-{number}",
            operation_type="work",
            parents=(f"op-{number - 1}",) if number % chain else (),
            content_digest=digests[0],
            constraint_hash=digests[1],
            output_commitment=digests[2],
            nullifier=digests[3],
            agent_key=bytes(32),
            public_digest=digests[4],
            statement=digests[5],
            binding=digests[6],
            output_bytes=100,
            rows=16,
        )


def new_engine(config: CoreConfig, *, agents: int) -> Engine:
    """An engine with one worker, and agents with stake enough."""
    engine = Engine(CoreState(), config)
    engine.set_workers(["w0"])
    for number in range(agents):
        engine.register_agent(
            f"agent-{number}",
            agent_key=bytes(32),
            token_hash=bytes(32),
            deposit_lamports=1 << 45,
            now_ms=NOW_MS,
        )
    return engine


def _drop(events: Sequence[Event], items: Sequence[Submission]) -> None:
    """Keeps nothing."""


class Driver:
    """Takes operations from admission to confirmation, and counts the processor's seconds by phase."""

    def __init__(self, engine: Engine, *, sink: Sink = _drop) -> None:
        self.engine = engine
        self.seconds = dict.fromkeys(("submit", "plan", "start", "prove", "confirm", "sink"), 0.0)
        self._sink = sink
        self._now_ms = NOW_MS
        self._slot = 0
        self._flush(())

    def take(self, items: Sequence[Submission]) -> None:
        """Submits the operations in one call, and confirms all that is queued."""
        self._now_ms += 10
        self._timed("submit", lambda: self.engine.submit(items, now_ms=self._now_ms))
        view = PlannerView(
            state=self.engine.state, config=self.engine.config, idle_workers=["w0"], worker_ids=["w0"]
        )
        while plans := self._timed("plan", lambda: plan(view, now_ms=self._now_ms)):
            for one in plans:
                self._confirm(one)
        self._flush(items)

    def _confirm(self, one: BatchPlan) -> None:
        engine, now_ms = self.engine, self._now_ms
        batch_id = self._timed("start", lambda: engine.start_batch(one, now_ms=now_ms))
        self._timed("prove", lambda: engine.batch_proved(batch_id, PROVED, now_ms=now_ms))
        self._timed("confirm", lambda: self._include(batch_id))

    def _include(self, batch_id: str) -> None:
        due = self.engine.batch_submitting(batch_id, slot=self._slot, now_ms=self._now_ms)
        seen = Observation(transaction=due.transaction, status=TransactionStatus.CONFIRMED, slot=self._slot)
        self.engine.chain_observed([seen], slot=self._slot, now_ms=self._now_ms)
        self._slot += 6

    def _flush(self, items: Sequence[Submission]) -> None:
        events = self.engine.take_events()
        self._timed("sink", lambda: self._sink(events, items))

    def _timed(self, phase: str, call: Callable[[], T]) -> T:
        start_s = time.process_time()
        answer = call()
        self.seconds[phase] += time.process_time() - start_s
        return answer


def run(
    operations: int, *, agents: int, chain: int, call: int, speculation: bool, sink: Sink = _drop
) -> dict[str, float]:
    """Everything through the engine; returns seconds by phase."""
    driver = Driver(new_engine(replace(CONFIG, enabled=speculation), agents=agents), sink=sink)
    calls = [
        list(submissions(first, min(first + call, operations), agents=agents, chain=chain))
        for first in range(0, operations, call)
    ]
    gc.collect()
    gc.freeze()
    for items in calls:
        driver.take(items)
    assert driver.engine.state.totals.confirmed == operations, driver.engine.state.counts
    return driver.seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--chain", type=int, default=10)
    parser.add_argument("--call", type=int, default=4_000)
    parser.add_argument("--no-speculation", action="store_true")
    options = parser.parse_args()
    seconds = run(
        options.operations,
        agents=options.agents,
        chain=options.chain,
        call=options.call,
        speculation=not options.no_speculation,
    )
    total_s = sum(seconds.values())
    microseconds = {phase: round(value / options.operations * 1e6, 2) for phase, value in seconds.items()}
    print(
        json.dumps(
            {
                "question": "core operations per second, admitted to confirmed, one core",
                "operations": options.operations,
                "agents": options.agents,
                "chain": options.chain,
                "call": options.call,
                "operations_per_s": round(options.operations / total_s),
                "microseconds_per_operation": microseconds,
            }
        )
    )


if __name__ == "__main__":
    main()
