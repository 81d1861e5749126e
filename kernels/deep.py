"""Evaluating committed columns outside their domain, and the quotients that prove the values (DEEP).

1. `open_columns`: each column's polynomial at a point z, barycentrically from its n values on s * H:
   f(z) = ((z/s)^n - 1) / n * sum_i f(s h^i) h^i / (z/s - h^i). At z h the same weights serve, one row on.
2. `combine_columns`: F(x) = sum_k c_k f_k(x) on every row, the random combination of the columns. 3.
`reduced_opening`: the sum over openings of (F(z) - F(x)) / (z - x) on every row, of low degree only if every
F(z) is the combination of the columns' true values.

Source: proof.md section 5; Plonky3 p3-fri 0.6.2 ``TwoAdicFriPcs::open``, p3-interpolation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import extension, field
from kernels.extension import base_inverse, ext_add, ext_mul, ext_sub, inverse_from_parts, norm_parts
from kernels.field import U32, Ext
from kernels.fold import bit_reversed_powers, read_only
from kernels.interleave import load4, prefetch, store4
from kernels.jit import i64, inline, kernel, reads, u64, writes
from kernels.lanes import LANES, load, load_first, mul, splat, store, sub
from kernels.lde import coset_lde
from kernels.ntt import bit_reversal
from kernels.threads import Pool
from kernels.wide import load_wide, mac, mac2, mac2_scalar, reduce, store_wide, sum_wide, zero_wide

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_ONE = np.uint32(field.MONTY_R)
_BATCH = 64 * LANES  # elements that share one inversion
_ROW_TILE = 32  # rows that stay in the first-level cache while all column vectors pass over them
_LINE = 16  # elements of a cache line
_MIN_CHUNK = 1024


def powers(base: int, count: int) -> U32:
    """1, base, base^2, ...: U32[count] in Montgomery form, base canonical, count a power of two."""
    table = np.array([field.MONTY_R], dtype=np.uint64)
    while table.size < count:
        step = np.uint64(field.power(base, table.size))
        table = np.concatenate((table, table * step % np.uint64(field.P)))
    return table.astype(np.uint32)


@lru_cache(maxsize=4)
def subgroup(log_rows: int) -> U32:
    """The subgroup of order 2^log_rows in natural order."""
    return read_only(powers(field.two_adic_generator(log_rows), 1 << log_rows))


@lru_cache(maxsize=8)
def bit_reversed_coset(shift: int, log_rows: int) -> U32:
    """shift * the subgroup of order 2^log_rows, bit-reversed: where row i of a low-degree extension lies."""
    plain = bit_reversed_powers(field.two_adic_generator(log_rows), log_rows).astype(np.uint64)
    return read_only((plain * np.uint64(shift) % np.uint64(field.P)).astype(np.uint32))


@kernel(reads(1), reads(1), writes(2), i64, i64)
def _inverse_differences(point: Any, xs: Any, out: Any, start: int, stop: int) -> None:
    """out[i] = 1 / (point - xs[i]), start <= i < stop, both multiples of LANES (Montgomery's simultaneous
    inversion)."""
    prefix = np.empty(_BATCH, dtype=np.uint32)
    parts0 = np.empty(_BATCH, dtype=np.uint32)
    parts1 = np.empty(_BATCH, dtype=np.uint32)
    norms = np.empty(_BATCH, dtype=np.uint32)
    p0, p1, p2, p3 = splat(point[0]), splat(point[1]), splat(point[2]), splat(point[3])
    for first in range(start, stop, _BATCH):
        count = min(_BATCH, stop - first)
        product = splat(_ONE)
        for at in range(0, count, LANES):
            n0, n1, norm = norm_parts((sub(p0, load(xs, i64(first + at))), p1, p2, p3))
            store(parts0, i64(at), n0)
            store(parts1, i64(at), n1)
            store(norms, i64(at), norm)
            store(prefix, i64(at), product)
            product = mul(product, norm)
        running = base_inverse(product)
        for at in range(count - LANES, -1, -LANES):
            norm_inverse = mul(running, load(prefix, i64(at)))
            running = mul(running, load(norms, i64(at)))
            difference = (sub(p0, load(xs, i64(first + at))), p1, p2, p3)
            inverse = inverse_from_parts(
                difference, load(parts0, i64(at)), load(parts1, i64(at)), norm_inverse
            )
            store4(out, i64(4 * (first + at)), inverse)


@kernel(reads(2), reads(1), writes(2, dtype=u64), i64, i64)
def _scale_rows(values: Any, factors: Any, out: Any, start: int, stop: int) -> None:
    """out[row] = values[row] * factors[row], an extension element and one of the base field."""
    for row in range(start, stop):
        for k in range(4):
            out[row, k] = mul(values[row, k], factors[row])


@inline
def _load_columns(values: Any, row: Any, column: Any) -> Any:
    """`LANES` columns of a row from `column` on, zero beyond the row's end."""
    width = values.shape[1]
    if column + LANES <= width:
        return load(values, i64(row * width + column))
    return load_first(values, i64(row * width + column), i64(width - column))


@kernel(reads(2), reads(2, dtype=u64), writes(2), i64, i64)
def _column_sums(values: Any, weights: Any, out: Any, start: int, stop: int) -> None:
    """out[k, c] = sum of values[row, c] * weights[row, k] over start <= row < stop, an even number of
    rows."""
    width, plane = values.shape[1], out.shape[1]
    lines_each = -(-_ROW_TILE * LANES // _LINE)
    sums = np.zeros(4 * plane, dtype=np.uint64)
    for tile in range(start, stop, _ROW_TILE):
        end = min(tile + _ROW_TILE, stop)
        # A tile is read column by column, which no hardware prefetcher follows: ask for the next one
        # meanwhile.
        line, last_line = i64(end * width), i64((end + _ROW_TILE) * width)
        for column in range(0, plane, LANES):
            for _ in range(lines_each):
                prefetch(values, min(line, last_line))
                line += _LINE
            s0, s1 = load_wide(sums, i64(column)), load_wide(sums, i64(plane + column))
            s2, s3 = load_wide(sums, i64(2 * plane + column)), load_wide(sums, i64(3 * plane + column))
            for row in range(tile, end, 2):
                x, y = _load_columns(values, row, column), _load_columns(values, row + 1, column)
                s0 = mac2_scalar(s0, x, weights[row, 0], y, weights[row + 1, 0])
                s1 = mac2_scalar(s1, x, weights[row, 1], y, weights[row + 1, 1])
                s2 = mac2_scalar(s2, x, weights[row, 2], y, weights[row + 1, 2])
                s3 = mac2_scalar(s3, x, weights[row, 3], y, weights[row + 1, 3])
            store_wide(sums, i64(column), s0)
            store_wide(sums, i64(plane + column), s1)
            store_wide(sums, i64(2 * plane + column), s2)
            store_wide(sums, i64(3 * plane + column), s3)
    for offset in range(0, 4 * plane, LANES):
        store(out, i64(offset), reduce(load_wide(sums, i64(offset))))


@inline
def _weight(coefficients: Any, k: Any, column: Any) -> Any:
    return load(coefficients, i64(k * coefficients.shape[1] + column))


@kernel(reads(2), reads(2), writes(2), i64, i64)
def _combine(values: Any, coefficients: Any, out: Any, start: int, stop: int) -> None:
    """out[row, k] = sum over columns of values[row, c] * coefficients[k, c]; coefficients beyond the width
    are 0."""
    width = values.shape[1]
    pairs_end = width - width % (2 * LANES)
    for row in range(start, stop):
        s0, s1, s2, s3 = zero_wide(), zero_wide(), zero_wide(), zero_wide()
        for c in range(0, pairs_end, 2 * LANES):
            x, y = load(values, i64(row * width + c)), load(values, i64(row * width + c + LANES))
            s0 = mac2(s0, x, _weight(coefficients, 0, c), y, _weight(coefficients, 0, c + LANES))
            s1 = mac2(s1, x, _weight(coefficients, 1, c), y, _weight(coefficients, 1, c + LANES))
            s2 = mac2(s2, x, _weight(coefficients, 2, c), y, _weight(coefficients, 2, c + LANES))
            s3 = mac2(s3, x, _weight(coefficients, 3, c), y, _weight(coefficients, 3, c + LANES))
        for c in range(pairs_end, width, LANES):
            x = load_first(values, i64(row * width + c), i64(min(width - c, LANES)))
            s0 = mac(s0, x, _weight(coefficients, 0, c))
            s1 = mac(s1, x, _weight(coefficients, 1, c))
            s2 = mac(s2, x, _weight(coefficients, 2, c))
            s3 = mac(s3, x, _weight(coefficients, 3, c))
        out[row, 0], out[row, 1] = reduce(sum_wide(s0)), reduce(sum_wide(s1))
        out[row, 2], out[row, 3] = reduce(sum_wide(s2)), reduce(sum_wide(s3))


@kernel(reads(2), reads(2), reads(1), reads(1), writes(2), i64, i64)
def _add_opening(
    combined: Any, inverses: Any, value: Any, scale: Any, out: Any, start: int, stop: int
) -> None:
    """out += scale * (value - combined) * inverses on rows start <= row < stop, multiples of LANES."""
    v = (splat(value[0]), splat(value[1]), splat(value[2]), splat(value[3]))
    s = (splat(scale[0]), splat(scale[1]), splat(scale[2]), splat(scale[3]))
    for row in range(start, stop, LANES):
        difference = ext_sub(v, load4(combined, i64(4 * row)))
        term = ext_mul(s, ext_mul(difference, load4(inverses, i64(4 * row))))
        store4(out, i64(4 * row), ext_add(load4(out, i64(4 * row)), term))


def inverse_differences(pool: Pool, xs: U32, *, point: Ext) -> U32:
    """1 / (point - x) for every x of U32[m], elements of the base field: U32[m, 4].

    ``point`` is canonical and none of the xs: one zero difference would spoil its whole batch.
    """
    size = xs.size
    if size % LANES:
        xs = np.concatenate((xs, np.full(LANES - size % LANES, xs[0], dtype=np.uint32)))
    out = np.empty((xs.size, 4), dtype=np.uint32)
    target = field.to_monty(point)
    pool.run_ranges(
        lambda start, stop: _inverse_differences(target, xs, out, start, stop),
        xs.size,
        _MIN_CHUNK,
        multiple_of=LANES,
    )
    return out[:size]


def open_columns(pool: Pool, values: U32, *, point: Ext, shift: int = 1, with_next: bool = False) -> U32:
    """Every column's polynomial at ``point``, and at point * h too if ``with_next``: U32[1 or 2, w, 4].

    ``values`` is U32[n, w] on shift * H in natural order, n a power of two, h the generator of H. ``point``
    and ``shift`` are canonical; the point must not lie in the coset.
    """
    rows = len(values)
    log_rows = rows.bit_length() - 1
    assert rows == 1 << log_rows, f"{rows} rows"
    assert rows >= 2, "rows are summed by twos"
    unshifted = field.ext_scale(field.inverse(shift), point)
    weights, factor = _barycentric(pool, subgroup(log_rows), unshifted)
    points = [weights, np.roll(weights, 1, axis=0)] if with_next else [weights]
    return np.stack([extension.scale_all(_column_sums_of(pool, values, each), factor) for each in points])


def open_extended(pool: Pool, lde: U32, *, log_rows: int, point: Ext, with_next: bool = False) -> U32:
    """As `open_columns` for the columns whose low-degree extension ``lde`` is: its first 2^log_rows rows are
    their values on 3 H, bit-reversed, and determine them."""
    unshifted = field.ext_scale(field.inverse(field.GENERATOR), point)
    weights, factor = _barycentric(pool, bit_reversed_coset(1, log_rows), unshifted)
    points = [weights, weights[_rows_before(log_rows)]] if with_next else [weights]
    values = lde[: 1 << log_rows]
    return np.stack([extension.scale_all(_column_sums_of(pool, values, each), factor) for each in points])


@lru_cache(maxsize=4)
def _rows_before(log_rows: int) -> I64:
    """Of every row of bit-reversed values on a coset of H, the place of the row before it in natural order."""
    natural = bit_reversal(log_rows)
    places: I64 = natural[(natural - 1) % natural.size]
    places.flags.writeable = False
    return places


def _barycentric(pool: Pool, xs: U32, point: Ext) -> tuple[U64, Ext]:
    """The weights U64[n, 4] of values on H, whose elements xs are in any order, and the factor of their sum."""
    rows = xs.size
    weights = np.empty((rows, 4), dtype=np.uint64)
    _scale_rows(inverse_differences(pool, xs, point=point), xs, weights, 0, rows)
    vanishing = field.ext_sub(field.ext_power(point, rows), field.EXT_ONE)
    return weights, field.ext_scale(field.inverse(rows), vanishing)


def _column_sums_of(pool: Pool, values: U32, weights: U64) -> U32:
    """The sum over rows of values[row, c] * weights[row], weights U64[rows, 4] of elements below p: U32[w,
    4]."""
    rows, width = values.shape
    partial_sums: list[U32] = []

    def run(start: int, stop: int) -> None:
        out = np.empty((4, -(-width // LANES) * LANES), dtype=np.uint32)
        _column_sums(values, weights, out, start, stop)
        partial_sums.append(out)

    pool.run_ranges(run, rows, _MIN_CHUNK, multiple_of=2)
    total: U64 = np.stack(partial_sums).sum(axis=0, dtype=np.uint64) % np.uint64(field.P)
    return np.ascontiguousarray(total[:, :width].T, dtype=np.uint32)


def combine_columns(pool: Pool, values: U32, *, coefficients: U32) -> U32:
    """The combination of the columns of U32[m, w] with coefficients U32[w, 4] on every row: U32[m, 4]."""
    rows, width = values.shape
    assert coefficients.shape == (width, 4), (coefficients.shape, width)
    planes = np.zeros((4, -(-width // LANES) * LANES), dtype=np.uint32)
    planes[:, :width] = coefficients.T
    out = np.empty((rows, 4), dtype=np.uint32)
    pool.run_ranges(lambda start, stop: _combine(values, planes, out, start, stop), rows, _MIN_CHUNK)
    return out


def combine_extended(pool: Pool, lde: U32, *, log_rows: int, coefficients: U32) -> U32:
    """As `combine_columns` for a low-degree extension of columns of 2^log_rows values.

    The combination is a polynomial of the same degree as each column: its values on the first 2^log_rows
    rows, which are 3 H bit-reversed, are computed and extended.
    """
    combined = combine_columns(pool, lde[: 1 << log_rows], coefficients=coefficients)
    log_blowup = len(lde).bit_length() - 1 - log_rows
    return coset_lde(pool, combined, log_blowup=log_blowup, in_shift=field.GENERATOR, bit_reversed=True)


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A combination of columns claimed to be ``value`` at ``point``: its part of the sum is weighted by
    ``scale``.

    ``combined`` is U32[m, 4] on 3 K, bit-reversed; the others are canonical.
    """

    combined: U32
    value: Ext
    point: Ext
    scale: Ext


def reduced_opening(pool: Pool, openings: Sequence[Opening]) -> U32:
    """The sum of scale * (value - combined(x)) / (point - x) over the openings, for x on 3 K, bit-reversed:
    U32[m, 4]."""
    size = len(openings[0].combined)
    assert size >= LANES, f"{size} rows"
    assert size.bit_count() == 1, f"{size} rows"
    xs = bit_reversed_coset(field.GENERATOR, size.bit_length() - 1)
    inverses = {
        point: inverse_differences(pool, xs, point=point)
        for point in dict.fromkeys(opening.point for opening in openings)
    }
    out = np.zeros((size, 4), dtype=np.uint32)
    for opening in openings:
        assert opening.combined.shape == (size, 4), opening.combined.shape
        _run_opening(pool, opening, inverses[opening.point], out)
    return out


def _run_opening(pool: Pool, opening: Opening, inverses: U32, out: U32) -> None:
    value, scale = field.to_monty(opening.value), field.to_monty(opening.scale)
    pool.run_ranges(
        lambda start, stop: _add_opening(opening.combined, inverses, value, scale, out, start, stop),
        len(out),
        _MIN_CHUNK,
        multiple_of=LANES,
    )
