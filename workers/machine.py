"""What this machine offers: the CPUs and the memory that this process may really use."""

import importlib.util
import os
from pathlib import Path

import psutil

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def usable_cpus() -> int:
    """CPUs in this process's affinity mask, where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def may_use_gpus(backend: str, *, embedded: bool) -> bool:
    """Whether workers of that backend compute on GPUs where there are any. `auto` does so on hosts of a cluster, which
    offer what they can use, and here if the library for it is installed."""
    if backend == "auto":
        return not embedded or importlib.util.find_spec("cupy") is not None
    return backend == "cuda"


def memory_bytes() -> int:
    """The machine's memory, or the container's where that is less."""
    limits = [int(psutil.virtual_memory().total)]
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such cgroup version here, or "max"
            continue
    return min(limits)
