"""Runs of ever new seeds until told to stop, on all cores, and what they covered together."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context

from coordinator.sim.coverage import Coverage
from coordinator.sim.faults import Faults
from coordinator.sim.plan import Outcome, Plan
from coordinator.sim.run import run


@dataclass
class Report:
    """What all the runs were together."""

    runs: int = 0
    operations: int = 0
    events: int = 0
    virtual_s: float = 0.0
    coverage: Coverage = field(default_factory=Coverage)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Counts a run in."""
        self.runs += 1
        self.operations += outcome.operations
        self.events += outcome.events
        self.virtual_s += outcome.virtual_s
        self.coverage.merge(outcome.coverage)
        if outcome.violation is not None:
            self.failures.append(outcome)


def soak(
    *,
    faults: Faults,
    operations: int,
    minutes: float | None,
    first_seed: int | None = None,
    processes: int | None = None,
    max_failures: int = 3,
    tell: Callable[[Report], None],
) -> Report:
    """Runs until the minutes are over, Ctrl-C, or so many runs failed. `tell` hears of every run.

    Seeds count up from `first_seed`; from a random one where none is given.
    """
    seed = random.SystemRandom().randrange(1 << 32) if first_seed is None else first_seed
    plans = (Plan(seed=number, operations=operations, faults=faults) for number in count(seed))
    deadline_s = None if minutes is None else time.monotonic() + minutes * 60
    report = Report()
    workers = processes or os.cpu_count() or 1
    # Spawned, not forked: a run must not depend on what its parent had loaded or locked.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupt) as pool:
        running = {pool.submit(run, next(plans)) for _ in range(workers)}
        try:
            for outcome in _outcomes(
                running, pool, plans, lambda: _is_over(deadline_s, report, max_failures)
            ):
                report.add(outcome)
                tell(report)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
    return report


def _ignore_interrupt() -> None:
    """Ctrl-C goes to the whole group: only the parent acts on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_over(deadline_s: float | None, report: Report, max_failures: int) -> bool:
    return len(report.failures) >= max_failures or (deadline_s is not None and time.monotonic() > deadline_s)


def _outcomes(
    running: set[Future[Outcome]],
    pool: ProcessPoolExecutor,
    plans: Iterator[Plan],
    is_over: Callable[[], bool],
) -> Iterator[Outcome]:
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
            if not is_over():
                running.add(pool.submit(run, next(plans)))
