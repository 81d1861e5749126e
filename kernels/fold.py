"""One FRI folding round: 2^k consecutive bit-reversed values of a polynomial's evaluations become one.

A fold is k binary folds with beta, beta^2, beta^4, ...; a binary fold of the values lo, hi at x and -x gives
the even part plus beta times the odd part: (lo + hi) / 2 + beta (lo - hi) / (2 x). Source: proof.md section
5; Plonky3 p3-fri 0.6.2, ``TwoAdicFriFolding``.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from kernels import field
from kernels.extension import ext_add, ext_mul, ext_scale, ext_sub
from kernels.field import U32, Ext
from kernels.interleave import load8, store4
from kernels.jit import i64, inline, kernel, reads, writes
from kernels.lanes import LANES, load, splat
from kernels.threads import Pool

_MIN_CHUNK = 1024
_HALF = np.uint32(field.monty(field.inverse(2)))


def bit_reversed_powers(base: int, log_count: int) -> U32:
    """base^bitrev(r) for r = 0 ... 2^log_count - 1, base canonical: U32[2^log_count], Montgomery form."""
    powers = np.array([field.MONTY_R], dtype=np.uint64)
    for bit in range(log_count - 1, -1, -1):
        step = np.uint64(field.power(base, 1 << bit))
        powers = np.concatenate((powers, powers * step % np.uint64(field.P)))
    return powers.astype(np.uint32)


def read_only(table: U32) -> U32:
    """The same table, which several callers will hold, protected against writes."""
    table.flags.writeable = False
    return table


@lru_cache(maxsize=4)
def _halves_over_x(log_size: int) -> U32:
    """1 / (2 x_j) for the 2^(log_size - 1) pairs of a bit-reversed vector.

    Its first half is the same table for a vector of half the size, so one table serves all rounds of a proof.
    """
    root = field.inverse(field.two_adic_generator(log_size))
    inverses = bit_reversed_powers(root, log_size - 1).astype(np.uint64)
    return read_only((inverses * np.uint64(field.inverse(2)) % np.uint64(field.P)).astype(np.uint32))


@inline
def _fold_pair(low: Any, high: Any, beta: Any, half: Any, half_over_x: Any) -> Any:
    """(low + high) / 2 + beta (low - high) / (2 x)."""
    odd = ext_mul(beta, ext_scale(half_over_x, ext_sub(low, high)))
    return ext_add(ext_scale(half, ext_add(low, high)), odd)


@kernel(reads(2), reads(1), reads(1), writes(2), i64, i64)
def _binary_fold(values: Any, beta: Any, halves_over_x: Any, out: Any, start: int, stop: int) -> None:
    """out[row] from the pair values[2 row], values[2 row + 1], start <= row < stop; vectors first, then the
    rest."""
    vectors_end = start + (stop - start) // LANES * LANES
    challenges = (splat(beta[0]), splat(beta[1]), splat(beta[2]), splat(beta[3]))
    for row in range(start, vectors_end, LANES):
        l0, l1, l2, l3, h0, h1, h2, h3 = load8(values, i64(8 * row))
        factor = load(halves_over_x, i64(row))
        folded = _fold_pair((l0, l1, l2, l3), (h0, h1, h2, h3), challenges, splat(_HALF), factor)
        store4(out, i64(4 * row), folded)
    challenge = (beta[0], beta[1], beta[2], beta[3])
    for row in range(vectors_end, stop):
        i, j = 2 * row, 2 * row + 1
        low = (values[i, 0], values[i, 1], values[i, 2], values[i, 3])
        high = (values[j, 0], values[j, 1], values[j, 2], values[j, 3])
        folded = _fold_pair(low, high, challenge, _HALF, halves_over_x[row])
        out[row, 0], out[row, 1], out[row, 2], out[row, 3] = folded


def fold(pool: Pool, values: U32, *, beta: Ext, log_arity: int) -> U32:
    """Fold U32[m, 4], bit-reversed evaluations on the subgroup of order m, by 2^log_arity: U32[m >>
    log_arity, 4].

    ``beta`` is canonical. The result is bit-reversed evaluations on the subgroup of the 2^log_arity-th
    powers.
    """
    size = values.shape[0]
    log_size = size.bit_length() - 1
    assert values.shape == (1 << log_size, 4), values.shape
    assert 1 <= log_arity <= log_size, (log_arity, log_size)
    for _ in range(log_arity):
        out = np.empty((values.shape[0] // 2, 4), dtype=np.uint32)
        _fold_once(pool, values, field.to_monty(beta), _halves_over_x(log_size)[: len(out)], out)
        values, beta = out, field.ext_mul(beta, beta)
    return values


def _fold_once(pool: Pool, values: U32, beta: U32, halves_over_x: U32, out: U32) -> None:
    pool.run_ranges(
        lambda start, stop: _binary_fold(values, beta, halves_over_x, out, start, stop),
        len(out),
        _MIN_CHUNK,
        multiple_of=LANES,
    )
