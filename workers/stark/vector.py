"""Field arithmetic on whole arrays, for the verifier: one query an entry, `uint64` numpy, no compiled code.

Every function is linear in `values`, and multiplies them by **canonical** factors; so values in Montgomery
form give results in Montgomery form, canonical values canonical results. An extension array has a last axis
of 4.
"""

import numpy as np
import numpy.typing as npt

from kernels.field import (
    EXT_W,
    TWO_ADICITY,
    Ext,
    P,
    ext_mul,
    inverse,
    two_adic_generator,
)

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_P = np.uint64(P)
_W = np.uint64(EXT_W)
_HALF = np.uint64(inverse(2))
_POWERS_OF_X: tuple[Ext, ...] = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
_LOW = np.uint64(0xFFFF)
_SHIFT = np.uint64(16)
_GENERATORS = np.array([two_adic_generator(bits) for bits in range(TWO_ADICITY + 1)], dtype=np.uint64)
_INVERSE_GENERATORS = np.array([inverse(int(generator)) for generator in _GENERATORS], dtype=np.uint64)


def ext_product(values: U64, factors: U64) -> U64:
    """Extension products of two arrays [..., 4] that broadcast against each other; entries below p."""
    x0, x1, x2, x3 = (values[..., i] for i in range(4))
    y0, y1, y2, y3 = (factors[..., i] for i in range(4))
    # A sum of three products, each below p^2 < 2^62, still fits 64 bits; a reduced sum times 3 leaves room
    # for one.
    wrapped0 = (x1 * y3 + x2 * y2 + x3 * y1) % _P
    wrapped1 = (x2 * y3 + x3 * y2) % _P
    wrapped2 = x3 * y3 % _P
    return np.stack(
        (
            (x0 * y0 + _W * wrapped0) % _P,
            (x0 * y1 + x1 * y0 + _W * wrapped1) % _P,
            (x0 * y2 + x1 * y1 + x2 * y0 + _W * wrapped2) % _P,
            ((x0 * y3 + x1 * y2) % _P + x2 * y1 + x3 * y0) % _P,
        ),
        axis=-1,
    )


def ext_difference(left: U64, right: U64) -> U64:
    """left - right, for entries below p."""
    return (left + (_P - right)) % _P


def ext_array(value: Ext) -> U64:
    return np.array(value, dtype=np.uint64)


def ext_inverses(values: U64) -> U64:
    """1/x of canonical extension elements [n, 4], none of them zero; by the norms of
    `kernels.field.ext_inverse`."""
    a0, b0, a1, b1 = values.T
    norm0 = (a0 * a0 % _P + _W * ((a1 * a1 + 2 * (b0 * (_P - b1) % _P)) % _P)) % _P
    norm1 = (2 * (a0 * a1 % _P) + (_P - b0) * b0 + _W * ((_P - b1) * b1 % _P)) % _P
    norms = (norm0 * norm0 + (_P - norm1) * (_W * norm1 % _P)) % _P
    scales = np.array([pow(norm, -1, P) for norm in norms.tolist()], dtype=np.uint64)
    inverse0, inverse1 = norm0 * scales % _P, (_P - norm1) * scales % _P
    return np.stack(
        (
            (a0 * inverse0 + _W * (a1 * inverse1 % _P)) % _P,
            (_P - (b0 * inverse0 + _W * (b1 * inverse1 % _P)) % _P) % _P,
            (a0 * inverse1 + a1 * inverse0) % _P,
            (_P - (b0 * inverse1 + b1 * inverse0) % _P) % _P,
        ),
        axis=-1,
    )


def ext_powers(base: Ext, count: int) -> U64:
    """base^0 … base^(count - 1), canonical, [count, 4]."""
    powers = np.zeros((count, 4), dtype=np.uint64)
    powers[0, 0] = 1
    known, step = 1, base
    while known < count:
        added = min(known, count - known)
        powers[known : known + added] = ext_product(powers[:added], ext_array(step))
        known, step = known + added, ext_mul(step, step)
    return powers


def combine(rows: U64, factors: U64) -> U64:
    """Σ_k rows[q, k] · factors[k], [q, 4]: base elements [q, w] times canonical extension factors [w, 4].

    The rows are cut at bit 16, so that a sum of up to 2^16 products fits 64 bits.
    """
    assert rows.shape[1] < 1 << 16, "the sums would overflow"
    high = (rows >> _SHIFT) @ factors % _P
    return ((high << _SHIFT) + (rows & _LOW) @ factors) % _P


def _multiples(factor: Ext) -> U64:
    """factor · X^k for k < 4, [4, 4]: what the coefficients of an element are combined with to multiply it."""
    return np.array([ext_mul(factor, power) for power in _POWERS_OF_X], dtype=np.uint64)


def bit_reversed_points(indices: I64, *, first_order: int, inverted: bool = False) -> U64:
    """Π over the set bits b of an index of g_(b + first_order), or of its inverse.

    With `first_order` 1 this is g_L^bitrev_L(index), whatever L; with 2 it is g_L^bitrev_(L-1)(index), the
    point of the lower half that a pair of neighbours folds at: g_L^(2^m) = g_(L-m) cancels L.
    """
    generators = _INVERSE_GENERATORS if inverted else _GENERATORS
    points = np.ones(indices.shape, dtype=np.uint64)
    for bit in range(int(indices.max(initial=0)).bit_length()):
        factor = np.where((indices >> bit) & 1 == 1, generators[bit + first_order], np.uint64(1))
        points = points * factor % _P
    return points


def fold_groups(values: U64, groups: I64, beta: Ext) -> U64:
    """Folds each group of 2^k neighbours [q, 2^k, 4] to one value [q, 4], by k binary folds with β, β², β⁴ …

    out[j] = (lo + hi)/2 + β(lo - hi)/(2 x_j), x_j = g^bitrev(j); a group's values stand at bit-reversed
    positions groups · 2^k … groups · 2^k + 2^k - 1 (proof.md section 5, Plonky3 `TwoAdicFriFolding`).
    """
    # A position's point is that of its group times that of its place in the group: their bits are apart.
    of_groups = bit_reversed_points(groups * (values.shape[1] // 2), first_order=2, inverted=True)
    while values.shape[1] > 1:
        pairs = values.shape[1] // 2
        low, high = values[:, 0::2], values[:, 1::2]
        of_pairs = bit_reversed_points(np.arange(pairs), first_order=2, inverted=True)
        factors = (of_groups[:, np.newaxis] * of_pairs % _P)[..., np.newaxis]
        of_groups = of_groups * of_groups % _P  # the next fold is on the squares
        slopes = ext_difference(low, high) * factors % _P
        turned = combine(slopes.reshape(-1, 4), _multiples(beta)).reshape(slopes.shape)
        values = (low + high + turned) % _P * _HALF % _P
        beta = ext_mul(beta, beta)
    return values[:, 0]
