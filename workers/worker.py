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

import psutil

from workers.generator import Generator, make_generator
from workers.messages import (
    BatchRequest,
    BatchResult,
    ProverError,
    ProverErrorCode,
    StartError,
    StartErrorCode,
    WorkerReady,
    WorkerStatus,
)

THREADS = 4
"""Calls at once: a proof, `watch` for the actor's whole life, `status`, `cancel`."""


_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class _Cancelled(Exception):
    """The batch was given up; raised at a checkpoint."""


class ProofWorker:
    """One worker. `attach` and `prepare` first; then `prove` one batch at a time, the rest at any time."""

    def __init__(self, *, worker_id: str, generator: str, backend: str, kernel_threads: int) -> None:
        self._worker_id = worker_id
        self._make: Callable[[], Generator] = lambda: make_generator(
            generator, backend=backend, kernel_threads=kernel_threads
        )
        self._generator: Generator | None = None
        self._proving = threading.Lock()
        self._busy_since: float | None = None
        self._batch_id: str | None = None
        self._cancelled: str | None = None
        self._batches = 0
        self._failures = 0
        self._permutations = 0
        self._last_error: str | None = None

    def attach(self) -> int:
        """Tie this process's life to its parent's, Ray's raylet; returns its id, so that the pool can end it.

        By itself a worker notices after seconds that its raylet is dead, and would go on proving until then.
        """
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return os.getpid()

    def prepare(self) -> WorkerReady | StartError:
        """Load the prover and make one small proof, so that the first batch does not wait for kernels."""
        started = time.perf_counter()
        try:
            self._generator = self._make()
            self._generator.warm()
        except Exception as error:
            return StartError(StartErrorCode.WORKER_FAILED, _describe(error))
        return WorkerReady(
            pid=os.getpid(),
            backend=self._generator.name,
            backend_reason=self._generator.reason,
            startup_s=time.perf_counter() - started,
        )

    def prove(self, request: BatchRequest) -> BatchResult | ProverError:
        """The batch's proof, or why there is none."""
        assert self._generator is not None, "prepare comes first"
        alone = self._proving.acquire(blocking=False)
        assert alone, "a worker proves one batch at a time"
        self._batch_id = request.batch_id
        self._busy_since = time.perf_counter()
        try:
            result = self._generator.prove(request, self._checkpoint)
        except Exception as error:
            self._failures += 1
            failure = as_prover_error(error)
            self._last_error = str(failure)
            return failure
        else:
            self._batches += 1
            self._permutations += result.permutations
            return result
        finally:
            self._busy_since = self._batch_id = self._cancelled = None
            self._proving.release()

    def cancel(self, batch_id: str) -> None:
        """Give up that batch if it is being proved: `prove` ends at its next checkpoint."""
        if self._batch_id == batch_id:
            self._cancelled = batch_id

    def status(self) -> WorkerStatus:
        """The heartbeat; answers while proving."""
        busy_since = self._busy_since
        return WorkerStatus(
            pid=os.getpid(),
            busy_s=None if busy_since is None else time.perf_counter() - busy_since,
            batch_id=self._batch_id,
            batches=self._batches,
            failures=self._failures,
            permutations=self._permutations,
            last_error=self._last_error,
            rss_bytes=psutil.Process().memory_info().rss,
        )

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
