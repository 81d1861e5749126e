"""From a workflow's names to ids that the API takes: readable, unique, its own where they fit."""

import re
import secrets
from hashlib import sha256

from coordinator.replay.workflow import Task
from coordinator.submission import ID_PATTERN

MAX_READABLE_ID = 100
MAX_TYPE = 64
MAX_READABLE_OPERATION = 48


def api_task_id(task_id: str, *, suffix: str = "") -> str:
    """The task's id as the API takes it: its own where that fits, else a readable, unique stand-in."""
    if not suffix and re.match(ID_PATTERN, task_id):
        return task_id
    readable = re.sub(r"[^A-Za-z0-9._:@+=~-]", "_", task_id)[:MAX_READABLE_ID].lstrip(".:@+=~-")
    return f"{readable or 'task'}~{sha256(task_id.encode()).hexdigest()[:8]}{suffix}"


def operation_type(task_name: str) -> str:
    """The kind of a task: the last part of its dotted name, without what a label may not hold."""
    last = task_name.rpartition(".")[2] or task_name
    return re.sub(r"[^A-Za-z0-9_-]", "_", last)[:MAX_TYPE].lstrip("-") or "task"


def fresh_operation_id(task: Task, *, attempt: int) -> str:
    """A fresh id for every try, readable in the logs."""
    readable = (
        re.sub(r"[^A-Za-z0-9_-]", "_", task.name.rpartition(".")[2])[:MAX_READABLE_OPERATION].lstrip("-")
        or "task"
    )
    return f"{readable}-{attempt + 1}-{secrets.token_hex(6)}"
