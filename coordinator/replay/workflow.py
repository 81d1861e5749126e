"""WfFormat 1.5 (WfCommons): a task graph with recorded run times, loaded strictly and checked whole.

Source: WfCommons WfFormat, `wfcommons-schema.json` 1.5. What the schema requires is required here, and beyond
it what a replay rests on: unique ids, parents and children that agree, no cycle, and one recorded run time
for every task. Unknown members are let through, as the schema lets them. Every error names the place.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

MAX_FILE_BYTES = 64 * 2**20
MAX_TASKS = 100_000
MAX_ID_BYTES = 200
MAX_RUNTIME_S = 1e9


class WorkflowError(ValueError):
    """The file is not a workflow that can be replayed; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task: its parents' ids in the file's order and the run time it took when it was recorded."""

    task_id: str
    name: str
    parents: tuple[str, ...]
    runtime_s: float


@dataclass(frozen=True)
class Workflow:
    """A workflow; `tasks` stand in a topological order that keeps the file's order where it can."""

    name: str
    tasks: tuple[Task, ...]

    @property
    def task_ids(self) -> frozenset[str]:
        return frozenset(task.task_id for task in self.tasks)

    @property
    def depth(self) -> int:
        """Tasks on the longest chain of dependents."""
        return int(max(self._longest(lambda _: 1.0).values()))

    def critical_path_s(self, *, time_scale: float) -> float:
        """Seconds of the longest chain of scaled run times: no replay can be shorter."""
        return max(self._longest(lambda task: task.runtime_s * time_scale).values())

    def descendants(self, task_ids: frozenset[str]) -> frozenset[str]:
        """Every task that builds on one of `task_ids`, directly or not (one of them only if it does too)."""
        found: set[str] = set()
        for task in self.tasks:
            if any(parent in task_ids or parent in found for parent in task.parents):
                found.add(task.task_id)
        return frozenset(found)

    def _longest(self, weight: Any) -> dict[str, float]:
        longest: dict[str, float] = {}
        for task in self.tasks:
            longest[task.task_id] = weight(task) + max((longest[p] for p in task.parents), default=0.0)
        return longest


_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
_Size = Annotated[int, msgspec.Meta(ge=0)]


class _SpecTask(msgspec.Struct, rename="camel"):
    id: _NonEmpty
    name: _NonEmpty
    parents: list[str]
    children: list[str]
    input_files: list[_NonEmpty] = []
    output_files: list[_NonEmpty] = []


class _File(msgspec.Struct, rename="camel"):
    id: _NonEmpty
    size_in_bytes: _Size


class _Specification(msgspec.Struct, rename="camel"):
    tasks: Annotated[list[_SpecTask], msgspec.Meta(min_length=1, max_length=MAX_TASKS)]
    files: list[_File] = []


class _RanTask(msgspec.Struct, rename="camel"):
    id: _NonEmpty
    runtime_in_seconds: float


class _Execution(msgspec.Struct, rename="camel"):
    makespan_in_seconds: float
    executed_at: _NonEmpty
    tasks: Annotated[list[_RanTask], msgspec.Meta(min_length=1, max_length=MAX_TASKS)]


class _Body(msgspec.Struct, rename="camel"):
    specification: _Specification
    execution: _Execution | None = None


class _Document(msgspec.Struct, rename="camel"):
    name: _NonEmpty
    schema_version: Literal["1.5"]
    workflow: _Body


def load_workflow(path: Path) -> Workflow:
    """The workflow in a WfFormat 1.5 file.

    Raises:
        WorkflowError: the file cannot be read, is too large, or does not hold such a workflow.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise WorkflowError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"{path}: {error.strerror or error}") from None
    try:
        return parse_workflow(data)
    except WorkflowError as error:
        raise WorkflowError(f"{path}: {error}") from None


def parse_workflow(data: bytes) -> Workflow:
    """The workflow in the bytes of a WfFormat 1.5 document.

    Raises:
        WorkflowError: they do not hold one.
    """
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WorkflowError(f"not WfFormat 1.5: {error}") from None
    specification = document.workflow.specification
    if document.workflow.execution is None:
        raise WorkflowError("workflow.execution is absent: a replay needs the recorded run times")
    _check_graph(specification.tasks)
    _check_files(specification)
    runtimes = _runtimes(specification.tasks, document.workflow.execution.tasks)
    tasks = [
        Task(task_id=t.id, name=t.name, parents=tuple(t.parents), runtime_s=runtimes[t.id])
        for t in specification.tasks
    ]
    return Workflow(name=document.name, tasks=_topological(tasks))


def _check_graph(tasks: list[_SpecTask]) -> None:
    by_id: dict[str, _SpecTask] = {}
    for task in tasks:
        if len(task.id.encode()) > MAX_ID_BYTES:
            raise WorkflowError(f"task id {task.id[:40]}…: longer than {MAX_ID_BYTES} bytes")
        if task.id in by_id:
            raise WorkflowError(f"task {task.id}: the id is there twice")
        by_id[task.id] = task
    parents_of = {task.id: frozenset(task.parents) for task in tasks}
    children_of = {task.id: frozenset(task.children) for task in tasks}
    for task in tasks:
        _check_edges(task.id, "parent", task.parents, known=children_of, other="child")
        _check_edges(task.id, "child", task.children, known=parents_of, other="parent")


def _check_edges(
    task_id: str, kind: str, ends: list[str], *, known: dict[str, frozenset[str]], other: str
) -> None:
    if len(set(ends)) != len(ends):
        raise WorkflowError(f"task {task_id}: names a {kind} twice")
    for end in ends:
        if end not in known:
            raise WorkflowError(f"task {task_id}: unknown {kind} {end!r}")
        if task_id not in known[end]:
            raise WorkflowError(f"task {task_id}: has {kind} {end}, which does not name it as {other}")


def _check_files(specification: _Specification) -> None:
    if not specification.files:
        return
    known: set[str] = set()
    for file in specification.files:
        if file.id in known:
            raise WorkflowError(f"file {file.id}: the id is there twice")
        known.add(file.id)
    for task in specification.tasks:
        for name in (*task.input_files, *task.output_files):
            if name not in known:
                raise WorkflowError(f"task {task.id}: unknown file {name!r}")


def _runtimes(tasks: list[_SpecTask], ran: list[_RanTask]) -> dict[str, float]:
    known = {task.id for task in tasks}
    runtimes: dict[str, float] = {}
    for record in ran:
        if record.id not in known:
            raise WorkflowError(f"execution: unknown task {record.id!r}")
        if record.id in runtimes:
            raise WorkflowError(f"execution: task {record.id} is there twice")
        runtime_s = record.runtime_in_seconds
        if not (math.isfinite(runtime_s) and 0 <= runtime_s <= MAX_RUNTIME_S):
            raise WorkflowError(f"execution: task {record.id}: runtimeInSeconds {runtime_s} is out of range")
        runtimes[record.id] = runtime_s
    for task in tasks:
        if task.id not in runtimes:
            raise WorkflowError(f"task {task.id}: no run time is recorded")
    return runtimes


def _topological(tasks: list[Task]) -> tuple[Task, ...]:
    by_id = {task.task_id: task for task in tasks}
    waiting = {task.task_id: len(task.parents) for task in tasks}
    children: dict[str, list[str]] = {task.task_id: [] for task in tasks}
    for task in tasks:
        for parent in task.parents:
            children[parent].append(task.task_id)
    order = [task.task_id for task in tasks if not task.parents]
    for task_id in order:  # grows while it is walked: Kahn's algorithm
        for child in children[task_id]:
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    if len(order) < len(tasks):
        stuck = next(task.task_id for task in tasks if waiting[task.task_id])
        raise WorkflowError(f"task {stuck}: depends on itself through a cycle")
    return tuple(by_id[task_id] for task_id in order)
