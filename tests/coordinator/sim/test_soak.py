"""Soaking: runs of new seeds in processes of their own, counted together."""

import pickle

import pytest

from coordinator.cli.main import invoke
from coordinator.sim.coverage import IMPOSSIBLE, POSSIBLE, Coverage, Topic
from coordinator.sim.faults import ALL, NONE
from coordinator.sim.plan import Plan
from coordinator.sim.run import run
from coordinator.sim.soak import Report


def test_plans_and_outcomes_pass_between_processes() -> None:
    plan = Plan(seed=3, operations=4, faults=ALL)
    assert pickle.loads(pickle.dumps(plan)) == plan
    outcome = run(Plan(seed=3, operations=4, faults=NONE))
    again = pickle.loads(pickle.dumps(outcome))
    assert (again.digest, again.coverage.counts) == (outcome.digest, outcome.coverage.counts)


def test_a_report_counts_runs_together() -> None:
    report = Report()
    for seed in (1, 2):
        report.add(run(Plan(seed=seed, operations=4, faults=NONE)))
    assert (report.runs, report.failures) == (2, [])
    assert report.operations >= 8
    assert report.coverage.counts[Topic.EVENT]["AgentRegistered"] == 10


def test_coverage_knows_what_never_occurred() -> None:
    coverage = Coverage()
    assert len(coverage.missing()) == sum(map(len, POSSIBLE.values())) - len(IMPOSSIBLE)
    for topic, names in POSSIBLE.items():
        for name in names:
            coverage.add(topic, name)
    assert coverage.missing() == []
    text = "\n".join(coverage.lines())
    assert all(reason in text for reason in IMPOSSIBLE.values())


@pytest.mark.long
def test_the_command_soaks_and_fails_without_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", "--soak", "--minutes", "0.01", "--operations", "20", "--processes", "1"]
    assert invoke(arguments) == 0
    assert "0 failed" in capsys.readouterr().out
    assert invoke([*arguments, "--require-coverage"]) == 1
    assert "never did" in capsys.readouterr().err
