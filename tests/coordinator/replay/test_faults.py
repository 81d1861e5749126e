import pytest

from coordinator.chain.faults import FaultPlan
from coordinator.replay.faults import FaultsError, plan_faults
from coordinator.replay.names import api_task_id
from coordinator.replay.outputs import true_outputs
from coordinator.replay.workflow import Task, Workflow
from workers.statement import constraint_hash

ODD = "step 2/b"
WORKFLOW = Workflow("w", (Task("a", "a", (), 1.0), Task(ODD, "b", ("a",), 1.0)))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["lie@op:c"], "'c', which is not in the workflow"),
        (["reject@op:A"], "'A', which is not in the workflow"),
        (["lie@op:"], "missing"),
        (["lie@op:a", "reject@op:a"], "two faults"),
        (["reorg@slot:1"], "N:DEPTH"),
        (["kill-worker@batch:0"], "whole number"),
        (["outage@t:1:0"], "more than 0"),
        (["earthquake"], "is no fault"),
    ],
)
def test_faults_that_do_not_fit_are_refused_before_anything_starts(texts: list[str], words: str) -> None:
    with pytest.raises(FaultsError, match=words):
        plan_faults(texts, WORKFLOW)


def test_the_chain_is_told_the_true_constraint_of_a_lied_task_under_the_id_that_it_will_see() -> None:
    planned = plan_faults([f"lie@op:{ODD}", "reject@op:a", "reorg@slot:9:2"], WORKFLOW)
    assert planned.expectation.failing == {"a", ODD}
    file = planned.file_for(WORKFLOW)
    assert file is not None
    truth = constraint_hash(true_outputs(WORKFLOW)[ODD]).hex()
    assert file["tasks"] == {api_task_id(ODD): truth}
    texts = file["faults"]
    assert isinstance(texts, list)
    read = FaultPlan.parse(texts)
    assert read.lied_tasks == {api_task_id(ODD)}
    assert read.rejected_tasks == {"a"}
    assert len(read.reorgs) == 1


def test_without_faults_nothing_is_handed_over() -> None:
    assert plan_faults([], WORKFLOW).file_for(WORKFLOW) is None
