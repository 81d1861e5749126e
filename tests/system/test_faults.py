"""Faults on demand: exactly the right tasks fail or roll back, the rest is confirmed, no lamport is lost."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.replay.board import Board
from coordinator.replay.faults import plan_faults
from coordinator.replay.report import RunResult
from coordinator.replay.runner import Replay, act
from coordinator.replay.workflow import Task, Workflow

pytestmark = [pytest.mark.xdist_group("system"), pytest.mark.timeout(240)]

#   a ─ b ─ c ─ d      e ─ f ─ g      h
SMALL = Workflow(
    "small",
    tuple(
        Task(name, name, parents, 0.2)
        for name, parents in (
            ("a", ()),
            ("e", ()),
            ("h", ()),
            ("b", ("a",)),
            ("f", ("e",)),
            ("c", ("b",)),
            ("g", ("f",)),
            ("d", ("c", "h")),
        )
    ),
)


class Silent:
    """A progress that nobody watches."""

    def phase(self, title: str, note: str, *, total: int) -> None: ...

    def tasks(self, board: Board) -> None: ...


def replay(folder: Path, *faults: str, speculation: bool = True, url: str | None = None) -> RunResult:
    """One run of the small workflow with these faults."""
    planned = Replay(
        workflow=SMALL,
        time_scale=1.0,
        modes=(speculation,),
        agents=3,
        faults=plan_faults(faults, SMALL),
        url=url,
        operator_token=None,
        folder=folder,
        keep_data=False,
    )
    return asyncio.run(act(planned, progress=Silent())).runs[0]


def outcomes(run: RunResult) -> dict[str, Any]:
    return {task_id: str(facts["outcome"]) for task_id, facts in run.tasks.items()}


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_lie_fails_alone_is_slashed_and_takes_its_descendants_with_it(tmp_path: Path) -> None:
    run = replay(tmp_path, "lie@op:b", "kill-worker@batch:1")
    assert run.complaints == ()
    ended = outcomes(run)
    assert ended["b"] == "failed"
    assert run.tasks["b"]["detail"] == "constraint_mismatch"
    assert {ended["c"], ended["d"]} <= {"rolled_back", "skipped"}
    assert all(ended[task] == "confirmed" for task in "aefgh")
    assert run.slashed_lamports in {100_000, 110_000}  # a tenth of the bond at depth 0 or 1
    assert run.stake_conserved
    assert all(run.invariants.values())
    receipts = {path.stem for path in run.receipts.iterdir()}
    assert receipts == set("aefgh")
    killed = [json.loads(path.read_text())["work"]["attempts"] for path in run.receipts.iterdir()]
    assert max(killed) >= 2, "the batch whose worker was killed was proved again"


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_refused_operation_fails_without_being_slashed(tmp_path: Path) -> None:
    run = replay(tmp_path, "reject@op:c", "reorg@slot:20:2")
    assert run.complaints == ()
    ended = outcomes(run)
    assert ended["c"] == "failed"
    assert run.tasks["c"]["detail"] == "chain_refused"
    assert ended["d"] in {"rolled_back", "skipped"}
    assert all(ended[task] == "confirmed" for task in "abefgh")
    assert run.slashed_lamports == 0


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_chain_that_is_slow_lossy_and_away_delays_and_changes_nothing(tmp_path: Path) -> None:
    run = replay(tmp_path, "drop@t:0:12", "outage@t:12:2", "delay@t:14:1")
    assert run.complaints == ()
    assert run.confirmed == len(SMALL.tasks)
    assert run.slashed_lamports == 0


@pytest.mark.usefixtures("nothing_left_behind")
def test_without_speculation_nothing_is_built_on_a_lie(tmp_path: Path) -> None:
    run = replay(tmp_path, "lie@op:b", speculation=False)
    assert run.complaints == ()
    ended = outcomes(run)
    assert (ended["b"], ended["c"], ended["d"]) == ("failed", "skipped", "skipped")
    assert run.rollbacks == {}
