"""The degree-4 extension F[X]/(X^4 - 3) inside kernels: 4-tuples of `uint32` scalars or of `Lanes`.

Everything is in Montgomery form, canonical range. `kernels.field` defines what is computed.
"""

from typing import Any

import numpy as np

from kernels import field
from kernels.field import MONTY_R, U32, Ext, P
from kernels.jit import i64, inline, kernel, reads, u32, writes
from kernels.lanes import add, mul, sub
from kernels.wide import mac, product, reduce

_ONE = np.uint32(MONTY_R)
_EXPONENT_BITS = 31
_INVERSE_EXPONENT = np.uint32(P - 2)


@inline
def triple(x: Any) -> Any:
    """3x, the extension's X^4 times x."""
    return add(add(x, x), x)


@inline
def dot4(x0: Any, y0: Any, x1: Any, y1: Any, x2: Any, y2: Any, x3: Any, y3: Any) -> Any:
    """x0 y0 + x1 y1 + x2 y2 + x3 y3 with one reduction."""
    return reduce(mac(mac(mac(product(x0, y0), x1, y1), x2, y2), x3, y3))


@inline
def ext_add(x: Any, y: Any) -> Any:
    return (add(x[0], y[0]), add(x[1], y[1]), add(x[2], y[2]), add(x[3], y[3]))


@inline
def ext_sub(x: Any, y: Any) -> Any:
    return (sub(x[0], y[0]), sub(x[1], y[1]), sub(x[2], y[2]), sub(x[3], y[3]))


@inline
def ext_scale(base: Any, x: Any) -> Any:
    return (mul(base, x[0]), mul(base, x[1]), mul(base, x[2]), mul(base, x[3]))


@inline
def ext_mul(x: Any, y: Any) -> Any:
    x0, x1, x2, x3 = x
    y0, y1, y2, y3 = y
    t1, t2, t3 = triple(y1), triple(y2), triple(y3)
    return (
        dot4(x0, y0, x1, t3, x2, t2, x3, t1),
        dot4(x0, y1, x1, y0, x2, t3, x3, t2),
        dot4(x0, y2, x1, y1, x2, y0, x3, t3),
        dot4(x0, y3, x1, y2, x2, y1, x3, y0),
    )


@inline
def norm_parts(x: Any) -> Any:
    """(n0, n1, norm): x times its conjugate x(-X) is n0 + n1 X^2, and norm = n0^2 - 3 n1^2 is in the base
    field."""
    x0, x1, x2, x3 = x
    n0 = sub(add(mul(x0, x0), triple(mul(x2, x2))), triple(mul(add(x1, x1), x3)))
    n1 = sub(sub(mul(add(x0, x0), x2), mul(x1, x1)), triple(mul(x3, x3)))
    return n0, n1, sub(mul(n0, n0), triple(mul(n1, n1)))


@inline
def inverse_from_parts(x: Any, n0: Any, n1: Any, norm_inverse: Any) -> Any:
    """1/x from the parts of its norm: conjugate * (n0 - n1 X^2) / norm."""
    x0, x1, x2, x3 = x
    s0, s1 = mul(n0, norm_inverse), mul(n1, norm_inverse)
    return (
        sub(mul(x0, s0), triple(mul(x2, s1))),
        sub(triple(mul(x3, s1)), mul(x1, s0)),
        sub(mul(x2, s0), mul(x0, s1)),
        sub(mul(x1, s1), mul(x3, s0)),
    )


@inline
def base_inverse(x: Any) -> Any:
    """x^(p - 2): 1/x, and 0 for 0."""
    result = x
    # The exponent's top bit is taken by `result = x`.
    for bit in range(_EXPONENT_BITS - 2, -1, -1):
        result = mul(result, result)
        if (_INVERSE_EXPONENT >> np.uint32(bit)) & np.uint32(1):
            result = mul(result, x)
    return result


@inline
def ext_inverse(x: Any) -> Any:
    """1/x, and 0 for 0."""
    n0, n1, norm = norm_parts(x)
    return inverse_from_parts(x, n0, n1, base_inverse(norm))


@kernel(reads(1), i64, writes(2))
def _powers(base: Any, count: int, out: Any) -> None:
    x = (base[0], base[1], base[2], base[3])
    power = (_ONE, u32(0), u32(0), u32(0))
    for row in range(count):
        out[row, 0], out[row, 1], out[row, 2], out[row, 3] = power
        power = ext_mul(power, x)


@kernel(reads(2), reads(1), writes(2))
def _scale_all(values: Any, factor: Any, out: Any) -> None:
    y = (factor[0], factor[1], factor[2], factor[3])
    for row in range(values.shape[0]):
        x = (values[row, 0], values[row, 1], values[row, 2], values[row, 3])
        out[row, 0], out[row, 1], out[row, 2], out[row, 3] = ext_mul(x, y)


@kernel(reads(2), reads(2), writes(1))
def _dot(xs: Any, ys: Any, out: Any) -> None:
    total = (u32(0), u32(0), u32(0), u32(0))
    for row in range(xs.shape[0]):
        x = (xs[row, 0], xs[row, 1], xs[row, 2], xs[row, 3])
        y = (ys[row, 0], ys[row, 1], ys[row, 2], ys[row, 3])
        total = ext_add(total, ext_mul(x, y))
    out[0], out[1], out[2], out[3] = total


def powers(base: Ext, count: int) -> U32:
    """1, base, base^2, ...: U32[count, 4], ``base`` canonical."""
    out = np.empty((count, 4), dtype=np.uint32)
    _powers(field.to_monty(base), count, out)
    return out


def scale_all(values: U32, factor: Ext) -> U32:
    """values[i] * factor for U32[m, 4], ``factor`` canonical."""
    out = np.empty(values.shape, dtype=np.uint32)
    _scale_all(values, field.to_monty(factor), out)
    return out


def dot(xs: U32, ys: U32) -> Ext:
    """The sum of xs[i] * ys[i] for U32[m, 4] each, canonical."""
    assert xs.shape == ys.shape == (len(xs), 4), (xs.shape, ys.shape)
    out = np.empty(4, dtype=np.uint32)
    _dot(xs, ys, out)
    return field.ext_of(field.from_monty(out).tolist())
