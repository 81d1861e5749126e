"""What a simulated task computes: bytes that follow from its id and its parents' outputs, and nothing else.

So every replay of a workflow has the same outputs, a wrong one is known at sight, and executing a task again
is needed only when a parent's output changed.
"""

import hashlib
from collections.abc import Sequence

from coordinator.replay.workflow import Workflow

MIN_OUTPUT_BYTES = 40
_TAG = b"agenc-replay-output-v1"


def task_output(task_id: str, parent_outputs: Sequence[bytes]) -> bytes:
    """The task's output, 40 to 295 bytes; `parent_outputs` in the order of the task's parents."""
    digest = hashlib.sha256(_TAG)
    for part in (task_id.encode(), *parent_outputs):
        digest.update(len(part).to_bytes(8, "little") + part)
    seed = digest.digest()
    return hashlib.shake_256(seed).digest(MIN_OUTPUT_BYTES + seed[0])


def lying_output(task_id: str, parent_outputs: Sequence[bytes]) -> bytes:
    """An output that looks like the task's and is not: what a lying agent submits."""
    return task_output(task_id + "\x00lie", parent_outputs)


def true_outputs(workflow: Workflow) -> dict[str, bytes]:
    """Every task's output when nobody lies."""
    outputs: dict[str, bytes] = {}
    for task in workflow.tasks:
        outputs[task.task_id] = task_output(task.task_id, [outputs[parent] for parent in task.parents])
    return outputs
