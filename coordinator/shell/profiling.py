"""Profiles of the coordinator or of a proof worker, one at a time, kept as pprof until the next one.

py-spy samples from outside, native frames included, what runs on a CPU. Where it is not installed, or the system lets
nobody attach, a sampler inside the process takes its place (`workers.sampling`), and the profile's comments say so.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from coordinator import pprof
from coordinator.core.errors import CoreError, ErrorCode
from coordinator.logs import get_logger
from workers import sampling
from workers.messages import WorkerInfo, WorkerLost
from workers.sampling import Stack

COORDINATOR: Final = "coordinator"
PY_SPY, IN_PROCESS = "py-spy", "in-process"

_RATE_HZ: Final = 100
#: py-spy's own start and the reading of native symbols, after which it is given up.
_SLACK_S: Final = 60.0
#: More of py-spy's output than this is a defect.
_MAX_RAW_BYTES: Final = 64 * 2**20
_PR_SET_PTRACER: Final = 0x59616D61  # <linux/prctl.h>; "Yama"

_log = get_logger("profiling")


class Workers(Protocol):
    """What profiling needs of the pool."""

    @property
    def embedded(self) -> bool:
        """Whether the workers are processes of this machine."""

    def workers(self) -> list[WorkerInfo]:
        """Every worker with its process's id."""

    async def sample(self, worker_id: str, duration_s: float) -> dict[Stack, int]:
        """The stacks that a worker sampled in itself. Raises WorkerLost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile that runs, or ran. `task` gives the gzipped pprof bytes."""

    target: str
    duration_s: int
    started_ms: int
    sampler: str
    task: "asyncio.Task[bytes]"


class Profiler:
    """Takes one profile at a time; for one event loop."""

    def __init__(self, *, workers: Workers, clock_ms: Callable[[], int]) -> None:
        self._workers = workers
        self._clock_ms = clock_ms
        self._last: Profile | None = None

    def start(self, *, worker: str | None, duration_s: int) -> Profile:
        """Begin a profile of the coordinator, or of a worker by its name.

        Raises:
            CoreError: `profile_running`, or `not_found` (no such worker, or it has no process on this machine now).
        """
        if self._last is not None and not self._last.task.done():
            raise CoreError(ErrorCode.PROFILE_RUNNING, f"a profile of {self._last.target} is running")
        pid = os.getpid() if worker is None else self._pid_of(worker)
        target = COORDINATOR if worker is None else worker
        # On a cluster the process may be another host's, and its id somebody else's here.
        executable = py_spy() if worker is None or self._workers.embedded else None
        sampler = IN_PROCESS if executable is None else PY_SPY
        taking = self._take(target, pid, duration_s, executable)
        self._last = Profile(
            target=target,
            duration_s=duration_s,
            started_ms=self._clock_ms(),
            sampler=sampler,
            task=asyncio.create_task(taking, name=f"profile {target}"),
        )
        return self._last

    async def result(self) -> bytes:
        """The latest profile's gzipped pprof bytes, once it has ended.

        Raises:
            CoreError: `not_found` where none was started, `profile_failed` where it came to nothing.
        """
        if self._last is None:
            raise CoreError(ErrorCode.NOT_FOUND, "no profile was started")
        task = self._last.task
        await asyncio.wait({task})
        if task.cancelled():
            raise CoreError(ErrorCode.PROFILE_FAILED, "the profile was cut off")
        return task.result()

    async def stop(self) -> None:
        """End a profile that runs. Idempotent."""
        if self._last is not None:
            self._last.task.cancel()
            await asyncio.gather(self._last.task, return_exceptions=True)

    def _pid_of(self, worker: str) -> int:
        pid = next((one.pid for one in self._workers.workers() if one.worker_id == worker), None)
        if pid is None:
            message = f"no proof worker {worker[:128]} with a process; GET /admin/workers names them"
            raise CoreError(ErrorCode.NOT_FOUND, message, field="worker")
        return pid

    async def _take(self, target: str, pid: int, duration_s: int, executable: str | None) -> bytes:
        started_ns, began_s = time.time_ns(), time.monotonic()
        why = "py-spy is not installed, or the process may be on another host"
        if executable is not None:
            try:
                stacks = pprof.parse_raw(await spy(executable, pid, duration_s))
                comment = (
                    f"{target}: sampled by py-spy at {_RATE_HZ} Hz, native frames included, time on a CPU"
                )
                return await _encoded(stacks, started_ns, began_s, 1 / _RATE_HZ, "cpu", comment)
            except SpyFailed as error:
                why = f"py-spy could not attach: {error}"
                _log.warning("profiler_fell_back", target=target, reason=why)
        began_s = time.monotonic()
        stacks = await self._sample_inside(target, duration_s)
        comment = f"{target}: sampled in the process by the wall clock, Python frames only ({why})"
        return await _encoded(stacks, started_ns, began_s, sampling.INTERVAL_S, "wall", comment)

    async def _sample_inside(self, target: str, duration_s: int) -> dict[Stack, int]:
        if target != COORDINATOR:
            try:
                return await self._workers.sample(target, duration_s)
            except WorkerLost as error:
                raise CoreError(ErrorCode.PROFILE_FAILED, str(error)) from None
        stop = threading.Event()
        try:
            return await asyncio.to_thread(sampling.sample, duration_s, stop=stop)
        finally:
            stop.set()


class SpyFailed(Exception):
    """py-spy gave no profile; the text is its own last line."""


def py_spy() -> str | None:
    """Where py-spy is: beside this interpreter, or on the path."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.is_file() else shutil.which("py-spy")


async def spy(executable: str, pid: int, duration_s: int) -> str:
    """py-spy's raw text about a process of this machine.

    Raises:
        SpyFailed: it may not attach, or gave nothing in time.
    """
    with tempfile.TemporaryDirectory(prefix="agenc-profile-") as folder:
        raw = Path(folder) / "profile.raw"
        arguments = [executable, "record", "--pid", str(pid), "--duration", str(duration_s), "--native"]
        arguments += ["--rate", str(_RATE_HZ), "--format", "raw", "--threads", "--output", str(raw)]
        with _attachable(pid):
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            _, complaint = await _outcome(process.communicate(), process, duration_s + _SLACK_S)
        if process.returncode or not raw.is_file():
            lines = complaint.decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise SpyFailed(lines[-1][:300])
        if raw.stat().st_size > _MAX_RAW_BYTES:
            raise SpyFailed("its output is too large")
        return await asyncio.to_thread(raw.read_text, errors="replace")


async def _outcome(
    talking: Awaitable[tuple[bytes, bytes]], process: asyncio.subprocess.Process, timeout_s: float
) -> tuple[bytes, bytes]:
    """What the process said; it is gone when this returns, also by a cancellation."""
    try:
        async with asyncio.timeout(timeout_s):
            return await talking
    except TimeoutError:
        raise SpyFailed(f"no profile within {timeout_s:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@contextlib.contextmanager
def _attachable(pid: int) -> Iterator[None]:
    """While this lasts our own child may attach to us, also where Linux's Yama lets only ancestors do so."""
    if pid != os.getpid() or sys.platform != "linux":
        yield
        return
    prctl = ctypes.CDLL(None).prctl
    anyone, nobody = ctypes.c_ulong(-1), ctypes.c_ulong(0)
    prctl(_PR_SET_PTRACER, anyone, 0, 0, 0)  # an error where there is no Yama, which is as good
    try:
        yield
    finally:
        prctl(_PR_SET_PTRACER, nobody, 0, 0, 0)


async def _encoded(
    stacks: dict[Stack, int], started_ns: int, began_s: float, period_s: float, clock: str, comment: str
) -> bytes:
    return await asyncio.to_thread(
        pprof.encode,
        stacks,
        started_ns=started_ns,
        duration_ns=round((time.monotonic() - began_s) * 1e9),
        period_ns=round(period_s * 1e9),
        clock=clock,
        comments=[comment],
    )
