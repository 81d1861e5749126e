"""Rows of the Poseidon2 AIR: the 164 columns that one permutation of width 16 leaves behind."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import jit
from kernels.field import U32
from kernels.hashing import PERMUTATION_16, ROWS_A_RANGE
from kernels.interleave import store_rows
from kernels.lanes import LANES, load_block
from kernels.poseidon2 import HALF_EXTERNAL_ROUNDS, ROUND_CONSTANTS_16, TRACE_WIDTH
from kernels.threads import Pool

I64 = npt.NDArray[np.int64]

_WIDTH = 16
_INTERNAL_ROUNDS = len(ROUND_CONSTANTS_16.internal)
_INTERNAL_START = _WIDTH * (1 + HALF_EXTERNAL_ROUNDS)
_FINAL_START = _INTERNAL_START + _INTERNAL_ROUNDS

_external_layer = PERMUTATION_16.external_layer
_external_round = PERMUTATION_16.external_round
_internal_cube = PERMUTATION_16.internal_cube
_internal_layer = PERMUTATION_16.internal_layer


@jit.inline
def trace_rows(state: Any, out: U32, rows: I64) -> Any:
    """Permute, and write the columns of lane j's permutation to the row rows[j] of `out`; lanes of the same row
    must be equal. Returns the state after it."""
    stride = out.strides[0] // 4
    store_rows(out, rows, stride, 0, state)
    state = _external_layer(state)
    for half in range(2):
        first = _FINAL_START * half + _WIDTH * (1 - half)
        for r in range(HALF_EXTERNAL_ROUNDS):
            state = _external_round(state, half * HALF_EXTERNAL_ROUNDS + r)
            store_rows(out, rows, stride, first + r * _WIDTH, state)
        for r in range(_INTERNAL_ROUNDS * (1 - half)):
            cube = _internal_cube(state[0], r)
            store_rows(out, rows, stride, _INTERNAL_START + r, (cube,))
            state = _internal_layer(cube, state)
    return state


@jit.kernel(
    jit.reads(2), jit.reads(1, dtype=jit.i64), jit.writes(2, layout="A"), jit.writes(1, dtype=jit.i64),
    jit.i64, jit.i64,
)  # fmt: skip
def _trace(inputs: U32, rows: I64, out: U32, places: I64, start: int, stop: int) -> None:
    """Input i to row rows[i], for i in start..stop; `places` is I64[LANES] of this range alone."""
    for row in range(start, stop, LANES):
        for j in range(LANES):
            places[j] = rows[min(row + j, stop - 1)]
        trace_rows(load_block(inputs, row, stop - 1, _WIDTH, 0), out, places)


def permutation_trace(pool: Pool, inputs: U32, *, out: U32, rows: I64 | None = None) -> U32:
    """Write `poseidon2.trace_row` of U32[n, 16] to `out[:, :164]`, see `Backend.permutation_trace`; with `rows`
    I64[n] input i goes to the row rows[i]."""
    assert inputs.shape == (len(inputs), _WIDTH), inputs.shape
    assert out.shape[1] >= TRACE_WIDTH, out.shape
    assert out.strides[1] == 4, "the columns of a row must be contiguous"
    if rows is None:
        assert out.shape[0] == len(inputs), (out.shape, inputs.shape)
        rows = np.arange(len(inputs))
    assert rows.shape == (len(inputs),), (rows.shape, inputs.shape)
    inputs = np.ascontiguousarray(inputs)
    pool.run_ranges(
        lambda a, b: _trace(inputs, rows, out, np.empty(LANES, np.int64), a, b),
        len(inputs),
        ROWS_A_RANGE,
        multiple_of=LANES,
    )
    return out
