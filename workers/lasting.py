"""Workers that outlive their coordinator on the hosts of a cluster: their names, who may stay, how a stuck one ends.

A lasting worker is a detached actor named after all that it was made with. So the next coordinator finds it by asking
for a worker of the same kind, and one of another kind (another backend, generator or release) has another name: it is
ended at the start, for it holds a slot.
"""

import contextlib
import os
import signal
import time
from collections.abc import Collection
from types import ModuleType
from typing import TYPE_CHECKING, Any

import psutil

from workers.code_version import code_version
from workers.messages import WorkerHome

if TYPE_CHECKING:
    from workers.process import WorkerSpec

_END_GRACE_S = 1.0


def name_of(spec: "WorkerSpec") -> str:
    """The actor's name: equal for workers that can stand for each other."""
    threads = spec.kernel_threads or "auto"
    return f"{spec.worker_id}/{spec.generator}/{spec.backend}/{threads}/{code_version()}"


def lasting_options(spec: "WorkerSpec", namespace: str | None) -> dict[str, object]:
    """What makes Ray keep the actor, or hand over the one that is there."""
    return {
        "name": name_of(spec),
        "namespace": namespace,
        "lifetime": "detached",
        "get_if_exists": True,
    }


def end_strangers(ray: ModuleType, namespace: str, wanted: Collection[str]) -> list[str]:
    """End the namespace's workers that are not wanted; returns their names. Blocks."""
    ended = []
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == namespace and actor["name"] not in wanted:
            with contextlib.suppress(ValueError):  # it went by itself
                ray.kill(ray.get_actor(actor["name"], namespace=namespace), no_restart=True)
                ended.append(actor["name"])
    return ended


def end_on_host(ray: ModuleType, home: WorkerHome, pid: int) -> None:
    """See to it that the process ends, from a task on its own host: Ray cannot end a stopped one."""
    place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(home.node_id, soft=False)
    task: Any = ray.remote(_end)
    task.options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(pid, home.started_s)


def mismatch(code: str) -> str:
    """What an operator reads when a host is refused."""
    return (
        f"its host runs other code ({code}) than this coordinator ({code_version()}): install the same version of "
        "agenc-prover, Python and Ray on all hosts"
    )


def _end(pid: int, started_s: float) -> None:
    """kill -9, unless it ends by itself or the number is another process's by now."""
    time.sleep(_END_GRACE_S)
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        if psutil.Process(pid).create_time() == started_s:
            os.kill(pid, signal.SIGKILL)
