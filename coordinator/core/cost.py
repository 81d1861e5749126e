"""What a proof costs, learned from every proof that was made: t = c0 + c1 · rows · log2(rows).

The two terms are what a STARK prover does: a fixed part (kernel launches, queries, grinding, Ray's call), and extension
and hashing, which grow as rows · log rows. One fit a worker, since workers differ (a GPU beside a CPU, a host that
others use too), and one a backend, which stands in for a worker that has proved little yet.

The fit is recursive least squares with exponential forgetting (Ljung, System Identification, ch. 11.2) in information
form: five running sums, of which the normal equations are solved. That form cannot wind up: where all proofs have the
same size, and the data say nothing of the second direction, a small ridge holds the fit to the shape of its prior,
scaled to what was measured. Errors are relative (10 % of a small proof count as 10 % of a big one), and both terms are
kept at least 0.

Pure, and part of the fold: the events of proved batches carry all it needs, so a restart knows what it knew before.
"""

from math import ceil, log2
from typing import Final

import msgspec

from coordinator.core.limits import PADDING_ROWS

#: What one more proof leaves of the weight of those before: about the last 20 count.
FORGETTING: Final = 0.95
#: A proof counts at most as so many times as slow, or as fast, as expected.
CLIP: Final = 4.0
#: Units at which the fixed part and the rest are equal, at most.
MAX_BEND: Final = 1e9
#: Strength of the prior's shape, as a share of the data's own weight.
RIDGE: Final = 1e-3
#: Ratios of measured to predicted time that are kept; the 95th percentile is of these.
RATIOS: Final = 64
#: Proofs after which a worker's own fit is used, and its percentiles are trusted.
ENOUGH: Final = 5
#: Workers whose fits are kept; names are few since the pool gives the lowest free numbers out again.
MAX_WORKERS: Final = 1_024
MIN_ROWS: Final = 2
#: Times are whole milliseconds: what takes less than one is taken for half of one.
SHORTEST_MS: Final = 0.5
#: Proofs without trouble after which a worker that ran out of memory is trusted with twice the rows again.
TRUST_AGAIN: Final = 32
#: Assumed before anything was measured: 20 ms, and 1.3 µs a unit, one CPU core's speed (docs/benchmarks.md).
INITIAL_FIXED_MS: Final = 20.0
INITIAL_UNIT_MS: Final = 1.3e-3
#: The 95th percentile over the prediction, while fewer than ENOUGH proofs are known.
INITIAL_P95: Final = 2.0


def padded_rows(operation_rows: int) -> int:
    """Rows of the trace that proves so many rows of operations: with the blinding, the next power of two."""
    return 1 << (operation_rows + PADDING_ROWS - 1).bit_length()


def units(rows: int) -> float:
    """rows · log2(rows) of a trace, the work that grows with it."""
    return max(rows, MIN_ROWS) * log2(max(rows, MIN_ROWS))


class Line(msgspec.Struct, frozen=True):
    """A prediction: milliseconds of a proof are `fixed_ms + unit_ms · rows · log2(rows)`."""

    fixed_ms: float = INITIAL_FIXED_MS
    unit_ms: float = INITIAL_UNIT_MS

    def ms(self, rows: int) -> float:
        """Milliseconds for a trace of so many rows, padding and blinding included."""
        return self.fixed_ms + self.unit_ms * units(rows)


class Fit(msgspec.Struct):
    """One worker's, or one backend's, proofs: `ratios` of measured to predicted time are the latest, oldest first.

    The sums fade with age, over proofs of x units in t milliseconds with weight w: w², x w², x² w², t w², t x w².

    `max_rows`: the greatest trace it is trusted with since it ran out of memory (None: no limit known), and
    `since_full` proofs it made since.
    """

    backend: str = ""
    samples: int = 0
    ones2: float = 0.0
    work_ones: float = 0.0
    work2: float = 0.0
    ones: float = 0.0
    work: float = 0.0
    line: Line = Line()
    ratios: list[float] = []
    max_rows: int | None = None
    since_full: int = 0

    def add(self, rows: int, took_ms: float, prior: Line) -> None:
        """One more proof. One that took absurdly long, or short, counts as one that took some times as long."""
        expected = self.line if self.samples else prior
        expected_ms = max(expected.ms(rows), SHORTEST_MS)
        took_ms = max(took_ms, SHORTEST_MS)
        if self.samples:  # before, nothing was known: a guess has no error worth keeping
            self.ratios.append(took_ms / expected_ms)
            del self.ratios[:-RATIOS]
        if self.samples >= ENOUGH:
            took_ms = min(max(took_ms, expected_ms / CLIP), expected_ms * CLIP)
        # Weights make errors relative: 1 over the line's shape, which its scale does not enter.
        work = units(rows)
        weight = 1.0 / (min(expected.fixed_ms / max(expected.unit_ms, 1e-12), MAX_BEND) + work)
        one, slope = weight, work * weight
        self.ones2 = FORGETTING * self.ones2 + one * one
        self.work_ones = FORGETTING * self.work_ones + slope * one
        self.work2 = FORGETTING * self.work2 + slope * slope
        self.ones = FORGETTING * self.ones + took_ms * weight * one
        self.work = FORGETTING * self.work + took_ms * weight * slope
        self.samples += 1
        self.line = self._solve(prior)
        self._trust_again()

    def _solve(self, prior: Line) -> Line:
        """Minimises Σ w² (t - c0 - c1 · x)² + RIDGE · (the same sums' diagonal) · (c - scaled prior)²."""
        a, b, c, d, e = self.ones2, self.work_ones, self.work2, self.ones, self.work
        p0, p1 = prior.fixed_ms, prior.unit_ms
        size = p0 * p0 * a + 2.0 * p0 * p1 * b + p1 * p1 * c
        scale = (p0 * d + p1 * e) / size if size > 0.0 else 1.0
        aa, cc = a * (1.0 + RIDGE), c * (1.0 + RIDGE)
        dd, ee = d + RIDGE * a * scale * p0, e + RIDGE * c * scale * p1
        determinant = aa * cc - b * b
        fixed_ms = (dd * cc - b * ee) / determinant
        unit_ms = (ee * aa - b * dd) / determinant
        if fixed_ms < 0.0:
            return Line(0.0, ee / cc)
        if unit_ms < 0.0:
            return Line(dd / aa, 0.0)
        return Line(fixed_ms, unit_ms)

    @property
    def error(self) -> float:
        """Mean of |measured / predicted - 1| over the latest proofs; each was predicted before it was made."""
        return sum(abs(ratio - 1.0) for ratio in self.ratios) / len(self.ratios) if self.ratios else 0.0

    @property
    def p95(self) -> float:
        """The 95th percentile of measured over predicted time."""
        if len(self.ratios) < ENOUGH:
            return INITIAL_P95
        return sorted(self.ratios)[ceil(0.95 * len(self.ratios)) - 1]

    def out_of_memory(self, rows: int) -> None:
        """A trace of so many rows did not fit; half of it may."""
        self.max_rows = max(MIN_ROWS, rows // 2)
        self.since_full = 0

    def _trust_again(self) -> None:
        if self.max_rows is not None:
            self.since_full += 1
            if self.since_full >= TRUST_AGAIN:
                self.max_rows *= 2
                self.since_full = 0


class CostModel(msgspec.Struct):
    """All fits. `started_rows`: operation rows handed to workers ever, which the autoscaler takes the rate of."""

    workers: dict[str, Fit] = {}
    backends: dict[str, Fit] = {}
    started_rows: int = 0

    def proved(self, worker_id: str, backend: str, rows: int, took_ms: float) -> None:
        """A worker made a proof of a trace of so many rows."""
        fleet = self.backends.setdefault(backend, Fit(backend=backend))
        fleet.add(rows, took_ms, Line())
        self._worker(worker_id, backend).add(rows, took_ms, fleet.line)

    def out_of_memory(self, worker_id: str, rows: int) -> None:
        """A worker had no memory for a trace of so many rows."""
        found = self.workers.get(worker_id)
        self._worker(worker_id, found.backend if found is not None else "").out_of_memory(rows)

    def _worker(self, worker_id: str, backend: str) -> Fit:
        """Its fit; a new one where another backend computes under the name now. The latest heard of stand last."""
        fit = self.workers.pop(worker_id, None)
        if fit is None or (fit.backend and backend and fit.backend != backend):
            fit = Fit(backend=backend)
        fit.backend = fit.backend or backend
        self.workers[worker_id] = fit
        if len(self.workers) > MAX_WORKERS:
            del self.workers[next(iter(self.workers))]
        return fit

    def line(self, worker_id: str | None = None) -> Line:
        """How long proofs take: the worker's own line, its backend's, or, of no worker in particular, the fastest's."""
        fit = None if worker_id is None else self.workers.get(worker_id)
        if fit is not None:
            if fit.samples >= ENOUGH:
                return fit.line
            fleet = self.backends.get(fit.backend)
            if fleet is not None and fleet.samples:
                return fleet.line
        lines = [one.line for one in self.backends.values() if one.samples]
        return min(lines, key=lambda line: line.ms(1 << 15), default=Line())

    def p95_ms(self, rows: int, worker_id: str | None = None) -> float:
        """The time within which 95 % of such proofs are made."""
        fit = None if worker_id is None else self.workers.get(worker_id)
        if fit is None or len(fit.ratios) < ENOUGH:
            fit = max(self.backends.values(), key=lambda one: one.samples, default=None)
        return self.line(worker_id).ms(rows) * max(1.0, INITIAL_P95 if fit is None else fit.p95)

    def max_rows(self, worker_id: str | None) -> int | None:
        """The greatest trace that a worker's memory is known to hold, where it is known."""
        fit = None if worker_id is None else self.workers.get(worker_id)
        return None if fit is None else fit.max_rows
