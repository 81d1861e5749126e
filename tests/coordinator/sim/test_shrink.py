"""A failing run becomes a small one that fails the same way, and says how to run it again."""

import re
import shlex
from typing import Any

import pytest

from coordinator.cli.main import invoke
from coordinator.cli.simulate import command_of, steps_text
from coordinator.core import fold, fold_ends
from coordinator.core.events import OperationFailed
from coordinator.sim.faults import ALL, Fault, Faults
from coordinator.sim.plan import Plan
from coordinator.sim.run import run
from coordinator.sim.shrink import kind_of, shrink

#: Only the first makes operations fail.
SOME = Faults(
    {
        Fault.WRONG_OUTPUT: 0.2,
        Fault.STAKE_MOVES: 0.2,
        Fault.MALFORMED: 0.1,
        Fault.SLOW_PROOF: 0.1,
        Fault.REPLAY: 0.1,
        Fault.LOST_ANSWER: 0.1,
    }
)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed operation costs its agent a lamport more than the slash."""
    whole = fold_ends.fold_failed

    def costly(state: Any, event: Any) -> None:
        payer = state.live[event.operation_id].bonded_by
        whole(state, event)
        state.agents[payer].free_lamports -= 1

    monkeypatch.setitem(fold._HANDLERS, OperationFailed, costly)


@pytest.mark.usefixtures("broken")
def test_a_failing_run_shrinks_to_what_it_needs() -> None:
    failing = run(Plan(seed=4, operations=60, faults=SOME))
    assert failing.violation is not None
    small = shrink(failing, max_runs=25)
    assert small.violation is not None
    assert kind_of(small.violation) == kind_of(failing.violation)
    assert small.plan.faults.kinds == (Fault.WRONG_OUTPUT,)
    assert small.plan.steps is not None
    assert len(small.plan.steps) < failing.steps / 2
    again = run(small.plan)
    assert (again.violation, again.digest) == (small.violation, small.digest)


@pytest.mark.usefixtures("broken")
def test_a_failing_run_prints_its_seed_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", "--seed", "4", "--operations", "60"]
    assert invoke([*arguments, "--no-shrink"]) == 1
    complaint = capsys.readouterr().err
    assert "agenc simulate --seed 4 --operations 60 --faults all" in complaint
    assert "invariant stake_conservation" in complaint.splitlines()[-1]


def test_a_command_names_steps_and_faults() -> None:
    faults = ALL.only(ALL.kinds[:2])
    outcome = run(Plan(seed=1, operations=9, faults=faults, steps=(1, 2, 3, 7)))
    words = shlex.split(command_of(outcome))
    assert words[words.index("--steps") + 1] == "1-3,7"
    assert words[words.index("--faults") + 1] == "worker_death,worker_stall"
    assert outcome.operations <= 9


def test_steps_are_written_short() -> None:
    assert steps_text((0, 1, 2, 5, 8, 9)) == "0-2,5,8-9"
    assert steps_text(()) == ""


@pytest.mark.parametrize("steps", ["a", "1-", "3-x", "-", "1,,2", "99999999999"])
def test_steps_that_cannot_be_read_are_refused(steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["simulate", "--seed", "1", "--operations", "1", f"--steps={steps}"]) == 2
    assert re.match(r"agenc: --steps \S*: ", capsys.readouterr().err)
