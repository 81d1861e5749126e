"""Proof of work for the duplex challenger (width 24, rate 16): the smallest witness is found."""

import threading

import numpy as np

from kernels import jit, lanes
from kernels.field import MONTY_R, U32, P, monty
from kernels.hashing import permute_24
from kernels.lanes import LANES
from kernels.poseidon2 import RATE_24
from kernels.threads import RANGES_PER_THREAD, Pool

MAX_BITS = 30
_RANGE = 1 << 10  # candidates between two looks at what the other threads found
_TO_MONTY = np.uint32(MONTY_R * MONTY_R % P)
_SAMPLED = RATE_24 - 1  # sampling pops the output buffer from its end
_load_24 = lanes.loader(24)


@jit.kernel(jit.writes(1), jit.i64, jit.u32, jit.i64, jit.i64, returns=jit.i64)
def _first_witness(states: U32, slot: int, mask: int, start: int, stop: int) -> int:
    """The smallest w in start..stop whose permutation ends in `mask` zeros, or -1.

    `states` is U32[24 * LANES], the state before the permutation with every element repeated in all
    lanes; the lanes of element `slot` are overwritten.
    """
    to_monty = _TO_MONTY
    for base in range(start, stop, LANES):
        candidates = lanes.scale(lanes.counting(np.uint32(base)), to_monty)
        lanes.store(states, slot * LANES, candidates)
        sampled = lanes.scale(permute_24(_load_24(states, 0))[_SAMPLED], np.uint32(1))
        for j in range(min(LANES, stop - base)):
            if lanes.lane(sampled, j) & mask == 0:
                return base + j
    return -1


def grind(pool: Pool, state: U32, pending: U32, bits: int) -> int:
    """See `Backend.grind`."""
    assert state.shape == (24,), state.shape
    assert pending.shape == (pending.size,), pending.shape
    assert pending.size < RATE_24, "the challenger permutes before so many inputs wait"
    assert 0 <= bits <= MAX_BITS, bits
    if bits == 0:
        return 0
    states = np.repeat(duplex_input(state, pending), LANES)
    window = pool.threads * RANGES_PER_THREAD * _RANGE
    for start in range(0, P, window):
        found = _search(pool, states, pending.size, (1 << bits) - 1, start, min(start + window, P))
        if found is not None:
            return found
    raise ArithmeticError(f"no field element grinds {bits} bits from this state")


def duplex_input(state: U32, pending: U32) -> U32:
    """The state just before the permutation, with 0 where the witness (the last input) will stand."""
    inputs = pending.size + 1
    before = state.copy()
    before[: pending.size] = pending
    before[pending.size : RATE_24] = 0
    before[RATE_24] = (int(before[RATE_24]) + monty(inputs)) % P
    return before


def _search(pool: Pool, states: U32, slot: int, mask: int, first: int, last: int) -> int | None:
    found: list[int] = []
    lock = threading.Lock()

    def run(start: int, stop: int) -> None:
        if found and min(found) < first + start:
            return
        witness = _first_witness(states.copy(), slot, np.uint32(mask), first + start, first + stop)
        if witness >= 0:
            with lock:
                found.append(witness)

    pool.run_ranges(run, last - first, _RANGE, multiple_of=LANES)
    return min(found, default=None)
