"""Into Montgomery form in bulk: `kernels.field.to_monty` divides, which costs ten times as much an element."""

import numpy as np

from kernels import jit
from kernels.field import MONTY_R, U32, monty
from kernels.lanes import LANES, load, load_first, mul, splat, store, store_first

_R_SQUARED = np.uint32(monty(MONTY_R))


@jit.kernel(jit.reads(1), jit.writes(1))
def _to_montgomery(elements: U32, out: U32) -> None:
    factor = splat(_R_SQUARED)
    end = elements.size - elements.size % LANES
    for at in range(0, end, LANES):
        store(out, at, mul(load(elements, at), factor))
    if end < elements.size:
        rest = elements.size - end
        store_first(out, end, mul(load_first(elements, end, rest), factor), rest)


def to_montgomery(elements: U32) -> U32:
    """Montgomery form of canonical U32[n]."""
    assert elements.ndim == 1, elements.shape
    out = np.empty(elements.shape, np.uint32)
    _to_montgomery(np.ascontiguousarray(elements), out)
    return out
