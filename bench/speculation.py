"""What does speculation win, and up to which rollback rate? `python -m bench.speculation` (see --help).

Makespans in simulated time, with the real core and planner (what is modelled: `coordinator/core/what_if.py`): chains,
diamonds, fork-joins and recorded workflows, without and with speculation, by confirmation latency; then by the share of
executions whose result is wrong, where speculation is also forced against the policy's advice (its rule `risk` and the
circuit breaker taken out), which shows what the policy is worth and where speculation stops paying: on the clock, and
when every second of an execution in vain counts as a second lost.

`cold` is the first run on a new coordinator; `warm` the sixth, when the core has learned how operations follow one
another. Writes `speculation.json` and a plot.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

from bench.speculation_model import Bench, config, floor_s
from coordinator.cli.measure import write_results
from coordinator.core import speculation as rules
from coordinator.core.states import Denial
from coordinator.core.what_if import TaskSpec
from coordinator.replay.workflow import load_workflow

LATENCIES_S = (0.4, 1.0, 2.4, 6.0, 12.0, 30.0)
LENGTHS = (1, 2, 3, 5, 7, 10, 15, 20)
RATES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
WARM_RUNS = 6
#: Runs on one coordinator, one after another; the first are not counted: the policy is learning then.
LEARNING_RUNS, COUNTED_RUNS, SEEDS = 4, 8, 4
#: Recorded workflows are scaled so that their longest chain of run times takes this long.
WORKFLOW_CRITICAL_S = 10.0
#: Agents that a recorded workflow's tasks are dealt to; one may have 16 speculative branches.
AGENTS = 16
#: A run whose operations are more than these would take minutes here.
MAX_WORKFLOW_TASKS = 300


def task(*parents: int, runtime_s: float, agent: int = 0) -> TaskSpec:
    """A task of an agent."""
    return TaskSpec(parents=parents, runtime_ms=runtime_s * 1_000, agent_id=f"agent-{agent}")


def chain(length: int, *, runtime_s: float = 1.0) -> list[TaskSpec]:
    """Tasks that each build on the one before."""
    return [task(*([place - 1] if place else []), runtime_s=runtime_s) for place in range(length)]


def fork_join(width: int, *, runtime_s: float = 1.0) -> list[TaskSpec]:
    """One task, `width` that build on it, and one that builds on all of these."""
    forks = [task(0, runtime_s=runtime_s) for _ in range(width)]
    return [task(runtime_s=runtime_s), *forks, task(*range(1, width + 1), runtime_s=runtime_s)]


def diamonds(count: int, *, runtime_s: float = 1.0) -> list[TaskSpec]:
    """Fork-joins of two, one after another, each join the next one's fork."""
    tasks = [task(runtime_s=runtime_s)]
    for _ in range(count):
        top = len(tasks) - 1
        tasks += [task(top, runtime_s=runtime_s)] * 2
        tasks.append(task(top + 1, top + 2, runtime_s=runtime_s))
    return tasks


def recorded(folder: Path) -> Iterator[tuple[str, list[TaskSpec]]]:
    """The workflows of a folder, scaled, their tasks dealt to agents; none where there is no folder."""
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        workflow = load_workflow(path)
        if len(workflow.tasks) > MAX_WORKFLOW_TASKS:
            continue
        scale = WORKFLOW_CRITICAL_S / workflow.critical_path_s(time_scale=1.0)
        places = {each.task_id: place for place, each in enumerate(workflow.tasks)}
        yield (
            path.stem,
            [
                task(
                    *(places[parent] for parent in each.parents),
                    runtime_s=each.runtime_s * scale,
                    agent=place % AGENTS,
                )
                for place, each in enumerate(workflow.tasks)
            ],
        )


def compare(name: str, tasks: Sequence[TaskSpec], *, latency_s: float) -> dict[str, Any]:
    """One graph at one latency: without speculation, and with it, cold and warm."""
    without = Bench(config(latency_s=latency_s, speculate=False), latency_s=latency_s)
    slow_s = [without.run(tasks) for _ in range(2)][-1]
    model = Bench(config(latency_s=latency_s, speculate=True), latency_s=latency_s)
    runs_s = [model.run(tasks) for _ in range(WARM_RUNS)]
    least_s = floor_s(tasks, latency_s=latency_s)
    return {
        "graph": name,
        "tasks": len(tasks),
        "latency_s": latency_s,
        "without_s": round(slow_s, 2),
        "cold_s": round(runs_s[0], 2),
        "warm_s": round(runs_s[-1], 2),
        "floor_s": round(least_s, 2),
        "speedup": round(slow_s / runs_s[-1], 2),
        "cold_over_floor": round(runs_s[0] / least_s, 3),
        "warm_over_floor": round(runs_s[-1] / least_s, 3),
    }


def faulty(
    tasks: Sequence[TaskSpec], *, latency_s: float, rate: float, speculate: bool, forced: bool = False
) -> tuple[float, float]:
    """Mean seconds of a run once the policy has learned, where this share of the executions is wrong, and the mean
    seconds of executions in vain.
    """
    settings = config(latency_s=latency_s, speculate=speculate)
    kept = rules.RULES
    if forced:
        settings = replace(settings, breaker_min_finished=1 << 30)
        kept = tuple(rule for rule in kept if rule.denial is not Denial.RISK)
    times: list[float] = []
    executions = 0
    with mock.patch.object(rules, "RULES", kept):
        for seed in range(SEEDS):
            model = Bench(settings, latency_s=latency_s, rate=rate, seed=seed)
            for _ in range(LEARNING_RUNS):
                model.run(tasks)
            before = model.executions
            times += [model.run(tasks) for _ in range(COUNTED_RUNS)]
            executions += model.executions - before
    in_vain = executions / len(times) - len(tasks)
    return mean(times), in_vain * mean(each.runtime_ms for each in tasks) / 1_000


def by_rate(name: str, tasks: Sequence[TaskSpec], *, latency_s: float) -> list[dict[str, Any]]:
    """The three ways at each rate."""
    rows = []
    for rate in RATES:
        row: dict[str, Any] = {"graph": name, "latency_s": latency_s, "fault_rate": rate}
        for way, speculate, forced in (
            ("without", False, False),
            ("policy", True, False),
            ("forced", True, True),
        ):
            run_s, vain_s = faulty(tasks, latency_s=latency_s, rate=rate, speculate=speculate, forced=forced)
            row |= {f"{way}_s": round(run_s, 2), f"{way}_vain_s": round(vain_s, 2)}
        for way in ("policy", "forced"):
            row[f"{way}_speedup"] = round(row["without_s"] / row[f"{way}_s"], 2)
            vain_s = row[f"{way}_vain_s"] - row["without_vain_s"]
            row[f"{way}_gain_s"] = round(row["without_s"] - row[f"{way}_s"] - vain_s, 2)
        rows.append(row)
    return rows


def break_even(rows: Sequence[Mapping[str, Any]], figure: str, *, at: float) -> float | None:
    """The first rate, between two that were measured, at which a figure has fallen to `at`; None: at none of them."""
    for before, after in pairwise(rows):
        if before[figure] > at >= after[figure]:
            share = (before[figure] - at) / (before[figure] - after[figure])
            return round(
                float(before["fault_rate"] + share * (after["fault_rate"] - before["fault_rate"])), 3
            )
    return None


def ends(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Where each way stops paying."""
    return {
        "forced_by_the_clock": break_even(rows, "forced_speedup", at=1.0),
        "forced_with_work_in_vain": break_even(rows, "forced_gain_s", at=0.0),
        "policy_by_the_clock": break_even(rows, "policy_speedup", at=1.0),
        "policy_with_work_in_vain": break_even(rows, "policy_gain_s", at=0.0),
    }


def plot(cases: Sequence[Mapping[str, Any]], rates: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Speedup of chains by length and latency; speedup by rate, by policy and forced."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for latency_s in LATENCIES_S:
        line = [row for row in cases if row["graph"].startswith("chain-") and row["latency_s"] == latency_s]
        left.plot(
            [row["tasks"] for row in line], [row["speedup"] for row in line], "o-", label=f"{latency_s:g} s"
        )
    left.set(xlabel="chain length", ylabel="speedup", title="chains of 1 s tasks, by confirmation latency")
    left.legend()
    for graph, latency_s in dict.fromkeys((row["graph"], row["latency_s"]) for row in rates):
        line = [row for row in rates if (row["graph"], row["latency_s"]) == (graph, latency_s)]
        percent = [100 * row["fault_rate"] for row in line]
        (drawn,) = right.plot(
            percent, [row["policy_speedup"] for row in line], "o-", label=f"{graph}, {latency_s:g} s"
        )
        right.plot(percent, [row["forced_speedup"] for row in line], "--", color=drawn.get_color())
    right.axhline(1.0, color="black", linewidth=0.8)
    right.set(
        xlabel="wrong executions, %", ylabel="speedup", title="with faults: policy (—) and forced (- -)"
    )
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Sweep, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workflows", type=Path, default=Path("../shared/data/workflows"))
    parser.add_argument("--rates-only", action="store_true", help="leave the graphs without faults out")
    parser.add_argument("--workflows-only", action="store_true", help="the recorded workflows alone, printed")
    parser.add_argument("--plot", type=Path, default=Path("docs/plots/speculation.png"))
    options = parser.parse_args()
    graphs = [(f"chain-{length}", chain(length)) for length in LENGTHS]
    if options.workflows_only:
        graphs.clear()
    graphs += [("diamonds-3", diamonds(3)), ("fork-join-10", fork_join(10)), *recorded(options.workflows)]
    cases = []
    for name, tasks in [] if options.rates_only else graphs:
        for latency_s in LATENCIES_S:
            row = compare(name, tasks, latency_s=latency_s)
            print(*row.values(), flush=True)
            cases.append(row)
    if options.workflows_only:
        return
    rates: list[dict[str, Any]] = []
    stops: dict[str, dict[str, float | None]] = {}
    for name, tasks, latency_s in (
        ("chain-10", chain(10), 2.4),
        ("chain-10", chain(10), 12.0),
        ("fork-join-10", fork_join(10), 12.0),
    ):
        rows = by_rate(name, tasks, latency_s=latency_s)
        for row in rows:
            print(*row.values(), flush=True)
        rates += rows
        stops[f"{name}, {latency_s:g} s"] = ends(rows)
    print("speculation stops paying at", stops)
    if options.rates_only:
        return
    plot(cases, rates, options.plot)
    print(write_results("speculation", {"cases": cases, "rates": rates, "break_even_rates": stops}))


if __name__ == "__main__":
    main()
