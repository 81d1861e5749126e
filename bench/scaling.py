"""How far does it scale, and what breaks first?

    fleet        the real engine and planner against so many workers and operations a second, in simulated time: how
                 many seconds of one core a simulated second takes, by step; above 1 the coordinator cannot keep up
    dispatch     operations a second that are planned and given to workers, with a long queue
    autoscaler   the policy on an hour of bursts: workers over time, changes of direction, the longest wait
    workers      real proofs on a real Ray by the number of workers: throughput, efficiency, what Ray adds to a batch

`make bench-scaling` runs all and writes bench/results/scaling.json and docs/plots/autoscaler.png.
"""

import argparse
import asyncio
import heapq
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from bench.coordinator_core import CONFIG, NOW_MS, PROVED, new_engine, submissions
from coordinator.core.commands import Observation
from coordinator.core.cost import Line, padded_rows
from coordinator.core.planner import PlannerView, plan
from coordinator.core.scaling import Load, Memory, ScalingConfig, decide
from coordinator.core.states import TransactionStatus
from workers.messages import BatchRequest, WorkerState
from workers.pool import PoolConfig, ProofPool
from workers.ray_runtime import RayRuntime, RaySettings
from workers.statement import OperationWitness

RESULTS = Path(__file__).resolve().parent / "results"
PLOT = Path(__file__).resolve().parent.parent / "docs" / "plots" / "autoscaler.png"

T = TypeVar("T")

STEP_MS = 20
SETTLE_MS = 2_400
#: A GPU's proof: a fixed part, and a tenth of the CPU's time a unit.
WORKER = Line(60.0, 9e-5)


class Fleet:
    """Simulated workers and chain around the real engine; each step's processor time is counted by what it did."""

    def __init__(self, *, workers: int, per_s: int) -> None:
        config = replace(CONFIG, batch_size=None, max_log_rows=17, max_open_operations=1 << 30)
        self.engine = new_engine(config, agents=256)
        self.worker_ids = [f"w-{number}" for number in range(1, workers + 1)]
        self.engine.set_workers(self.worker_ids)
        self.per_s = per_s
        self.now_ms = NOW_MS
        self.cpu_s: dict[str, float] = {}
        self.peak_queued = self.confirmed = 0
        self._busy: set[str] = set()
        self.due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = self._submitted = 0

    def run(self, seconds: float) -> dict[str, Any]:
        """So many simulated seconds; the figures."""
        began_ms = self.now_ms
        while self.now_ms < began_ms + 1_000 * seconds:
            self._step()
        return {
            "workers": len(self.worker_ids),
            "operations_per_s": self.per_s,
            "simulated_s": seconds,
            "cpu_s_per_simulated_s": {name: round(s / seconds, 3) for name, s in self.cpu_s.items()},
            "cores": round(sum(self.cpu_s.values()) / seconds, 3),
            "sustainable_per_s": round(self.per_s * seconds / sum(self.cpu_s.values())),
            "batches_per_s": round(self.engine.state.totals.batches_started / seconds, 1),
            "peak_queued": self.peak_queued,
            "confirmed": self.confirmed,
        }

    def _step(self) -> None:
        count = self.per_s * STEP_MS // 1_000
        items = list(submissions(self._submitted, self._submitted + count, agents=256, chain=4))
        self._submitted += count
        engine = self.engine
        self._timed("admit", lambda: engine.submit(items, now_ms=self.now_ms))
        self.peak_queued = max(self.peak_queued, engine.state.queued)
        self.plan_step()
        self.now_ms += STEP_MS
        while self.due and self.due[0][0] <= self.now_ms:
            heapq.heappop(self.due)[2]()
        self.submit_due()
        engine.take_events()

    def plan_step(self) -> None:
        """Give the idle workers what the planner forms for them."""
        engine = self.engine
        view = PlannerView(
            state=engine.state,
            config=engine.config,
            idle_workers=[one for one in self.worker_ids if one not in self._busy],
            worker_ids=self.worker_ids,
        )
        for one in self._timed("plan", lambda: plan(view, now_ms=self.now_ms)):
            batch_id = self._timed("start", lambda one=one: engine.start_batch(one, now_ms=self.now_ms))
            self._busy.add(one.worker_id)
            took_ms = WORKER.ms(padded_rows(engine.state.batches[batch_id].operation_rows))
            self._later(
                took_ms, lambda batch_id=batch_id, worker=one.worker_id: self._proved(batch_id, worker)
            )

    def _proved(self, batch_id: str, worker_id: str) -> None:
        batch = self.engine.state.batches[batch_id]
        self._busy.discard(worker_id)
        rows = padded_rows(batch.operation_rows)
        result = replace_result(worker_id, rows)
        self._timed("prove", lambda: self.engine.batch_proved(batch_id, result, now_ms=self.now_ms))

    def submit_due(self) -> None:
        """Send what is due to the chain."""
        engine = self.engine
        for batch_id in self._timed("submit", engine.submissions_due):
            due = self._timed(
                "submit",
                lambda batch_id=batch_id: engine.batch_submitting(batch_id, slot=0, now_ms=self.now_ms),
            )
            self._later(SETTLE_MS, lambda transaction=due.transaction: self._confirm(transaction))

    def _confirm(self, transaction: str) -> None:
        seen = Observation(transaction=transaction, status=TransactionStatus.CONFIRMED, slot=0)
        before = self.engine.state.totals.confirmed
        self._timed("confirm", lambda: self.engine.chain_observed([seen], slot=0, now_ms=self.now_ms))
        self.confirmed += self.engine.state.totals.confirmed - before

    def _later(self, delay_ms: float, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self.due, (self.now_ms + round(delay_ms), self._order, happen))

    def _timed(self, name: str, call: Callable[[], T]) -> T:
        began_s = time.process_time()
        try:
            return call()
        finally:
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - began_s


def dispatch(queued: int, *, workers: int) -> dict[str, Any]:
    """Operations a second, planned and given to workers, with so many queued; proofs take no time."""
    fleet = Fleet(workers=workers, per_s=0)
    items = list(submissions(0, queued, agents=256, chain=1))
    fleet.engine.submit(items, now_ms=fleet.now_ms)
    fleet.engine.take_events()
    while fleet.engine.state.queued:
        fleet.plan_step()
        while fleet.due:
            heapq.heappop(fleet.due)[2]()
        fleet.submit_due()
        fleet.due.clear()
        fleet.engine.take_events()
    cpu_s = fleet.cpu_s["plan"] + fleet.cpu_s["start"]
    return {"queued": queued, "workers": workers, "operations_per_s": round(queued / cpu_s)}


def replace_result(worker_id: str, rows: int) -> Any:
    """A proof of so many rows, by the simulated worker's line."""
    import msgspec

    return msgspec.structs.replace(
        PROVED, worker_id=worker_id, backend="model", rows=rows, prove_ms=round(WORKER.ms(rows))
    )


@dataclass(frozen=True, kw_only=True)
class Bursts:
    """An hour: what comes a second in batches, in and between bursts; a batch takes so long."""

    usual: float = 0.4
    burst: float = 2.0
    burst_s: int = 20
    batch_s: float = 2.0


def autoscaler(
    seed: int, config: ScalingConfig, bursts: Bursts
) -> tuple[dict[str, Any], list[tuple[int, float, int]]]:
    """The figures, and (second, batches waiting, workers) for the plot."""
    chance, memory, workers = Random(seed), Memory(), 2
    queue = arrived = longest_s = 0.0
    begin, end = 30, 30 + bursts.burst_s
    steps: list[int] = []
    track: list[tuple[int, float, int]] = []
    for second in range(3_600):
        if second >= end:
            begin = second + chance.randrange(40, 120)
            end = begin + bursts.burst_s
        came = (bursts.burst if begin <= second < end else bursts.usual) * chance.uniform(0.5, 1.5)
        queue, arrived = max(0.0, queue + came - workers / bursts.batch_s), arrived + came
        longest_s = max(longest_s, queue * bursts.batch_s / workers)
        if second % 5 == 0:
            load = Load(
                rows=round(1_000 * (queue + workers / bursts.batch_s)),
                arrived_rows=round(1_000 * arrived),
                batch_rows=1_000,
                batch_p95_ms=1_000 * bursts.batch_s,
            )
            decision, memory = decide(memory, load, config, current=workers, now_ms=1_000.0 * second)
            if decision.target != workers:
                steps.append(decision.target - workers)
            workers = decision.target
        track.append((second, queue, workers))
    figures = {
        "steps": len(steps),
        "direction_changes": sum((one > 0) != (other > 0) for one, other in pairwise(steps)),
        "longest_wait_s": round(longest_s, 1),
        "mean_workers": round(sum(workers for _, _, workers in track) / len(track), 2),
        "most_workers": max(workers for _, _, workers in track),
    }
    return figures, track


def plot(track: list[tuple[int, float, int]], path: Path) -> None:
    """Workers, and batches that wait, over the first quarter of an hour."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    shown = track[:900]
    seconds = [second for second, _, _ in shown]
    axes.fill_between(seconds, [queue for _, queue, _ in shown], alpha=0.3, label="batches that wait")
    axes.step(seconds, [workers for _, _, workers in shown], where="post", label="workers")
    axes.set_xlabel("seconds")
    axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


async def real_workers(count: int, *, batches: int, operations: int) -> dict[str, Any]:
    """Proofs by so many real workers of one kernel thread each; the first of each is not counted."""
    runtime = RayRuntime(RaySettings(slots=count))
    pool = ProofPool(PoolConfig(desired=count, backend="cpu", kernel_threads=1), runtime=runtime)
    await pool.start()
    try:
        await pool.wait_ready(count, timeout_s=300)
        names = [one.worker_id for one in pool.workers() if one.state is WorkerState.IDLE]
        await asyncio.gather(*(pool.prove(name, _request(f"warm-{name}", operations), 300) for name in names))
        began_s = time.perf_counter()
        overheads: list[float] = []

        async def work(name: str) -> None:
            for at in range(batches // count):
                request = _request(f"{name}-{at}", operations)
                asked_s = time.perf_counter()
                result = await pool.prove(name, request, 300)
                overheads.append((time.perf_counter() - asked_s) * 1_000 - result.prove_ms)

        await asyncio.gather(*map(work, names))
        took_s = time.perf_counter() - began_s
    finally:
        await pool.stop()
    made = batches // count * count
    return {
        "workers": count,
        "batches": made,
        "operations_per_s": round(made * operations / took_s, 1),
        "batch_ms": round(1_000 * took_s * count / made, 1),
        "ray_overhead_ms": round(sorted(overheads)[len(overheads) // 2], 1),
    }


def _request(batch_id: str, count: int) -> BatchRequest:
    operations = tuple(
        OperationWitness(
            task_id=f"{batch_id}/{at}".encode(),
            agent_id=b"agent",
            output=bytes(64),
            salt=bytes(24),
            secret=bytes(24),
        )
        for at in range(count)
    )
    return BatchRequest(
        batch_id=batch_id, domain=b"local:bench", operations=operations, parameters="standard"
    )


def main() -> None:
    """Runs the parts that are named, and writes what they say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["fleet", "dispatch", "autoscaler", "workers"])
    parser.add_argument("--seconds", type=float, default=5.0, help="simulated, of each fleet")
    parser.add_argument("--batches", type=int, default=16, help="real ones, for each number of workers")
    arguments = parser.parse_args()
    path = RESULTS / "scaling.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    stamp = {"at": datetime.now(UTC).isoformat(timespec="minutes"), "load": round(os.getloadavg()[0], 1)}
    if "fleet" in arguments.parts:
        shapes = ((10, 1_000), (100, 10_000), (1_000, 10_000), (1_000, 100_000))
        runs = [Fleet(workers=workers, per_s=per_s).run(arguments.seconds) for workers, per_s in shapes]
        results["fleet"] = stamp | {"runs": runs}
    if "dispatch" in arguments.parts:
        results["dispatch"] = stamp | {"runs": [dispatch(100_000, workers=count) for count in (2, 16, 128)]}
    if "autoscaler" in arguments.parts:
        config = ScalingConfig(max_workers=16)
        runs = [autoscaler(seed, config, Bursts())[0] for seed in range(5)]
        plot(autoscaler(0, config, Bursts())[1], PLOT)
        results["autoscaler"] = stamp | {"policy": asdict(config), "runs": runs}
    if "workers" in arguments.parts:
        counts = [count for count in (1, 2, 4, 8, 16) if count <= (os.cpu_count() or 1)]
        made = [
            asyncio.run(real_workers(count, batches=arguments.batches, operations=512)) for count in counts
        ]
        for one in made:
            one["efficiency"] = round(
                one["operations_per_s"] / made[0]["operations_per_s"] / one["workers"], 2
            )
        results["workers"] = stamp | {"runs": made}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({name: results[name] for name in arguments.parts}, indent=2))


if __name__ == "__main__":
    main()
