"""KoalaBear and its degree-4 extension inside a GPU thread: Montgomery form, canonical range, `uint32`.

On sm_90 a product is five instructions (two wide multiplies, a low one, a subtraction, an add-with-minimum)
and a sum is two. An extension element is a 4-tuple. `kernels.field` defines what is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.core.types import int64 as i64
from numba.core.types import uint32 as u32
from numba.core.types import uint64 as u64

from kernels import field

__all__ = ["FieldCode", "build_field", "i64", "u32", "u64"]

Op = Callable[..., Any]

_P = np.uint32(field.P)
_P_WIDE = np.uint64(field.P)
_P_INVERSE = np.uint32(field.MONTY_P_INV)
_HALF_WORD = np.uint64(32)
_INVERSE_EXPONENT = field.P - 2
_EXPONENT_BITS = 31


@dataclass(frozen=True)
class FieldCode:
    """Compiled operations; x, y are elements, `Ext` ones tuples of four, pointers are flat U32 arrays."""

    add: Op
    sub: Op
    mul: Op
    mul2: Op
    """(x, y, v, w) -> x y + v w, with one reduction."""
    shifted_cube: Op
    """(x, c) -> (x + c)^3."""
    inverse: Op
    """x -> x^(p - 2): 1/x, and 0 for 0."""
    ext_add: Op
    ext_sub: Op
    ext_mul: Op
    ext_scale: Op
    """(base element, Ext) -> Ext."""
    ext_mac: Op
    """(Ext total, base element x, Ext u, base element y, Ext v) -> total + x u + y v."""
    ext_inverse: Op
    load_ext: Op
    """(pointer, offset, stride) -> the four elements from there on."""
    store_ext: Op
    """(pointer, offset, Ext), contiguous."""
    divider: Callable[[int], Op]
    """k -> (x -> x / 2^k)."""


def build_field(inline: Callable[[Op], Any]) -> FieldCode:
    """The operations of a target, compiled by its `inline`."""

    @inline
    def add(x: Any, y: Any) -> Any:
        total = u32(x + y)
        return min(total, u32(total - _P))

    @inline
    def lift(x: Any) -> Any:
        """From (-p, p), two's complement, to [0, p)."""
        return min(x, u32(x + _P))

    @inline
    def sub(x: Any, y: Any) -> Any:
        return lift(u32(x - y))

    @inline
    def reduce(wide: Any) -> Any:
        """Montgomery's step on a uint64 below p * 2^32."""
        factor = u32(u32(wide) * _P_INVERSE)
        high = u32(u64(u64(factor) * _P_WIDE) >> _HALF_WORD)
        return lift(u32(u32(wide >> _HALF_WORD) - high))

    @inline
    def mul(x: Any, y: Any) -> Any:
        return reduce(u64(u64(x) * u64(y)))

    @inline
    def mul2(x: Any, y: Any, v: Any, w: Any) -> Any:
        return reduce(u64(u64(u64(x) * u64(y)) + u64(u64(v) * u64(w))))

    @inline
    def shifted_cube(x: Any, shift: Any) -> Any:
        shifted = add(x, shift)
        return mul(mul(shifted, shifted), shifted)

    @inline
    def inverse(x: Any) -> Any:
        result = x
        # The exponent's top bit is taken by `result = x`.
        for bit in range(_EXPONENT_BITS - 2, -1, -1):
            result = mul(result, result)
            if (_INVERSE_EXPONENT >> bit) & 1:
                result = mul(result, x)
        return result

    def divider(k: int) -> Any:
        assert 1 <= k <= field.TWO_ADICITY
        mask = np.uint32((1 << k) - 1)
        right, up, down = np.uint32(k), np.uint32(31 - k), np.uint32(24 - k)

        @inline
        def div2k(x: Any) -> Any:
            # p = 127 * 2^24 + 1, so 2^-k = -127 * 2^(24-k): the low k bits fold
            low = u32(x & mask)
            return sub(u32(x >> right), u32(u32(low << up) - u32(low << down)))

        return div2k

    extension = _build_extension(inline, add, sub, mul, mul2, inverse)
    return FieldCode(
        add=add,
        sub=sub,
        mul=mul,
        mul2=mul2,
        shifted_cube=shifted_cube,
        inverse=inverse,
        divider=divider,
        **extension,
    )


def _build_extension(
    inline: Callable[[Op], Any], add: Op, sub: Op, mul: Op, mul2: Op, inverse: Op
) -> dict[str, Op]:
    @inline
    def triple(x: Any) -> Any:
        return add(add(x, x), x)

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
    def ext_mac(total: Any, x: Any, u: Any, y: Any, v: Any) -> Any:
        return (
            add(total[0], mul2(x, u[0], y, v[0])),
            add(total[1], mul2(x, u[1], y, v[1])),
            add(total[2], mul2(x, u[2], y, v[2])),
            add(total[3], mul2(x, u[3], y, v[3])),
        )

    @inline
    def dot4(x0: Any, y0: Any, x1: Any, y1: Any, x2: Any, y2: Any, x3: Any, y3: Any) -> Any:
        return add(mul2(x0, y0, x1, y1), mul2(x2, y2, x3, y3))

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
    def ext_inverse(x: Any) -> Any:
        """By the norm, as in `kernels.extension`."""
        x0, x1, x2, x3 = x
        n0 = sub(add(mul(x0, x0), triple(mul(x2, x2))), triple(mul(add(x1, x1), x3)))
        n1 = sub(sub(mul(add(x0, x0), x2), mul(x1, x1)), triple(mul(x3, x3)))
        norm_inverse = inverse(sub(mul(n0, n0), triple(mul(n1, n1))))
        s0, s1 = mul(n0, norm_inverse), mul(n1, norm_inverse)
        return (
            sub(mul(x0, s0), triple(mul(x2, s1))),
            sub(triple(mul(x3, s1)), mul(x1, s0)),
            sub(mul(x2, s0), mul(x0, s1)),
            sub(mul(x1, s1), mul(x3, s0)),
        )

    @inline
    def load_ext(pointer: Any, offset: Any, stride: Any) -> Any:
        return (
            pointer[offset],
            pointer[offset + stride],
            pointer[offset + 2 * stride],
            pointer[offset + 3 * stride],
        )

    @inline
    def store_ext(pointer: Any, offset: Any, x: Any) -> None:
        pointer[offset] = x[0]
        pointer[offset + 1] = x[1]
        pointer[offset + 2] = x[2]
        pointer[offset + 3] = x[3]

    return {
        "ext_add": ext_add,
        "ext_sub": ext_sub,
        "ext_mul": ext_mul,
        "ext_scale": ext_scale,
        "ext_mac": ext_mac,
        "ext_inverse": ext_inverse,
        "load_ext": load_ext,
        "store_ext": store_ext,
    }
