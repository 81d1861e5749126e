"""The tagged sponge with every permutation's AIR row kept: what a trace that proves hashes is made of.

`kernels.hashing.hash_tagged` gives the digests alone. Here each permutation leaves its 164 columns in a row of a
trace, wherever that lies. Each vector lane works on its own input, so a batch of short inputs is as fast as the
rows of as many single permutations; a few long inputs are one chain each (`kernels.chain`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import jit
from kernels.chain import FEW, chains
from kernels.field import U32, to_monty
from kernels.lanes import LANES, load, store
from kernels.permutation_trace import permutation_trace, trace_rows
from kernels.poseidon2 import DIGEST_LEN, RATE_16, TRACE_WIDTH
from kernels.threads import Pool

I64 = npt.NDArray[np.int64]

WIDTH = 16


@jit.inline
def _load_state(scratch: U32) -> Any:
    return (
        load(scratch, 0), load(scratch, LANES), load(scratch, 2 * LANES), load(scratch, 3 * LANES),
        load(scratch, 4 * LANES), load(scratch, 5 * LANES), load(scratch, 6 * LANES), load(scratch, 7 * LANES),
        load(scratch, 8 * LANES), load(scratch, 9 * LANES), load(scratch, 10 * LANES), load(scratch, 11 * LANES),
        load(scratch, 12 * LANES), load(scratch, 13 * LANES), load(scratch, 14 * LANES), load(scratch, 15 * LANES),
    )  # fmt: skip


@jit.kernel(
    jit.reads(1),
    jit.reads(1, dtype=jit.i64),
    jit.reads(2),
    jit.reads(1, dtype=jit.i64),
    jit.reads(1, dtype=jit.i64),
    jit.reads(1, dtype=jit.i64),
    jit.writes(2, layout="A"),
    jit.writes(2),
    jit.writes(1),
    jit.writes(1, dtype=jit.i64),
    jit.i64,
    jit.i64,
)
def _side_by_side(
    elements: U32,
    offsets: I64,
    capacities: U32,
    first: I64,
    rows: I64,
    order: I64,
    out: U32,
    digests: U32,
    scratch: U32,
    places: I64,
    start: int,
    stop: int,
) -> None:
    """Inputs order[start..stop], which rise in length. `capacities` is U32[n, 2], tag and length; block b of input
    i leaves its row at rows[first[i] + b]. `scratch` is U32[16 * LANES] and `places` I64[LANES] of this range
    alone."""
    for group in range(start, stop, LANES):
        last = min(group + LANES, stop) - 1
        longest = order[last]
        scratch[RATE_16 * LANES :] = 0
        for j in range(LANES):
            i = order[min(group + j, last)]
            scratch[RATE_16 * LANES + j] = capacities[i, 0]
            scratch[(RATE_16 + 1) * LANES + j] = capacities[i, 1]
        for block in range(first[longest + 1] - first[longest]):
            for j in range(LANES):
                i = order[min(group + j, last)]
                if first[i] + block >= first[i + 1]:  # it is done: its lane does again what the longest does
                    i = longest
                    for k in range(RATE_16, WIDTH):
                        scratch[k * LANES + j] = scratch[k * LANES + last - group]
                places[j] = rows[first[i] + block]
                at = offsets[i] + block * RATE_16
                for k in range(RATE_16):
                    within = at + k < offsets[i + 1]
                    scratch[k * LANES + j] = elements[at + k] if within else np.uint32(0)
            state = trace_rows(_load_state(scratch), out, places)
            for k in range(WIDTH):
                store(scratch, k * LANES, state[k])
            for j in range(last + 1 - group):
                i = order[group + j]
                if first[i] + block + 1 == first[i + 1]:
                    for k in range(DIGEST_LEN):
                        digests[i, k] = scratch[k * LANES + j]


def absorb(pool: Pool, elements: U32, offsets: I64, tags: U32, *, out: U32, rows: I64) -> U32:
    """The digests U32[n, 8] of H_t of n inputs, the permutations' AIR rows written to `out[:, :164]`.

    Input i is `elements[offsets[i]:offsets[i + 1]]` (Montgomery), at least one element; `offsets` is int64[n
    + 1], rising from 0 to `elements.size`; `tags` is uint32[n] of plain integers. Input i has ceil(length /
    8) blocks; `rows` has the row of every block, input by input, all of them different.
    """
    count = len(tags)
    lengths = np.diff(offsets)
    assert elements.ndim == 1, elements.shape
    assert offsets.shape == (count + 1,), (offsets.shape, count)
    assert (offsets[0], offsets[-1]) == (0, elements.size), "offsets do not span the elements"
    assert (lengths > 0).all(), "offsets do not rise"
    assert out.shape[1] >= TRACE_WIDTH, out.shape
    assert out.strides[1] == 4, "the columns of a row must be contiguous"
    first = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(-(-lengths // RATE_16), out=first[1:])
    assert rows.shape == (first[-1],), (rows.shape, first[-1])
    capacities = to_monty(np.stack((tags.astype(np.int64), lengths), axis=1))
    digests = np.empty((count, DIGEST_LEN), dtype=np.uint32)
    if count <= FEW:
        states = np.empty((int(first[-1]), WIDTH), dtype=np.uint32)
        chains(pool, elements, offsets, capacities, first=first, states=states, out=digests)
        permutation_trace(pool, states, out=out, rows=rows)
        return digests
    order = np.argsort(lengths, kind="stable")

    def run(start: int, stop: int) -> None:
        scratch, places = np.empty(WIDTH * LANES, np.uint32), np.empty(LANES, np.int64)
        arguments = (elements, offsets, capacities, first, rows, order, out, digests, scratch, places)
        _side_by_side(*arguments, start, stop)

    pool.run_ranges(run, count, LANES, multiple_of=LANES)
    return digests
