"""Number-theoretic transforms: the definition, tables of roots, and passes over a cached block.

`transform_up` and `transform_down` work in place on rows of `stride` elements, columns beside one
another, so that every column of a matrix is transformed by the same vector operations. A table of roots
holds, for each half h = 1, 2, 4 ..., the powers g_2h^0 ... g_2h^(h-1) at h ... 2h - 1.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kernels import jit
from kernels.field import MONTY_R, U32, P, inverse, to_monty, two_adic_generator
from kernels.lanes import LANES, add, load, scale, store, sub

_TABLES_KEPT = 24
_ONE = np.uint32(MONTY_R)


def dft(values: Sequence[int], *, shift: int = 1) -> list[int]:
    """The definition: the polynomial with these coefficients on shift * H, natural order. Quadratic."""
    root = two_adic_generator(len(values).bit_length() - 1)
    return [evaluate(values, shift * pow(root, i, P) % P) for i in range(len(values))]


def evaluate(coefficients: Sequence[int], point: int) -> int:
    """Horner's rule."""
    total = 0
    for coefficient in reversed(coefficients):
        total = (total * point + coefficient) % P
    return total


def inverse_dft(values: Sequence[int], *, shift: int = 1) -> list[int]:
    """The definition of interpolation: coefficients from values on shift * H, natural order."""
    n = len(values)
    back = [values[-i % n] for i in range(n)]
    scale_n, unshift = inverse(n), inverse(shift)
    return [c * scale_n * pow(unshift, k, P) % P for k, c in enumerate(dft(back))]


def bit_reversal(bits: int) -> npt.NDArray[np.int64]:
    """The permutation i -> the reversal of its `bits` low bits, int64[2^bits]."""
    indices = np.arange(1 << bits, dtype=np.int64)
    reversed_ = np.zeros_like(indices)
    for bit in range(bits):
        reversed_ |= ((indices >> bit) & 1) << (bits - 1 - bit)
    return reversed_


def powers(base: int, count: int, *, start: int = 1) -> U32:
    """start * base^k for k < count, Montgomery."""
    table = np.array([start % P], dtype=np.uint64)
    while table.size < count:
        step = np.uint64(pow(base, table.size, P))
        table = np.concatenate((table, table * step % np.uint64(P)))
    return to_monty(table[:count])


@lru_cache(maxsize=_TABLES_KEPT)
def roots(log_n: int, *, inverted: bool) -> U32:
    """The table of roots (or of their inverses) for transforms of up to 2^log_n: U32[max(2^log_n, 2)]."""
    n = 1 << log_n
    generator = two_adic_generator(log_n)
    table = np.empty(max(n, 2), np.uint32)
    table[:2] = to_monty([1, 1])
    half = n // 2
    if half:
        table[half:n] = powers(inverse(generator) if inverted else generator, half)
    while half > 1:
        half //= 2
        table[half : 2 * half] = table[2 * half : 4 * half : 2]
    table.flags.writeable = False
    return table


@jit.inline
def _is_power_of_four(rows: int) -> bool:
    return rows & 0x5555_5555 != 0


@jit.inline
def _four_up(
    block: U32, at: int, distance: int, stride: int, inner: np.uint32, outer: np.uint32, last: np.uint32
) -> None:
    """Two layers at once on four rows `distance` elements apart: rows pair as 01, 23, then 02, 13."""
    for v in range(at, at + stride, LANES):
        x0 = load(block, v)
        x1 = scale(load(block, v + distance), inner)
        x2 = load(block, v + 2 * distance)
        x3 = scale(load(block, v + 3 * distance), inner)
        y0, y1 = add(x0, x1), sub(x0, x1)
        y2, y3 = scale(add(x2, x3), outer), scale(sub(x2, x3), last)
        store(block, v, add(y0, y2))
        store(block, v + distance, add(y1, y3))
        store(block, v + 2 * distance, sub(y0, y2))
        store(block, v + 3 * distance, sub(y1, y3))


@jit.inline
def _four_down(
    block: U32, at: int, distance: int, stride: int, inner: np.uint32, outer: np.uint32, last: np.uint32
) -> None:
    """Two layers at once on four rows `distance` elements apart: rows pair as 02, 13, then 01, 23."""
    for v in range(at, at + stride, LANES):
        x0 = load(block, v)
        x1 = load(block, v + distance)
        x2 = load(block, v + 2 * distance)
        x3 = load(block, v + 3 * distance)
        y0, y2 = add(x0, x2), scale(sub(x0, x2), outer)
        y1, y3 = add(x1, x3), scale(sub(x1, x3), last)
        store(block, v, add(y0, y1))
        store(block, v + distance, scale(sub(y0, y1), inner))
        store(block, v + 2 * distance, add(y2, y3))
        store(block, v + 3 * distance, scale(sub(y2, y3), inner))


@jit.inline
def _unit_four_up(block: U32, at: int, distance: int, stride: int, last: np.uint32) -> None:
    """`_four_up` where the other two roots are 1, as they are in the first layers of a whole block."""
    for v in range(at, at + stride, LANES):
        x0, x1 = load(block, v), load(block, v + distance)
        x2, x3 = load(block, v + 2 * distance), load(block, v + 3 * distance)
        y0, y1 = add(x0, x1), sub(x0, x1)
        y2, y3 = add(x2, x3), scale(sub(x2, x3), last)
        store(block, v, add(y0, y2))
        store(block, v + distance, add(y1, y3))
        store(block, v + 2 * distance, sub(y0, y2))
        store(block, v + 3 * distance, sub(y1, y3))


@jit.inline
def _unit_four_down(block: U32, at: int, distance: int, stride: int, last: np.uint32) -> None:
    """`_four_down` where the other two roots are 1."""
    for v in range(at, at + stride, LANES):
        x0, x1 = load(block, v), load(block, v + distance)
        x2, x3 = load(block, v + 2 * distance), load(block, v + 3 * distance)
        y0, y2 = add(x0, x2), sub(x0, x2)
        y1, y3 = add(x1, x3), scale(sub(x1, x3), last)
        store(block, v, add(y0, y1))
        store(block, v + distance, sub(y0, y1))
        store(block, v + 2 * distance, add(y2, y3))
        store(block, v + 3 * distance, sub(y2, y3))


@jit.inline
def transform_up(block: U32, rows: int, stride: int, table: U32) -> None:
    """Decimation in time, in place: bit-reversed order in, natural order out; no scaling.

    `stride` is the elements of a row, a multiple of LANES.
    """
    half = 1
    if not _is_power_of_four(rows):
        for base in range(0, rows, 2):
            root = table[1]
            for v in range(base * stride, (base + 1) * stride, LANES):
                x = load(block, v)
                y = scale(load(block, v + stride), root)
                store(block, v, add(x, y))
                store(block, v + stride, sub(x, y))
        half = 2
    elif rows > 1 and table[1] == _ONE and table[2] == _ONE:
        for base in range(0, rows, 4):
            _unit_four_up(block, base * stride, stride, stride, table[3])
        half = 4
    while half < rows:
        for base in range(0, rows, 4 * half):
            for j in range(half):
                inner, outer, last = table[half + j], table[2 * half + j], table[3 * half + j]
                _four_up(block, (base + j) * stride, half * stride, stride, inner, outer, last)
        half *= 4


@jit.inline
def transform_down(block: U32, rows: int, stride: int, table: U32) -> None:
    """Decimation in frequency, in place: natural order in, bit-reversed order out; no scaling."""
    unit = _is_power_of_four(rows) and rows > 1 and table[1] == _ONE and table[2] == _ONE
    half = rows // 4
    while half > (1 if unit else 0):
        for base in range(0, rows, 4 * half):
            for j in range(half):
                inner, outer, last = table[half + j], table[2 * half + j], table[3 * half + j]
                _four_down(block, (base + j) * stride, half * stride, stride, inner, outer, last)
        half //= 4
    if unit:
        for base in range(0, rows, 4):
            _unit_four_down(block, base * stride, stride, stride, table[3])
    elif not _is_power_of_four(rows):
        for base in range(0, rows, 2):
            root = table[1]
            for v in range(base * stride, (base + 1) * stride, LANES):
                x = load(block, v)
                y = load(block, v + stride)
                store(block, v, add(x, y))
                store(block, v + stride, scale(sub(x, y), root))
