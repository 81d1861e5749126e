"""Low-degree extension of all columns of a matrix, row-major, in three passes over memory.

Of 2^k rows, position p = q + 2^l * t with l about k/2. The first pass interpolates in blocks of 2^l
consecutive positions, gathering its rows in bit-reversed order; the second takes the rows q + 2^l * t
of one q, ends the interpolation, and for each coset scales the coefficients and begins the evaluation;
the third ends it in blocks of 2^l. Each pass works on a strip of columns in a scratch that the cache
holds. With the coefficients in natural order and zero beyond 2^k, the evaluation on shift * K,
bit-reversed, is one transform of size 2^k for each coset shift * g_K^j, in bit-reversed order of j.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kernels import buffers, jit
from kernels.field import TWO_ADICITY, U32, P, inverse, two_adic_generator
from kernels.lanes import LANES, load, load_first, scale, store, store_first
from kernels.ntt import bit_reversal, powers, roots, transform_down, transform_up
from kernels.threads import Pool

I64 = npt.NDArray[np.int64]

STRIP = 64  # columns at a time: 2^8 rows of them are 64 KiB, which a second-level cache holds twice
_TABLES_KEPT = 12


@jit.inline
def _read_row(matrix: U32, start: int, count: int, block: U32, at: int) -> None:
    """`count` elements of a row to the block, the last vector filled up with zeros."""
    for c in range(0, count, LANES):
        if c + LANES <= count:
            store(block, at + c, load(matrix, start + c))
        else:
            store(block, at + c, load_first(matrix, start + c, count - c))


@jit.inline
def _write_row(matrix: U32, start: int, count: int, block: U32, at: int) -> None:
    for c in range(0, count, LANES):
        if c + LANES <= count:
            store(matrix, start + c, load(block, at + c))
        else:
            store_first(matrix, start + c, load(block, at + c), count - c)


@jit.kernel(
    jit.reads(2), jit.writes(2), jit.reads(1), jit.reads(1, dtype=jit.i64), jit.reads(1, dtype=jit.i64),
    jit.writes(1), jit.i64, jit.i64,
)  # fmt: skip
def _interpolate_blocks(
    values: U32, out: U32, table: U32, low_source: I64, high_source: I64, block: U32, start: int, stop: int
) -> None:
    """Blocks start..stop of the first pass: row q of block b is row low_source[q] + high_source[b] of the
    values. Of `out` it writes the first rows alone, so that the values may be its last."""
    width = values.shape[1]
    rows = low_source.size
    for b in range(start, stop):
        for column in range(0, width, STRIP):
            count = min(STRIP, width - column)
            stride = (count + LANES - 1) // LANES * LANES
            for q in range(rows):
                source = low_source[q] + high_source[b]
                _read_row(values, source * width + column, count, block, q * stride)
            transform_up(block, rows, stride, table)
            for q in range(rows):
                _write_row(out, (b * rows + q) * width + column, count, block, q * stride)


@jit.inline
def _gather_roots(table: U32, q: int, step: int, rows: int, local: U32) -> None:
    """The roots that rows q + step * t, t < rows, meet: local[h + j] = table[step * h + q + step * j]."""
    half = 1
    while half < rows:
        for j in range(half):
            local[half + j] = table[step * (half + j) + q]
        half *= 2


@jit.kernel(
    jit.writes(2), jit.reads(1), jit.reads(1), jit.reads(2), jit.i64, jit.writes(1), jit.writes(1), jit.i64,
    jit.i64,
)  # fmt: skip
def _cross(
    out: U32, inverses: U32, table: U32, scales: U32, step: int, block: U32, local: U32, start: int, stop: int
) -> None:
    """The second pass for q in start..stop: rows q + step * t hold half an interpolation."""
    width = out.shape[1]
    cosets, n = scales.shape
    rows = n // step
    second = rows * STRIP
    for q in range(start, stop):
        _gather_roots(inverses, q, step, rows, local)
        _gather_roots(table, q, step, rows, local[rows:])
        for column in range(0, width, STRIP):
            count = min(STRIP, width - column)
            stride = (count + LANES - 1) // LANES * LANES
            for t in range(rows):
                _read_row(out, (q + step * t) * width + column, count, block, t * stride)
            transform_up(block, rows, stride, local)
            for coset in range(cosets):
                for t in range(rows):
                    factor = scales[coset, q + step * t]
                    for v in range(t * stride, (t + 1) * stride, LANES):
                        store(block, second + v, scale(load(block, v), factor))
                transform_down(block[second:], rows, stride, local[rows:])
                for t in range(rows):
                    at = (coset * n + q + step * t) * width + column
                    _write_row(out, at, count, block, second + t * stride)


@jit.kernel(jit.writes(2), jit.reads(1), jit.i64, jit.writes(1), jit.i64, jit.i64)
def _evaluate_blocks(out: U32, table: U32, rows: int, block: U32, start: int, stop: int) -> None:
    """Blocks start..stop of the third pass."""
    width = out.shape[1]
    for b in range(start, stop):
        for column in range(0, width, STRIP):
            count = min(STRIP, width - column)
            stride = (count + LANES - 1) // LANES * LANES
            for q in range(rows):
                _read_row(out, (b * rows + q) * width + column, count, block, q * stride)
            transform_down(block, rows, stride, table)
            for q in range(rows):
                _write_row(out, (b * rows + q) * width + column, count, block, q * stride)


@lru_cache(maxsize=_TABLES_KEPT)
def _scales(log_n: int, log_blowup: int, out_shift: int, in_shift: int) -> U32:
    """U32[2^log_blowup, 2^log_n]: (coset's shift / in_shift)^k / n, cosets in bit-reversed order."""
    n = 1 << log_n
    generator = two_adic_generator(log_n + log_blowup)
    ratio = out_shift * inverse(in_shift) % P
    table = np.empty((1 << log_blowup, n), np.uint32)
    for coset, exponent in enumerate(bit_reversal(log_blowup)):
        table[coset] = powers(ratio * pow(generator, int(exponent), P) % P, n, start=inverse(n))
    table.flags.writeable = False
    return table


def coset_lde(
    pool: Pool,
    values: U32,
    *,
    log_blowup: int,
    out_shift: int = 3,
    in_shift: int = 1,
    bit_reversed: bool = False,
    out: U32 | None = None,
) -> U32:
    """See `Backend.coset_lde`: U32[n, w] -> U32[n << log_blowup, w]. `bit_reversed` values are in that order
    already."""
    n, width = values.shape
    log_n = n.bit_length() - 1
    assert n == 1 << log_n, f"{n} rows are no power of two"
    assert 0 <= log_blowup <= TWO_ADICITY - log_n, (n, log_blowup)
    assert out_shift % P != 0, "a coset's shift is not zero"
    assert in_shift % P != 0, "a coset's shift is not zero"
    values = np.ascontiguousarray(values)
    out = out if out is not None else buffers.empty((n << log_blowup, width))
    assert out.shape == (n << log_blowup, width), (out.shape, values.shape)
    assert out.flags.c_contiguous, "the extension's rows follow one another"
    assert not np.may_share_memory(values, out[:n]), "the first rows are written before all values are read"
    if width == 0:
        return out
    log_low = (log_n + 1) // 2
    low, high = 1 << log_low, 1 << (log_n - log_low)
    forward, backward = roots(log_n, inverted=False), roots(log_n, inverted=True)
    scales = _scales(log_n, log_blowup, out_shift, in_shift)
    if bit_reversed:
        low_source, high_source = np.arange(low), low * np.arange(high)
    else:
        low_source, high_source = high * bit_reversal(log_low), bit_reversal(log_n - log_low)

    def interpolate(start: int, stop: int) -> None:
        block = np.empty(low * STRIP, np.uint32)
        _interpolate_blocks(values, out, backward, low_source, high_source, block, start, stop)

    def cross(start: int, stop: int) -> None:
        block, local = np.empty(2 * high * STRIP, np.uint32), np.empty(2 * high, np.uint32)
        _cross(out, backward, forward, scales, low, block, local, start, stop)

    def evaluate(start: int, stop: int) -> None:
        _evaluate_blocks(out, forward, low, np.empty(low * STRIP, np.uint32), start, stop)

    smallest = max(1, 4096 // (low * width))
    pool.run_ranges(interpolate, high, smallest)
    pool.run_ranges(cross, low, smallest)
    pool.run_ranges(evaluate, high << log_blowup, smallest)
    return out
