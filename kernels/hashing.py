"""Poseidon2 on the CPU: batches of permutations, leaf rows, compressions and tagged hashes.

Each vector lane works on its own row. All functions take and give Montgomery form and equal the
definitions of `kernels.poseidon2`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import chain, jit, lanes
from kernels.field import U32, P, to_monty
from kernels.lanes import BLOCK, LANES, load_block, load_block_over, splat, store, store_block
from kernels.permutation import FieldOps, build_permutation
from kernels.poseidon2 import DIGEST_LEN, RATE_16
from kernels.threads import Pool

ROWS_A_RANGE = 16 * LANES  # below this a thread costs more than it saves
_NO_STATES: U32 = np.empty((0, 16), np.uint32)

I64 = npt.NDArray[np.int64]


@jit.inline
def _constant(table: U32, row: int, column: int) -> Any:
    return splat(table[row, column])


PERMUTATION_16, PERMUTATION_24 = (
    build_permutation(
        width,
        FieldOps(
            add=lanes.add,
            sub=lanes.sub,
            sbox=lanes.shifted_cube,
            prepare=lambda constants: constants - np.uint32(P),
            divider=lanes.divider,
            constant=_constant,
            inline=jit.inline,
        ),
    )
    for width in (16, 24)
)
permute_16 = PERMUTATION_16.permute
permute_24 = PERMUTATION_24.permute
_zeros_8, _zeros_16, _zeros_24 = lanes.zeros(8), lanes.zeros(16), lanes.zeros(24)
_load_2, _load_8 = lanes.loader(2), lanes.loader(8)


@jit.kernel(jit.reads(2), jit.writes(2), jit.i64, jit.i64)
def _permute_16(states: U32, out: U32, start: int, stop: int) -> None:
    """Rows start..stop of U32[n, 16]; the width of `out` says whether 16 elements are kept or 8."""
    width = out.shape[1]
    for row in range(start, stop, LANES):
        state = permute_16(load_block(states, row, stop - 1, 16, 0))
        store_block(out, row, stop - 1, width, 0, state[:8])
        if width == 16:
            store_block(out, row, stop - 1, width, 8, state[8:])


@jit.kernel(jit.reads(2), jit.writes(2), jit.i64, jit.i64)
def _permute_24(states: U32, out: U32, start: int, stop: int) -> None:
    for row in range(start, stop, LANES):
        rate = load_block(states, row, stop - 1, 24, 0)
        capacity = load_block_over(states, row, stop - 1, 24, BLOCK, 8, _zeros_16())
        state = permute_24(rate + capacity[:8])
        store_block(out, row, stop - 1, 24, 0, state[:BLOCK])
        store_block(out, row, stop - 1, 24, BLOCK, state[BLOCK:])


@jit.kernel(jit.reads(2), jit.writes(2), jit.i64, jit.i64)
def _sponge_24(rows: U32, out: U32, start: int, stop: int) -> None:
    """`poseidon2.sponge24` of rows start..stop."""
    width = rows.shape[1]
    for row in range(start, stop, LANES):
        state = _zeros_24()
        for column in range(0, width, BLOCK):
            if width - column >= BLOCK:
                rate = load_block(rows, row, stop - 1, width, column)
            else:
                rate = load_block_over(rows, row, stop - 1, width, column, width - column, state)
            state = permute_24(rate + state[BLOCK:])
        store_block(out, row, stop - 1, DIGEST_LEN, 0, state[:8])


@jit.kernel(
    jit.reads(1),
    jit.reads(1, dtype=jit.i64),
    jit.reads(2),
    jit.reads(1, dtype=jit.i64),
    jit.writes(2),
    jit.writes(1),
    jit.i64,
    jit.i64,
)
def _tagged(
    elements: U32,
    offsets: I64,
    capacities: U32,
    order: I64,
    out: U32,
    scratch: U32,
    start: int,
    stop: int,
) -> None:
    """H_t of the inputs order[start..stop], sorted by length so that lanes finish together.

    `capacities` is U32[n, 2], tag and length; `scratch` is U32[8 * LANES] of this range alone.
    """
    for group in range(start, stop, LANES):
        blocks = 1
        for j in range(LANES):
            i = order[min(group + j, stop - 1)]
            scratch[j] = capacities[i, 0]
            scratch[LANES + j] = capacities[i, 1]
            blocks = max(blocks, (offsets[i + 1] - offsets[i] + RATE_16 - 1) // RATE_16)
        state = _zeros_8() + _load_2(scratch, 0) + _zeros_8()[:6]
        for block in range(blocks):
            for j in range(LANES):
                i = order[min(group + j, stop - 1)]
                first = offsets[i] + block * RATE_16
                for k in range(RATE_16):
                    within = first + k < offsets[i + 1]
                    scratch[k * LANES + j] = elements[first + k] if within else np.uint32(0)
            state = permute_16(_load_8(scratch, 0) + state[8:])
            for k in range(DIGEST_LEN):
                store(scratch, k * LANES, state[k])
            for j in range(min(LANES, stop - group)):
                i = order[group + j]
                if max(1, (offsets[i + 1] - offsets[i] + RATE_16 - 1) // RATE_16) == block + 1:
                    for k in range(DIGEST_LEN):
                        out[i, k] = scratch[k * LANES + j]


def permute(pool: Pool, states: U32) -> U32:
    """Poseidon2 of every row of U32[n, 16] or U32[n, 24]."""
    assert states.shape[1:] in ((16,), (24,)), states.shape
    states = np.ascontiguousarray(states)
    out = np.empty_like(states)
    kernel = _permute_16 if states.shape[1] == 16 else _permute_24
    pool.run_ranges(lambda a, b: kernel(states, out, a, b), len(states), ROWS_A_RANGE, multiple_of=LANES)
    return out


def hash_rows(pool: Pool, rows: U32) -> U32:
    """Leaf digests of U32[q, w]: U32[q, 8]."""
    assert rows.ndim == 2, rows.shape
    rows = np.ascontiguousarray(rows)
    out = np.empty((len(rows), DIGEST_LEN), np.uint32)
    pool.run_ranges(lambda a, b: _sponge_24(rows, out, a, b), len(rows), ROWS_A_RANGE, multiple_of=LANES)
    return out


def compress_adjacent(pool: Pool, pairs: U32) -> U32:
    """Compression of each row of U32[q, 16], two digests side by side: U32[q, 8]."""
    assert pairs.shape[1:] == (2 * DIGEST_LEN,), pairs.shape
    out = np.empty((len(pairs), DIGEST_LEN), np.uint32)
    pool.run_ranges(lambda a, b: _permute_16(pairs, out, a, b), len(pairs), ROWS_A_RANGE, multiple_of=LANES)
    return out


def compress_pairs(pool: Pool, left: U32, right: U32) -> U32:
    """Compression of U32[q, 8] with U32[q, 8], row by row: U32[q, 8]."""
    assert left.shape == right.shape == (len(left), DIGEST_LEN), (left.shape, right.shape)
    return compress_adjacent(pool, np.concatenate((left, right), axis=1))


def hash_tagged(pool: Pool, elements: U32, offsets: I64, tags: U32) -> U32:
    """H_t of n inputs, see `Backend.hash_tagged`: U32[n, 8]."""
    count = len(tags)
    elements, offsets = np.ascontiguousarray(elements), np.ascontiguousarray(offsets)
    assert offsets.shape == (count + 1,), (offsets.shape, count)
    assert (offsets[0], offsets[-1]) == (0, elements.size), "the offsets do not span the elements"
    lengths = np.diff(offsets)
    assert (lengths >= 0).all(), "the offsets do not rise"
    capacities = to_monty(np.stack((tags.astype(np.int64), lengths), axis=1))
    out = np.empty((count, DIGEST_LEN), np.uint32)
    if count <= chain.FEW:
        chain.chains(pool, elements, offsets, capacities, first=offsets, states=_NO_STATES, out=out)
        return out
    order = np.argsort(lengths, kind="stable")

    def run(start: int, stop: int) -> None:
        scratch = np.empty(RATE_16 * LANES, np.uint32)
        _tagged(elements, offsets, capacities, order, out, scratch, start, stop)

    pool.run_ranges(run, count, LANES, multiple_of=LANES)
    return out
