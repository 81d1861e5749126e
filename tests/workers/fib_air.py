"""The AIR of `vectors/fib_h6`: public values, a next row, every selector, degree 3. And its trace."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels.field import P
from workers.stark.air import Builder


@dataclass(frozen=True)
class FibAir:
    name: str = "fib"
    width: int = 8
    num_public: int = 3

    def constraints(self, builder: Builder) -> None:
        a, b, c, d, e, f, g, h = builder.local
        next_a, next_b, _, next_d, next_e, next_f, _, next_h = builder.next
        p0, p1, p2 = builder.public
        builder.when_first(a - p0)
        builder.when_first(b - p1)
        builder.when_transition(next_a - b)
        builder.when_transition(next_b - (a + b))
        builder.when_last(b - p2)
        builder.assert_zero(a * a * b - c)
        builder.when_first(d)
        builder.when_transition(next_d - d - 1)
        builder.assert_zero(e * (e - 1))
        builder.when_transition(next_e + e - 1)
        builder.when_transition(next_f - (f * e * a + (1 - e) * c + d))
        builder.when_first(f - (p0 + 2 * p1))
        builder.assert_zero(f * f - g)
        builder.when_last(h - g * e)
        builder.when_first(e)
        builder.when_transition(e * (next_h - h - next_f * f))


def fib_trace(p0: int, p1: int, *, log_rows: int) -> tuple[npt.NDArray[np.int64], tuple[int, int, int]]:
    """The trace (rows, 8) and the public values (p0, p1, p2), all canonical."""
    rows = 1 << log_rows
    trace = np.zeros((rows, 8), dtype=np.int64)
    a, b, f, h = p0, p1, (p0 + 2 * p1) % P, 0
    for i in range(rows):
        c, e, g = a * a * b % P, i % 2, f * f % P
        if i == rows - 1:
            h = g * e % P
        trace[i] = a, b, c, i, e, f, g, h
        next_f = (f * e * a + (1 - e) * c + i) % P
        h = (h + next_f * f) % P if e else (7 * i + 3) % P
        a, b, f = b, (a + b) % P, next_f
    return trace, (p0, p1, int(trace[-1, 1]))
