"""How many operations a second does the pure core take from admission to confirmation, on one core?

Agents submit chains in calls of many operations; batches are planned, started, proved, submitted and confirmed by
events alone: no log, no proof, no chain. Seconds are of the processor. Prints one line of JSON.
"""

import argparse
import gc
import json
import time
from hashlib import sha256

from coordinator.core.commands import Observation, ProvedBatch, Submission
from coordinator.core.config import CoreConfig
from coordinator.core.engine import Engine
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


def submissions(operations: int, *, agents: int, chain: int) -> list[Submission]:
    """Chains of `chain` operations, agent by agent in turn."""
    made = []
    for number in range(operations):
        digests = [sha256(f"{number}/{name}".encode()).digest() for name in range(7)]
        made.append(
            Submission(
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
        )
    return made


def run(operations: int, *, agents: int, chain: int, call: int, speculation: bool) -> dict[str, float]:
    """Everything through the engine; returns seconds by phase."""
    config = CoreConfig(
        enabled=speculation,
        max_depth=20,
        max_parallel_branches=1 << 20,
        max_state_snapshots=1 << 30,
        max_pending_operations=1 << 30,
        queue_size=1 << 30,
        max_log_rows=20,
        batch_size=4_096,
        stake_max_lamports=1 << 50,
    )
    engine = Engine(CoreState(), config)
    engine.set_workers(["w0"])
    now_ms = 1_700_000_000_000
    for number in range(agents):
        engine.register_agent(
            f"agent-{number}",
            agent_key=bytes(32),
            token_hash=bytes(32),
            deposit_lamports=1 << 45,
            now_ms=now_ms,
        )
    items = submissions(operations, agents=agents, chain=chain)
    seconds = dict.fromkeys(("submit", "plan", "start", "prove", "confirm"), 0.0)
    gc.collect()
    gc.freeze()

    def timed(phase: str, start_s: float) -> None:
        seconds[phase] += time.process_time() - start_s

    slot = 0
    for first in range(0, operations, call):
        now_ms += 10
        at = time.process_time()
        engine.submit(items[first : first + call], now_ms=now_ms)
        timed("submit", at)
        view = PlannerView(state=engine.state, config=config, idle_workers=["w0"], worker_ids=["w0"])
        while True:
            at = time.process_time()
            plans = plan(view, now_ms=now_ms)
            timed("plan", at)
            if not plans:
                break
            for one in plans:
                at = time.process_time()
                batch_id = engine.start_batch(one, now_ms=now_ms)
                timed("start", at)
                at = time.process_time()
                engine.batch_proved(batch_id, PROVED, now_ms=now_ms)
                timed("prove", at)
                at = time.process_time()
                due = engine.batch_submitting(batch_id, slot=slot, now_ms=now_ms)
                seen = Observation(transaction=due.transaction, status=TransactionStatus.CONFIRMED, slot=slot)
                engine.chain_observed([seen], slot=slot, now_ms=now_ms)
                timed("confirm", at)
                slot += 6
        engine.take_events()
    assert engine.state.totals.confirmed == operations, engine.state.counts
    return seconds


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
