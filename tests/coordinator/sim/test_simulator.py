"""The whole coordinator in simulated worlds: promises hold under every fault, and a seed tells one story."""

import hashlib
import os
import random
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from coordinator.sim.coverage import Topic
from coordinator.sim.faults import ALL, NONE, Fault, Faults
from coordinator.sim.plan import Outcome, Plan
from coordinator.sim.run import run

OPERATIONS = 350
FIXED_SEEDS = range(6)


def require_good(outcome: Outcome) -> None:
    last = "\n".join(outcome.last)
    assert outcome.violation is None, f"seed {outcome.plan.seed}: {outcome.violation}\n{last}"


@pytest.mark.parametrize("seed", FIXED_SEEDS)
def test_promises_hold_under_every_fault(seed: int) -> None:
    outcome = run(Plan(seed=seed, operations=OPERATIONS, faults=ALL))
    require_good(outcome)
    assert outcome.operations >= OPERATIONS
    assert len(outcome.coverage.counts[Topic.FAULT]) > 10


#: A few kinds, much more often than among all.
OFTEN = {
    "disk": {Fault.DISK_FULL: 0.06},
    "crashes": {Fault.CRASH: 0.05, Fault.TORN_WRITE: 0.7, Fault.SNAPSHOT: 0.1, Fault.DAMAGED_SNAPSHOT: 0.4},
    "clock": {Fault.CLOCK_JUMP: 0.05, Fault.CRASH: 0.03},
    "log": {Fault.DAMAGED_LOG: 0.03, Fault.REBUILD: 0.02},
    "chain": {
        Fault.CHAIN_DELAY: 0.03,
        Fault.CHAIN_DROP: 0.03,
        Fault.CHAIN_OUTAGE: 0.03,
        Fault.SHALLOW_REORG: 0.05,
        Fault.DEEP_REORG: 0.03,
    },
    "workers": {
        Fault.WORKER_DEATH: 0.2,
        Fault.WORKER_STALL: 0.05,
        Fault.SLOW_PROOF: 0.2,
        Fault.INVALID_PROOF: 0.2,
        Fault.LATE_RESULT: 0.2,
        Fault.DUPLICATE_RESULT: 0.2,
    },
}


@pytest.mark.parametrize("name", OFTEN)
def test_promises_hold_where_one_thing_fails_often(name: str) -> None:
    faults = Faults(OFTEN[name])
    outcome = run(Plan(seed=5, operations=80, faults=faults))
    require_good(outcome)
    assert outcome.coverage.counts[Topic.FAULT].total() >= 3


def test_promises_hold_for_a_fresh_seed() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"agenc simulate --seed {seed} --operations {OPERATIONS}")
    require_good(run(Plan(seed=seed, operations=OPERATIONS, faults=ALL)))


def test_where_nothing_goes_wrong_everything_is_confirmed() -> None:
    outcome = run(Plan(seed=1, operations=80, faults=NONE))
    require_good(outcome)
    counts = outcome.coverage.counts
    assert not counts[Topic.FAULT]
    assert not counts[Topic.ROLLBACK]
    assert not counts[Topic.FAILURE]


def test_a_seed_has_one_history_whatever_python_hashes_strings_to(tmp_path: Path) -> None:
    here = StringIO()
    outcome = run(Plan(seed=11, operations=60, faults=ALL), out=here)
    there = tmp_path / "history.jsonl"
    arguments = ["simulate", "--seed", "11", "--operations", "60", "--history", str(there)]
    said = subprocess.run(
        [sys.executable, "-m", "coordinator.cli.main", *arguments],
        env=os.environ | {"PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert there.read_text() == here.getvalue()
    assert said.splitlines()[-1] == outcome.digest == hashlib.sha256(there.read_bytes()).hexdigest()


def test_another_seed_has_another_history() -> None:
    digests = {run(Plan(seed=seed, operations=5, faults=NONE)).digest for seed in (1, 2)}
    assert len(digests) == 2


@pytest.mark.long
def test_promises_hold_for_many_seeds_and_everything_occurs() -> None:
    outcomes = [run(Plan(seed=seed, operations=400, faults=ALL)) for seed in range(1_000, 1_060)]
    for outcome in outcomes:
        require_good(outcome)
    coverage = outcomes[0].coverage
    for outcome in outcomes[1:]:
        coverage.merge(outcome.coverage)
    assert coverage.missing() == []
