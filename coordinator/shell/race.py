"""The workers that prove one batch at a time, usually one; the first valid proof wins, the others are stopped."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workers.messages import BatchResult


@dataclass
class HedgeCounts:
    """Second starts since this process began: all, those that won, and the worker's seconds that went for nothing."""

    started: int = 0
    won: int = 0
    wasted_s: float = 0.0


class Race:
    """One batch's proof. `attempt` makes it with a worker and checks it, or raises."""

    def __init__(
        self,
        attempt: Callable[[str], Awaitable[BatchResult]],
        counts: HedgeCounts,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt = attempt
        self._counts = counts
        self._clock_s = clock_s
        self._running: dict[str, asyncio.Task[None]] = {}
        self._began_s: dict[str, float] = {}
        self._outcomes: asyncio.Queue[tuple[str, BatchResult | Exception]] = asyncio.Queue()

    @property
    def workers(self) -> list[str]:
        """Those that prove now."""
        return list(self._running)

    @property
    def hedged(self) -> bool:
        """Whether it was started a second time."""
        return len(self._began_s) > 1

    def enter(self, worker_id: str) -> None:
        """Starts the batch on a worker, beside those that prove it."""
        if self._began_s:
            self._counts.started += 1
        self._began_s[worker_id] = self._clock_s()
        self._running[worker_id] = asyncio.create_task(self._run(worker_id), name=f"attempt {worker_id}")

    async def _run(self, worker_id: str) -> None:
        try:
            outcome: BatchResult | Exception = await self._attempt(worker_id)
        except Exception as error:
            outcome = error
        self._outcomes.put_nowait((worker_id, outcome))

    async def result(self) -> tuple[str, BatchResult]:
        """The winner and its proof, once the first is there; whoever still proves then is stopped.

        Raises:
            Exception: what `attempt` raised for the first worker that failed, once all have.
        """
        first = next(iter(self._began_s))
        failure: Exception | None = None
        try:
            while self._running:
                worker_id, outcome = await self._outcomes.get()
                del self._running[worker_id]
                if not isinstance(outcome, Exception):
                    self._counts.won += worker_id != first
                    return worker_id, outcome
                failure = failure or outcome
                if self.hedged:
                    self._waste(worker_id)
            assert failure is not None, "a race has a worker at least"
            raise failure
        finally:
            await self._stop()

    async def _stop(self) -> None:
        losers, self._running = self._running, {}
        for worker_id, task in losers.items():
            task.cancel()
            if self.hedged:
                self._waste(worker_id)
        await asyncio.gather(*losers.values(), return_exceptions=True)

    def _waste(self, worker_id: str) -> None:
        self._counts.wasted_s += self._clock_s() - self._began_s[worker_id]
