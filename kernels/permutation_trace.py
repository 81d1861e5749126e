"""Rows of the Poseidon2 AIR: the 164 columns that one permutation of width 16 leaves behind."""

import numpy as np

from kernels import jit
from kernels.field import U32
from kernels.hashing import PERMUTATION_16, ROWS_A_RANGE
from kernels.lanes import LANES, load_block, store_block
from kernels.poseidon2 import HALF_EXTERNAL_ROUNDS, ROUND_CONSTANTS_16, TRACE_WIDTH
from kernels.threads import Pool

_WIDTH = 16
_INTERNAL_ROUNDS = len(ROUND_CONSTANTS_16.internal)
_INTERNAL_START = _WIDTH * (1 + HALF_EXTERNAL_ROUNDS)
_FINAL_START = _INTERNAL_START + _INTERNAL_ROUNDS

_external_layer = PERMUTATION_16.external_layer
_external_round = PERMUTATION_16.external_round
_internal_cube = PERMUTATION_16.internal_cube
_internal_layer = PERMUTATION_16.internal_layer


@jit.kernel(jit.reads(2), jit.writes(2, layout="A"), jit.i64, jit.i64)
def _trace(inputs: U32, out: U32, start: int, stop: int) -> None:
    stride = out.strides[0] // 4
    for row in range(start, stop, LANES):
        state = load_block(inputs, row, stop - 1, _WIDTH, 0)
        store_block(out, row, stop - 1, stride, 0, state)
        state = _external_layer(state)
        for half in range(2):
            first = _FINAL_START * half + _WIDTH * (1 - half)
            for r in range(HALF_EXTERNAL_ROUNDS):
                state = _external_round(state, half * HALF_EXTERNAL_ROUNDS + r)
                store_block(out, row, stop - 1, stride, first + r * _WIDTH, state)
            for r in range(_INTERNAL_ROUNDS * (1 - half)):
                cube = _internal_cube(state[0], r)
                store_block(out, row, stop - 1, stride, _INTERNAL_START + r, (cube,))
                state = _internal_layer(cube, state)


def permutation_trace(pool: Pool, inputs: U32, *, out: U32) -> U32:
    """Write `poseidon2.trace_row` of U32[n, 16] to `out[:, :164]`, see `Backend.permutation_trace`."""
    assert inputs.shape == (len(inputs), _WIDTH), inputs.shape
    assert out.shape[0] == len(inputs), (out.shape, inputs.shape)
    assert out.shape[1] >= TRACE_WIDTH, out.shape
    assert out.strides[1] == 4, "the columns of a row must be contiguous"
    inputs = np.ascontiguousarray(inputs)
    pool.run_ranges(lambda a, b: _trace(inputs, out, a, b), len(inputs), ROWS_A_RANGE, multiple_of=LANES)
    return out
