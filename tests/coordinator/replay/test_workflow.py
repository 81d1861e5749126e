import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.replay.workflow import MAX_ID_BYTES, Workflow, WorkflowError, load_workflow, parse_workflow

EXAMPLE = Path(str(resources.files("coordinator") / "examples" / "document-intake.json"))


def document(parents: dict[str, list[str]], *, runtime_s: float = 1.5) -> dict[str, Any]:
    """A WfFormat document of tasks and their parents."""
    return {
        "name": "w",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {
                        "name": task,
                        "id": task,
                        "parents": ends,
                        "children": [child for child, others in parents.items() if task in others],
                    }
                    for task, ends in parents.items()
                ]
            },
            "execution": {
                "makespanInSeconds": 1.0,
                "executedAt": "2026-01-01T00:00:00Z",
                "tasks": [{"id": task, "runtimeInSeconds": runtime_s} for task in parents],
            },
        },
    }


def parse(body: dict[str, Any]) -> Workflow:
    return parse_workflow(json.dumps(body).encode())


def test_the_shipped_example_is_two_dozen_tasks_and_more_than_six_deep() -> None:
    workflow = load_workflow(EXAMPLE)
    assert len(workflow.tasks) == 25
    assert workflow.depth == 11
    assert workflow.critical_path_s(time_scale=1.0) == pytest.approx(3.59)


def test_every_shared_workflow_loads_with_its_known_shape(shared_dir: Path) -> None:
    shapes = {
        path.name: (len(workflow.tasks), workflow.depth)
        for path in sorted((shared_dir / "data" / "workflows").glob("*.json"))
        for workflow in [load_workflow(path)]
    }
    assert shapes["viralrecon-dirt02-001.json"] == (203, 18)
    assert shapes["helloworld-chain-5-chameleon.json"] == (5, 5)
    assert len(shapes) == 8


def test_tasks_stand_after_their_parents_whatever_the_order_of_the_file() -> None:
    workflow = parse(document({"c": ["a", "b"], "b": ["a"], "a": []}))
    assert [task.task_id for task in workflow.tasks] == ["a", "b", "c"]
    assert workflow.tasks[2].parents == ("a", "b")


@given(st.lists(st.integers(min_value=0, max_value=2**30), min_size=1, max_size=30))
def test_any_acyclic_graph_is_ordered_and_its_critical_path_bounds_every_chain(seeds: list[int]) -> None:
    parents = {f"t{i}": [f"t{j}" for j in range(i) if seed >> j & 1] for i, seed in enumerate(seeds)}
    workflow = parse(document(parents, runtime_s=2.0))
    seen: set[str] = set()
    for task in workflow.tasks:
        assert set(task.parents) <= seen
        seen.add(task.task_id)
    assert workflow.critical_path_s(time_scale=0.5) == pytest.approx(float(workflow.depth))
    roots = frozenset(task.task_id for task in workflow.tasks if not task.parents)
    assert workflow.descendants(roots) == workflow.task_ids - roots


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one place in the document; `value` None removes it."""

    def change(body: dict[str, Any]) -> None:
        *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        place: Any = body
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


SPEC = "workflow/specification/tasks"
RAN = "workflow/execution/tasks"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schemaVersion", "1.4"), "schemaVersion"),
        (_set("name", ""), "name"),
        (_set("workflow/specification", None), "specification"),
        (_set("workflow/execution", None), "execution is absent"),
        (_set(SPEC, []), "tasks"),
        (_set(f"{SPEC}/0/id", 3), "id"),
        (_set(f"{SPEC}/0/parents", None), "parents"),
        (_set(f"{SPEC}/0/id", "x" * (MAX_ID_BYTES + 1)), "longer than"),
        (_set(f"{SPEC}/1/id", "a"), "there twice"),
        (_set(f"{SPEC}/1/parents", ["a", "a"]), "names a parent twice"),
        (_set(f"{SPEC}/0/parents", ["z"]), "unknown parent 'z'"),
        (_set(f"{SPEC}/1/parents", []), "does not name it as parent"),
        (_set(f"{SPEC}/0/children", ["b", "c"]), "does not name it as parent"),
        (_set(f"{SPEC}/2/inputFiles", [""]), "inputFiles"),
        (_set("workflow/specification/files", [{"id": "f", "sizeInBytes": -1}]), "sizeInBytes"),
        (_set("workflow/specification/files", [{"id": "f", "sizeInBytes": 1}] * 2), "there twice"),
        (_set(f"{RAN}/0/id", "z"), "unknown task 'z'"),
        (_set(f"{RAN}/0/id", "b"), "there twice"),
        (_set(f"{RAN}/0", None), "no run time"),
        (_set(f"{RAN}/0/runtimeInSeconds", -1), "out of range"),
        (_set(f"{RAN}/0/runtimeInSeconds", 1e300), "out of range"),
        (_set(f"{RAN}/0/runtimeInSeconds", "1"), "runtimeInSeconds"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    body = document({"a": [], "b": ["a"], "c": ["b"]})
    change(body)
    with pytest.raises(WorkflowError, match=message):
        parse(body)


def test_a_cycle_is_refused() -> None:
    with pytest.raises(WorkflowError, match="cycle"):
        parse(document({"root": [], "a": ["root", "b"], "b": ["a"]}))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"name": NaN}'])
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(WorkflowError, match="not WfFormat"):
        parse_workflow(data)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=r"absent\.json: No such file"):
        load_workflow(tmp_path / "absent.json")
    with pytest.raises(WorkflowError, match="directory"):
        load_workflow(tmp_path)


def test_an_unknown_file_of_a_task_is_refused_where_files_are_listed() -> None:
    body = document({"a": []})
    body["workflow"]["specification"]["files"] = [{"id": "f", "sizeInBytes": 1}]
    body["workflow"]["specification"]["tasks"][0]["outputFiles"] = ["f", "g"]
    with pytest.raises(WorkflowError, match="unknown file 'g'"):
        parse(body)
