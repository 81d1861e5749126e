"""The tagged sponge one input at a time, on scalars: for an input so long, or so alone, that no other shares a vector.

A sponge is a chain, and lanes without an input of their own make its every step slower. The root of a batch is
the case that matters: thousands of permutations, one after the other, for prover and verifier alike.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import jit, lanes
from kernels.field import U32, P
from kernels.permutation import FieldOps, build_permutation
from kernels.poseidon2 import DIGEST_LEN, RATE_16
from kernels.threads import Pool

I64 = npt.NDArray[np.int64]

FEW = 3
"""Up to so many inputs are faster one by one than side by side."""

_ZERO = np.uint32(0)


@jit.inline
def _constant(table: U32, row: int, column: int) -> Any:
    return table[row, column]


_permute = build_permutation(
    16,
    FieldOps(
        add=lanes.add,
        sub=lanes.sub,
        sbox=lanes.shifted_cube,
        prepare=lambda constants: constants - np.uint32(P),
        divider=lanes.divider,
        constant=_constant,
        inline=jit.inline,
    ),
).permute


@jit.inline
def _element(elements: U32, at: int, end: int) -> Any:
    return elements[at] if at < end else _ZERO


@jit.kernel(
    jit.reads(1),
    jit.reads(1, dtype=jit.i64),
    jit.reads(2),
    jit.reads(1, dtype=jit.i64),
    jit.writes(2),
    jit.writes(2),
    jit.i64,
    jit.i64,
)
def _chains(
    elements: U32, offsets: I64, capacities: U32, first: I64, states: U32, out: U32, start: int, stop: int
) -> None:
    """H_t of inputs start..stop. `capacities` is U32[n, 2], tag and length; the permutations' inputs of input i
    are written from row first[i] of `states` on, unless it has no rows."""
    keep = states.shape[0] > 0
    for i in range(start, stop):
        end = offsets[i + 1]
        s = (
            _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO,
            capacities[i, 0], capacities[i, 1], _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO,
        )  # fmt: skip
        blocks = max(1, (end - offsets[i] + RATE_16 - 1) // RATE_16)
        for block in range(blocks):
            at = offsets[i] + block * RATE_16
            rate = (
                _element(elements, at, end),
                _element(elements, at + 1, end),
                _element(elements, at + 2, end),
                _element(elements, at + 3, end),
                _element(elements, at + 4, end),
                _element(elements, at + 5, end),
                _element(elements, at + 6, end),
                _element(elements, at + 7, end),
            )
            before = rate + s[RATE_16:]
            if keep:
                for k in range(2 * RATE_16):
                    states[first[i] + block, k] = before[k]
            s = _permute(before)
        for k in range(DIGEST_LEN):
            out[i, k] = s[k]


def chains(
    pool: Pool, elements: U32, offsets: I64, capacities: U32, *, first: I64, states: U32, out: U32
) -> None:
    """H_t of n inputs into `out` U32[n, 8]; `states` U32[blocks, 16] takes the permutations' inputs, if it has
    rows, those of input i from `first[i]` on."""
    pool.run_ranges(
        lambda start, stop: _chains(elements, offsets, capacities, first, states, out, start, stop), len(out)
    )
