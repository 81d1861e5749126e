"""KoalaBear, p = 2^31 - 2^24 + 1, and its degree-4 extension F[X]/(X^4 - 3): constants and definition.

Python integers here are canonical (in [0, p)) and define what every kernel must compute. Arrays hold
Montgomery form (x * 2^32 mod p), canonical range, `uint32`; an extension array has a last axis of 4,
coefficients of 1, X, X^2, X^3 in that order. Source: Plonky3 `p3-koala-bear` / `p3-monty-31` 0.6.2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

P = 2**31 - 2**24 + 1
GENERATOR = 3
TWO_ADICITY = 24
TWO_ADIC_ROOT = 0x6AC49F88  # generates the subgroup of order 2^24
EXT_W = 3
EXT_DEGREE = 4
MONTY_BITS = 32
MONTY_R = 2**MONTY_BITS % P
MONTY_R_INV = pow(MONTY_R, -1, P)
MONTY_P_INV = pow(P, -1, 2**MONTY_BITS)  # p^-1 mod 2^32, so that x - (x * this mod 2^32) * p ends in 32 zeros

U32 = npt.NDArray[np.uint32]
Ext = tuple[int, int, int, int]

EXT_ZERO: Ext = (0, 0, 0, 0)
EXT_ONE: Ext = (1, 0, 0, 0)


def to_monty(values: npt.ArrayLike) -> U32:
    """Montgomery form, `uint32`, of integers of any sign and size up to 64 bits; the shape is kept."""
    array: npt.NDArray[Any] = np.asarray(values)
    if array.dtype.kind not in "iu":
        if array.size:
            raise TypeError(f"field elements must be integers, not {array.dtype}")
        array = array.astype(np.int64)
    if array.dtype.itemsize >= 8:
        array = np.mod(array, array.dtype.type(P))
    elif array.dtype.kind == "i":  # 32 unsigned bits need no reduction before the shift
        array = array.astype(np.int64) % P
    shifted = array.astype(np.uint64) << np.uint64(MONTY_BITS)
    return (shifted % np.uint64(P)).astype(np.uint32)


def from_monty(values: npt.ArrayLike) -> U32:
    """Canonical integers, `uint32`, of an array in Montgomery form; the shape is kept."""
    wide = np.asarray(values, dtype=np.uint64)
    return (wide * np.uint64(MONTY_R_INV) % np.uint64(P)).astype(np.uint32)


def monty(value: int) -> int:
    """Montgomery form of one integer."""
    return (value << MONTY_BITS) % P


def add(a: int, b: int) -> int:
    return (a + b) % P


def sub(a: int, b: int) -> int:
    return (a - b) % P


def mul(a: int, b: int) -> int:
    return a * b % P


def neg(a: int) -> int:
    return -a % P


def power(x: int, exponent: int) -> int:
    """x^exponent; a negative exponent inverts (and raises ZeroDivisionError on 0)."""
    return pow(x, exponent, P) if exponent >= 0 else pow(inverse(x), -exponent, P)


def inverse(a: int) -> int:
    """1/a. Raises ZeroDivisionError on 0."""
    if a % P == 0:
        raise ZeroDivisionError("0 has no inverse in the field")
    return pow(a, P - 2, P)


def two_adic_generator(bits: int) -> int:
    """g_bits, the fixed generator of the subgroup of order 2^bits, 0 <= bits <= 24."""
    if not 0 <= bits <= TWO_ADICITY:
        raise ValueError(f"no subgroup of order 2^{bits}: bits must lie in 0..{TWO_ADICITY}")
    return pow(TWO_ADIC_ROOT, 1 << (TWO_ADICITY - bits), P)


def ext_from_base(value: int) -> Ext:
    return (value % P, 0, 0, 0)


def ext_of(coefficients: Sequence[int]) -> Ext:
    """An extension element of exactly four integers."""
    c0, c1, c2, c3 = coefficients
    return (int(c0) % P, int(c1) % P, int(c2) % P, int(c3) % P)


def ext_add(x: Ext, y: Ext) -> Ext:
    return ((x[0] + y[0]) % P, (x[1] + y[1]) % P, (x[2] + y[2]) % P, (x[3] + y[3]) % P)


def ext_sub(x: Ext, y: Ext) -> Ext:
    return ((x[0] - y[0]) % P, (x[1] - y[1]) % P, (x[2] - y[2]) % P, (x[3] - y[3]) % P)


def ext_neg(x: Ext) -> Ext:
    return (-x[0] % P, -x[1] % P, -x[2] % P, -x[3] % P)


def ext_scale(base: int, x: Ext) -> Ext:
    """base * x for a base-field factor."""
    return (base * x[0] % P, base * x[1] % P, base * x[2] % P, base * x[3] % P)


def ext_mul(x: Ext, y: Ext) -> Ext:
    x0, x1, x2, x3 = x
    y0, y1, y2, y3 = y
    return (
        (x0 * y0 + EXT_W * (x1 * y3 + x2 * y2 + x3 * y1)) % P,
        (x0 * y1 + x1 * y0 + EXT_W * (x2 * y3 + x3 * y2)) % P,
        (x0 * y2 + x1 * y1 + x2 * y0 + EXT_W * (x3 * y3)) % P,
        (x0 * y3 + x1 * y2 + x2 * y1 + x3 * y0) % P,
    )


def ext_inverse(x: Ext) -> Ext:
    """1/x. Raises ZeroDivisionError on 0.

    With Y = X^2 the element is a + bX for a, b in F[Y]/(Y^2 - 3); (a + bX)(a - bX) = a^2 - Yb^2 has
    no X left, and the same step once more brings the norm down to the base field.
    """
    a0, b0, a1, b1 = x
    norm0 = (a0 * a0 + EXT_W * (a1 * a1 - 2 * b0 * b1)) % P
    norm1 = (2 * a0 * a1 - b0 * b0 - EXT_W * b1 * b1) % P
    scale = inverse((norm0 * norm0 - EXT_W * norm1 * norm1) % P)
    inv0, inv1 = norm0 * scale, -norm1 * scale
    return (
        (a0 * inv0 + EXT_W * a1 * inv1) % P,
        -(b0 * inv0 + EXT_W * b1 * inv1) % P,
        (a0 * inv1 + a1 * inv0) % P,
        -(b0 * inv1 + b1 * inv0) % P,
    )


def ext_power(x: Ext, exponent: int) -> Ext:
    """x^exponent by squaring; a negative exponent inverts (and raises ZeroDivisionError on 0)."""
    if exponent < 0:
        x, exponent = ext_inverse(x), -exponent
    result = EXT_ONE
    while exponent:
        if exponent & 1:
            result = ext_mul(result, x)
        x, exponent = ext_mul(x, x), exponent >> 1
    return result
