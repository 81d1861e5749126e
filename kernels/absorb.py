"""The tagged sponge with its states kept: what a trace that proves hashes is made of.

`kernels.hashing.hash_tagged` gives the digests alone. Here every permutation's input is wanted, block by
block. Each vector lane works on its own input, so a batch of short inputs is as fast as bare permutations,
and one long input is as slow as its chain.
"""

import numpy as np
import numpy.typing as npt

from kernels import jit
from kernels.field import U32, to_monty
from kernels.hashing import permute_16
from kernels.lanes import LANES, load, store
from kernels.poseidon2 import DIGEST_LEN, RATE_16
from kernels.threads import Pool

I64 = npt.NDArray[np.int64]

WIDTH = 16


@jit.kernel(
    jit.writes(2),
    jit.reads(1, dtype=jit.i64),
    jit.reads(1, dtype=jit.i64),
    jit.writes(2),
    jit.writes(1),
    jit.i64,
    jit.i64,
)
def _chain(states: U32, first: I64, order: I64, digests: U32, scratch: U32, start: int, stop: int) -> None:
    """Inputs order[start..stop]: the capacity that leaves each block enters the next, the last gives the
    digest.

    `first` is where each input's blocks start in `states` (n + 1 entries); rates and first capacities are
    filled in. `scratch` is U32[16 * LANES] of this range alone.
    """
    for group in range(start, stop, LANES):
        blocks = 0
        for j in range(group, min(group + LANES, stop)):
            blocks = max(blocks, first[order[j] + 1] - first[order[j]])
        for block in range(blocks):
            for j in range(LANES):
                i = order[min(group + j, stop - 1)]
                row = min(first[i] + block, first[i + 1] - 1)
                for k in range(WIDTH):
                    scratch[k * LANES + j] = states[row, k]
            state = permute_16(
                (
                    load(scratch, 0),
                    load(scratch, LANES),
                    load(scratch, 2 * LANES),
                    load(scratch, 3 * LANES),
                    load(scratch, 4 * LANES),
                    load(scratch, 5 * LANES),
                    load(scratch, 6 * LANES),
                    load(scratch, 7 * LANES),
                    load(scratch, 8 * LANES),
                    load(scratch, 9 * LANES),
                    load(scratch, 10 * LANES),
                    load(scratch, 11 * LANES),
                    load(scratch, 12 * LANES),
                    load(scratch, 13 * LANES),
                    load(scratch, 14 * LANES),
                    load(scratch, 15 * LANES),
                )
            )
            for k in range(WIDTH):
                store(scratch, k * LANES, state[k])
            for j in range(min(LANES, stop - group)):
                i = order[group + j]
                row = first[i] + block
                if row + 1 < first[i + 1]:
                    for k in range(RATE_16, WIDTH):
                        states[row + 1, k] = scratch[k * LANES + j]
                elif row + 1 == first[i + 1]:
                    for k in range(DIGEST_LEN):
                        digests[i, k] = scratch[k * LANES + j]


def absorb(pool: Pool, elements: U32, offsets: I64, tags: U32) -> tuple[U32, U32]:
    """The permutation inputs U32[blocks, 16] and the digests U32[n, 8] of H_t of n inputs, in order.

    Input i is `elements[offsets[i]:offsets[i + 1]]` (Montgomery), at least one element; `offsets` is int64[n
    + 1], rising from 0 to `elements.size`; `tags` is uint32[n] of plain integers. Input i has ceil(length /
    8) blocks.
    """
    count = len(tags)
    lengths = np.diff(offsets)
    assert elements.ndim == 1, elements.shape
    assert offsets.shape == (count + 1,), (offsets.shape, count)
    assert (offsets[0], offsets[-1]) == (0, elements.size), "offsets do not span the elements"
    assert (lengths > 0).all(), "offsets do not rise"
    first = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(-(-lengths // RATE_16), out=first[1:])
    states = np.zeros((int(first[-1]), WIDTH), dtype=np.uint32)
    rates = np.zeros(len(states) * RATE_16, dtype=np.uint32)
    shift = np.repeat(first[:-1] * RATE_16 - offsets[:-1], lengths)
    rates[np.arange(elements.size) + shift] = elements
    states[:, :RATE_16] = rates.reshape(-1, RATE_16)
    states[first[:-1], RATE_16] = to_monty(tags.astype(np.int64))
    states[first[:-1], RATE_16 + 1] = to_monty(lengths)
    digests = np.zeros((count, DIGEST_LEN), dtype=np.uint32)
    order = np.argsort(lengths, kind="stable")

    def run(start: int, stop: int) -> None:
        _chain(states, first, order, digests, np.empty(WIDTH * LANES, np.uint32), start, stop)

    pool.run_ranges(run, count, LANES, multiple_of=LANES)
    return states, digests
