"""One worker as the pool sees it: a stable id and number, and the process that fills it at the moment."""

import asyncio

from workers.messages import WorkerInfo, WorkerState
from workers.process import WorkerProcess
from workers.tally import Utilization


class Member:
    """A worker id and what happened under it. Its state follows from the facts and is never stored."""

    def __init__(self, number: int, *, now_s: float) -> None:
        self.number = number
        self.worker_id = f"w-{number}"
        self.process: WorkerProcess | None = None
        self.processes = 0
        self.batch_id: str | None = None
        self.batches = 0
        self.failures = 0
        self.permutations = 0
        self.last_error: str | None = None
        self.use = Utilization(now_s)
        self.let_go = asyncio.Event()

    @property
    def state(self) -> WorkerState:
        process = self.process
        if process is not None and process.dead.done():
            return WorkerState.WAITING
        if process is None or process.ready is None:
            return WorkerState.STARTING
        if self.let_go.is_set():
            return WorkerState.DRAINING
        return WorkerState.IDLE if self.batch_id is None else WorkerState.BUSY

    def begin(self, batch_id: str, now_s: float) -> None:
        """Take a batch."""
        self.batch_id = batch_id
        self.use.begin(now_s)

    def end(self, now_s: float) -> None:
        """Give it back, proved or not."""
        self.batch_id = None
        self.use.end(now_s)
        self._go_if_free()

    def leave(self) -> None:
        """Let it go: at once, or after the batch at hand."""
        self.let_go.set()
        self._go_if_free()

    def stay(self) -> None:
        """Take back a `leave`."""
        self.let_go.clear()

    def _go_if_free(self) -> None:
        if self.let_go.is_set() and self.batch_id is None and self.process is not None:
            self.process.die("it was let go")

    def info(self, now_s: float) -> WorkerInfo:
        process = None if self.state is WorkerState.WAITING else self.process
        status = None if process is None else process.status
        ready = None if process is None else process.ready
        return WorkerInfo(
            worker_id=self.worker_id,
            state=self.state,
            backend=None if ready is None else ready.backend,
            pid=None if process is None else process.pid,
            restarts=max(0, self.processes - 1),
            batch_id=self.batch_id,
            busy_s=self.use.busy_s(now_s),
            batches=self.batches,
            failures=self.failures,
            permutations=self.permutations,
            utilization=self.use.share(now_s),
            startup_s=None if ready is None else ready.startup_s,
            rss_bytes=None if status is None else status.rss_bytes,
            last_error=self.last_error,
        )
