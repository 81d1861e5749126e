"""The duplex sponge of a transcript: many blocks into one state, one after the other.

A transcript is a chain: there is nothing to do at once in it, and it is the host's on every backend. So it is
one plain kernel on one thread, which spares the caller a call for every block.
"""

from typing import Any

import numpy as np

from kernels import jit
from kernels.field import U32
from kernels.hashing import permute_24
from kernels.lanes import BLOCK, add, lane, splat

WIDTH = 24


@jit.inline
def _spread(values: U32, at: int) -> Any:
    """Eight elements, each in every lane of its vector."""
    return (
        splat(values[at]),
        splat(values[at + 1]),
        splat(values[at + 2]),
        splat(values[at + 3]),
        splat(values[at + 4]),
        splat(values[at + 5]),
        splat(values[at + 6]),
        splat(values[at + 7]),
    )


@jit.kernel(jit.reads(1), jit.u32, jit.writes(1))
def _absorb(blocks: U32, count: np.uint32, state: U32) -> None:
    for at in range(0, blocks.size, BLOCK):
        state[BLOCK] = add(state[BLOCK], count)
        s = permute_24(_spread(blocks, at) + _spread(blocks, at + 8) + _spread(state, BLOCK))
        for k in range(WIDTH):
            state[k] = lane(s[k], 0)


def absorb_blocks(state: U32, blocks: U32, *, count: np.uint32) -> U32:
    """The state U32[24] after each of the blocks U32[n, 16] overwrote the rate, `count` was added to the first
    element of the capacity, and the state was permuted. All in Montgomery form."""
    assert state.shape == (WIDTH,), state.shape
    assert blocks.shape == (len(blocks), BLOCK), blocks.shape
    after = state.copy()
    _absorb(np.ascontiguousarray(blocks).reshape(-1), count, after)
    return after
