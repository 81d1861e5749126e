"""The proof worker: a Ray actor that takes a batch and gives back its proof, in one call.

A plain class: the pool makes it an actor with a few threads, so that `status` and `cancel` answer while
`prove` works. Operating errors come back as values, since an exception that crosses Ray arrives wrapped and
with its traceback, and one that does not pickle does not arrive at all.
"""

import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import psutil

from workers import node_folder, sampling
from workers.code_version import code_version
from workers.generator import Generator, make_generator
from workers.machine import usable_cpus
from workers.messages import (
    BatchRequest,
    BatchResult,
    ProverError,
    ProverErrorCode,
    StartError,
    StartErrorCode,
    WorkerHome,
    WorkerReady,
    WorkerStatus,
)
from workers.node_folder import WorkerRecord
from workers.sampling import Stack
from workers.tally import Tally, Utilization

THREADS = 5
"""Calls at once: a proof, `watch` for the actor's whole life, `status`, `cancel`, `sample`."""


_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_GIVE_UP_S = 30.0  # a phase of the largest proof takes less


class _Cancelled(Exception):
    """The batch was given up; raised at a checkpoint."""


class ProofWorker:
    """One worker. `attach` and `prepare` first; then `prove` one batch at a time, the rest at any time."""

    def __init__(self, *, worker_id: str, generator: str, backend: str, kernel_threads: int | None) -> None:
        """`kernel_threads` None: this host's CPUs, shared out among its workers."""
        self._worker_id = worker_id
        threads = kernel_threads or max(1, usable_cpus() // node_folder.node_slots())
        self._make: Callable[[], Generator] = lambda: make_generator(
            generator, backend=backend, kernel_threads=threads
        )
        self._generator: Generator | None = None
        self._ready: WorkerReady | None = None
        self._proving = threading.Lock()
        self._busy_since: float | None = None
        self._batch_id: str | None = None
        self._cancelled: str | None = None
        self._batches = 0
        self._failures = 0
        self._last_error: str | None = None
        self._tally = Tally()
        self._use = Utilization(time.monotonic())
        self._accounting = threading.Lock()

    def attach(self) -> int:
        """Tie this process's life to its parent's, Ray's raylet; returns its id, so that the pool can end it.

        By itself a worker notices after seconds that its raylet is dead, and would go on proving until then.
        """
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return os.getpid()

    def home(self) -> WorkerHome:
        """On which host of the cluster this process runs, and whose code."""
        import ray

        return WorkerHome(
            node_id=ray.get_runtime_context().get_node_id(),
            code=code_version(),
            started_s=psutil.Process().create_time(),
        )

    def prepare(self) -> WorkerReady | StartError:
        """Load the prover and make one small proof, so that the first batch does not wait for kernels.

        A worker that an earlier coordinator left behind is warm; what it still proves for that one is given up.
        """
        if self._ready is not None:
            return self._come_back(self._ready)
        started = time.perf_counter()
        try:
            self._generator = self._make()
            self._generator.warm()
        except Exception as error:
            return StartError(StartErrorCode.WORKER_FAILED, _describe(error))
        self._ready = WorkerReady(
            pid=os.getpid(),
            backend=self._generator.name,
            backend_reason=self._generator.reason,
            startup_s=time.perf_counter() - started,
        )
        return self._ready

    def _come_back(self, ready: WorkerReady) -> WorkerReady | StartError:
        self._cancelled = self._batch_id
        if not self._proving.acquire(timeout=_GIVE_UP_S):
            return StartError(StartErrorCode.WORKER_FAILED, f"it does not give {self._batch_id} up")
        self._proving.release()
        return replace(ready, adopted=True)

    def prove(self, request: BatchRequest) -> BatchResult | ProverError:
        """The batch's proof, or why there is none."""
        assert self._generator is not None, "prepare comes first"
        alone = self._proving.acquire(blocking=False)
        assert alone, "a worker proves one batch at a time"
        self._batch_id = request.batch_id
        self._busy_since = time.perf_counter()
        with self._accounting:
            self._use.begin(time.monotonic())
        try:
            result = self._generator.prove(request, self._checkpoint)
        except Exception as error:
            self._failures += 1
            failure = as_prover_error(error)
            self._last_error = str(failure)
            self._tally.failed(failure)
            return failure
        else:
            self._batches += 1
            self._tally.proved(result)
            return result
        finally:
            with self._accounting:
                self._use.end(time.monotonic())
            self._busy_since = self._batch_id = self._cancelled = None
            self._proving.release()

    def cancel(self, batch_id: str) -> None:
        """Give up that batch if it is being proved: `prove` ends at its next checkpoint."""
        if self._batch_id == batch_id:
            self._cancelled = batch_id

    def status(self, queue_size: int = 0) -> WorkerStatus:
        """The heartbeat; answers while proving. `queue_size`: the cluster's, for this host's endpoint to show."""
        busy_since = self._busy_since
        status = WorkerStatus(
            pid=os.getpid(),
            busy_s=None if busy_since is None else time.perf_counter() - busy_since,
            batch_id=self._batch_id,
            batches=self._batches,
            failures=self._failures,
            permutations=self._tally.permutations,
            last_error=self._last_error,
            rss_bytes=psutil.Process().memory_info().rss,
        )
        if self._ready is not None and (folder := node_folder.folder()) is not None:
            node_folder.write(folder, self._record(self._ready, status, queue_size))
        return status

    def _record(self, ready: WorkerReady, status: WorkerStatus, queue_size: int) -> WorkerRecord:
        with self._accounting:
            utilization = self._use.share(time.monotonic())
        return WorkerRecord(
            worker_id=self._worker_id,
            pid=status.pid,
            started_s=psutil.Process().create_time(),
            backend=ready.backend,
            batch_id=status.batch_id,
            busy_s=status.busy_s,
            batches=status.batches,
            failures=status.failures,
            permutations=status.permutations,
            utilization=utilization,
            startup_s=ready.startup_s,
            rss_bytes=status.rss_bytes,
            last_error=status.last_error,
            queue_size=queue_size,
            failures_by_type=dict(self._tally.failures),
            generation_counts=self._tally.generation_counts,
            generation_sum_s=self._tally.generation_sum_s,
        )

    def sample(self, duration_s: float) -> dict[Stack, int]:
        """The stacks of this process's threads over that time: the profile where no debugger may attach."""
        return sampling.sample(duration_s)

    def watch(self) -> None:
        """Never returns: a caller that waits for it learns of this process's death within milliseconds."""
        threading.Event().wait()

    def _checkpoint(self) -> None:
        if self._cancelled is not None and self._cancelled == self._batch_id:
            raise _Cancelled


def as_prover_error(error: Exception) -> ProverError:
    """The typed form of whatever ended a proof. Only code, text and index: it always pickles."""
    from workers.airs.operation_trace import BatchSizeError
    from workers.stark.parameters import UnknownParametersError
    from workers.statement import WitnessError

    match error:
        case ProverError():
            return error
        case _Cancelled():
            return ProverError(ProverErrorCode.CANCELLED, "the batch was given up")
        case BatchSizeError():
            return ProverError(ProverErrorCode.TOO_LARGE, str(error))
        case UnknownParametersError():
            return ProverError(ProverErrorCode.UNKNOWN_PARAMETERS, str(error))
        case WitnessError():
            return ProverError(ProverErrorCode.INVALID_WITNESS, str(error))
        case MemoryError():
            return ProverError(ProverErrorCode.OUT_OF_MEMORY, _describe(error))
        case _ if type(error).__name__ == "OutOfMemoryError":  # cupy's, which a CPU worker does not import
            return ProverError(ProverErrorCode.OUT_OF_MEMORY, _describe(error))
        case _:
            traceback.print_exception(error)  # into the worker's own log: a defect needs its stack
            return ProverError(ProverErrorCode.INTERNAL, _describe(error))


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
