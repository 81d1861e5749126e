"""A fixed pool of threads over row ranges, for kernels that release the interpreter lock.

The calling thread works too, so a pool of `threads` never computes on more than that many at once,
and a pool of one starts no thread. Ranges are claimed one by one: a thread that the machine slows
down holds up the others for one range at most.
"""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

RANGES_PER_THREAD = 4


def available_threads() -> int:
    """CPUs this process may run on (the affinity mask, where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


class Pool:
    """`threads` workers, the caller included. Helper threads start at the first parallel call."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = available_threads() if threads is None else threads
        if self.threads < 1:
            raise ValueError(f"a pool needs at least one thread, not {self.threads}")
        self._executor: ThreadPoolExecutor | None = None
        self._start_lock = threading.Lock()

    def run_ranges(
        self, fn: Callable[[int, int], object], n: int, min_chunk: int = 1, *, multiple_of: int = 1
    ) -> None:
        """Call `fn(start, stop)` on ranges that together cover [0, n), each at least `min_chunk` long.

        Every range but the last starts and ends on a multiple of `multiple_of` (the vector lanes, a
        subtree). `fn` must write only what belongs to its range. The first exception is raised here
        once no range runs any more.
        """
        if n <= 0:
            return
        chunk = max(min_chunk, -(-n // (self.threads * RANGES_PER_THREAD)), 1)
        chunk = -(-chunk // multiple_of) * multiple_of
        starts = range(0, n, chunk)
        if self.threads == 1 or len(starts) == 1:
            fn(0, n)
            return
        self._run_claimed(fn, n, chunk, starts)

    def _run_claimed(self, fn: Callable[[int, int], object], n: int, chunk: int, starts: range) -> None:
        claim = itertools.count()  # next() on a C iterator is atomic under the interpreter lock

        def work() -> None:
            while (index := next(claim)) < len(starts):
                fn(starts[index], min(starts[index] + chunk, n))

        helpers = [self._started().submit(work) for _ in range(min(self.threads, len(starts)) - 1)]
        own = _outcome(work)
        # A helper that has not begun has nothing left to claim; waiting for it could deadlock when the
        # pool's threads are themselves inside a nested call.
        outcomes = [own, *(helper.exception() for helper in helpers if not helper.cancel())]
        for failure in outcomes:
            if failure is not None:
                raise failure

    def _started(self) -> ThreadPoolExecutor:
        with self._start_lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="kernels")
            return self._executor

    def submit(self, fn: Callable[[], object]) -> Future[object]:
        """Run `fn` on a helper thread (a pool of one runs it here, before returning)."""
        if self.threads > 1:
            return self._started().submit(fn)
        future: Future[object] = Future()
        try:
            future.set_result(fn())
        except BaseException as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        with self._start_lock:
            if self._executor is not None:
                self._executor.shutdown(wait=True)
                self._executor = None


def _outcome(work: Callable[[], object]) -> BaseException | None:
    try:
        work()
    except BaseException as error:
        return error
    return None
