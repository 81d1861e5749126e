"""What the pool counts, for the 9091 endpoint: plain numbers, kept as they happen."""

from bisect import bisect_left
from collections import Counter, deque
from itertools import accumulate

from workers.messages import GENERATION_BUCKETS_S, BatchResult, WorkerError

UTILIZATION_WINDOW_S = 60.0


class Tally:
    """Counters over all workers since the pool was made."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.permutations = 0
        self.generation_sum_s = 0.0
        self._generations = [0] * (len(GENERATION_BUCKETS_S) + 1)

    def proved(self, result: BatchResult) -> None:
        """A proof was made; its time is the worker's own."""
        took_s = result.prove_ms / 1000
        self._generations[bisect_left(GENERATION_BUCKETS_S, took_s)] += 1
        self.generation_sum_s += took_s
        self.permutations += result.permutations

    def failed(self, error: WorkerError) -> None:
        """A batch got no proof."""
        self.failures[error.error_type] += 1

    @property
    def generation_counts(self) -> tuple[int, ...]:
        """Cumulative by `GENERATION_BUCKETS_S`, the count of all at the end."""
        return tuple(accumulate(self._generations))


class Utilization:
    """The busy share of the last `UTILIZATION_WINDOW_S`, or of the life so far where that is shorter."""

    def __init__(self, now_s: float) -> None:
        self._born_s = now_s
        self._busy_since_s: float | None = None
        self._spans: deque[tuple[float, float]] = deque()

    def begin(self, now_s: float) -> None:
        """Work begins."""
        assert self._busy_since_s is None, "one batch at a time"
        self._busy_since_s = now_s

    def end(self, now_s: float) -> None:
        """Work ends."""
        assert self._busy_since_s is not None, "nothing was begun"
        self._spans.append((self._busy_since_s, now_s))
        self._busy_since_s = None
        self._forget(now_s)

    def share(self, now_s: float) -> float:
        """Between 0 and 1."""
        self._forget(now_s)
        opens_s = max(self._born_s, now_s - UTILIZATION_WINDOW_S)
        if now_s <= opens_s:
            return 0.0
        busy_s = sum(end - max(start, opens_s) for start, end in self._spans)
        if self._busy_since_s is not None:
            busy_s += now_s - max(self._busy_since_s, opens_s)
        return min(1.0, busy_s / (now_s - opens_s))

    def busy_s(self, now_s: float) -> float | None:
        """Seconds since the work at hand began, or None."""
        return None if self._busy_since_s is None else now_s - self._busy_since_s

    def _forget(self, now_s: float) -> None:
        while self._spans and self._spans[0][1] <= now_s - UTILIZATION_WINDOW_S:
            self._spans.popleft()
