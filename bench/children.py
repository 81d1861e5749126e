"""A command in a process of its own: what it printed, what it cost the processor, how much memory it took."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_S = 0.02


@dataclass(frozen=True)
class Outcome:
    """`lines` are the JSON objects on standard output. `peak_bytes` is 0 where the system does not tell it."""

    lines: list[dict[str, Any]]
    cpu_s: float
    peak_bytes: int


def run(command: Sequence[str], *, environment: Mapping[str, str]) -> Outcome:
    """Run it to its end.

    The peak is the process's own high-water mark, read while it runs: what `wait4` tells of a child counts
    the memory of the parent that started it.

    Raises:
        RuntimeError: it failed; the message is the end of its standard error.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            list(command), env=os.environ | dict(environment), stdout=out, stderr=err, text=True
        )
        peak, done = [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
        watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            done.set()
            watcher.join()
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {err.read()[-500:]}")
        lines = [json.loads(line) for line in out if line.strip()]
    return Outcome(lines, usage.ru_utime + usage.ru_stime, peak[0])


def _watch(pid: int, peak: list[int], done: threading.Event) -> None:
    status = Path(f"/proc/{pid}/status")
    while not done.wait(_POLL_S):
        try:
            text = status.read_text()
        except OSError:
            return  # ended, or a system without /proc
        for line in text.splitlines():
            if line.startswith("VmHWM:"):
                peak[0] = max(peak[0], 1024 * int(line.split()[1]))
