from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from coordinator.replay.outputs import MIN_OUTPUT_BYTES, lying_output, task_output, true_outputs
from coordinator.replay.workflow import load_workflow

EXAMPLE = Path(__file__).resolve().parents[3] / "coordinator" / "examples" / "document-intake.json"

OUTPUTS = st.lists(st.binary(max_size=40), max_size=4)


@given(st.text(min_size=1, max_size=20), OUTPUTS)
def test_an_output_follows_from_the_task_and_its_parents_alone(task_id: str, parents: list[bytes]) -> None:
    output = task_output(task_id, parents)
    assert output == task_output(task_id, list(parents))
    assert MIN_OUTPUT_BYTES <= len(output) <= MIN_OUTPUT_BYTES + 255


@given(st.text(min_size=1, max_size=20), OUTPUTS, OUTPUTS)
def test_other_parents_outputs_give_another_output(
    task_id: str, one: list[bytes], other: list[bytes]
) -> None:
    assert (task_output(task_id, one) == task_output(task_id, other)) == (one == other)


@given(st.text(min_size=1, max_size=20), OUTPUTS)
def test_a_lie_is_never_the_task_output(task_id: str, parents: list[bytes]) -> None:
    assert lying_output(task_id, parents) != task_output(task_id, parents)


def test_true_outputs_follow_the_graph() -> None:
    workflow = load_workflow(EXAMPLE)
    outputs = true_outputs(workflow)
    assert set(outputs) == workflow.task_ids
    assert len(set(outputs.values())) == len(outputs)
    for task in workflow.tasks:
        assert outputs[task.task_id] == task_output(task.task_id, [outputs[p] for p in task.parents])
