"""LLVM IR of field arithmetic, for a scalar `i32` or a vector of them: what `kernels.lanes` is made of.

Each function emits instructions through the builder it is given and returns the value they compute.
Operands and results are in Montgomery form, canonical range [0, p), unless a docstring says otherwise;
"wide" means 64-bit lanes, half as many.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from kernels.field import MONTY_P_INV, P

I32 = ir.IntType(32)
I64 = ir.IntType(64)
_LOW_HALF = 0xFFFF_FFFF


def declare(builder: ir.IRBuilder, shape: ir.FunctionType, name: str) -> Any:
    """An LLVM intrinsic as a function of the module."""
    return cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]  # numba is half typed
        builder.module, shape, name
    )


def constant(kind: ir.Type, value: int) -> ir.Constant:
    """`value` in every lane of an IR type that is an integer or a vector of integers."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [value] * kind.count)
    return ir.Constant(kind, value)


def umin(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    suffix = f"v{x.type.count}i32" if isinstance(x.type, ir.VectorType) else "i32"
    shape = ir.FunctionType(x.type, [x.type, x.type])
    return builder.call(declare(builder, shape, f"llvm.umin.{suffix}"), [x, y])


def add(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    total = builder.add(x, y)
    # min, never a branch or a select on a comparison: this is what every machine has one instruction for
    return umin(builder, total, builder.sub(total, constant(total.type, P)))


def sub(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return lift(builder, builder.sub(x, y))


def lift(builder: ir.IRBuilder, signed: ir.Value) -> ir.Value:
    """From (-p, p), two's complement, to [0, p)."""
    return umin(builder, signed, builder.add(signed, constant(signed.type, P)))


def fence(builder: ir.IRBuilder, wide: ir.Value) -> ir.Value:
    """The same 64-bit lanes, computed in full.

    Of a product masked to its low half LLVM drops the masks of the operands, and then no longer sees that
    it is a 32 x 32 -> 64 multiply. No optimisation crosses this fence, and it costs no instruction.
    """
    if not isinstance(wide.type, ir.VectorType):
        return wide
    floats = ir.VectorType(ir.DoubleType(), wide.type.count)
    name = f"llvm.arithmetic.fence.v{wide.type.count}f64"
    fence = declare(builder, ir.FunctionType(floats, [floats]), name)
    return builder.bitcast(builder.call(fence, [builder.bitcast(wide, floats)]), wide.type)


def reduce_wide(builder: ir.IRBuilder, wide: ir.Value) -> ir.Value:
    """Montgomery step on 64-bit lanes below p * 2^32: the high half is the result in (-p, p)."""
    mask = constant(wide.type, _LOW_HALF)
    factor = fence(builder, builder.mul(builder.and_(wide, mask), constant(wide.type, MONTY_P_INV)))
    return builder.sub(wide, fence(builder, builder.mul(builder.and_(factor, mask), constant(wide.type, P))))


def mul(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    if not isinstance(x.type, ir.VectorType):
        wide = builder.mul(builder.zext(x, I64), builder.zext(y, I64))
        high = builder.lshr(reduce_wide(builder, wide), ir.Constant(I64, 32))
        return lift(builder, builder.trunc(high, I32))
    # Even and odd lanes apart, each as 64-bit lanes: `x & low half` and `x >> 32` are what the
    # 32 x 32 -> 64 multiply of SSE2, AVX2 and AVX-512 reads, so the masks cost nothing.
    low, high = (
        reduce_wide(builder, builder.mul(part(builder, x), part(builder, y))) for part in (even, odd)
    )
    return lift(builder, join_high(builder, low, high, x.type))


def signed_parts(builder: ir.IRBuilder, x: ir.Value) -> list[ir.Value]:
    """Sign-extended 64-bit lanes: the even ones and the odd, or the one scalar."""
    if not isinstance(x.type, ir.VectorType):
        return [builder.sext(x, I64)]
    wide = builder.bitcast(x, wide_type(x.type))
    half = constant(wide.type, 32)
    return [builder.ashr(builder.shl(wide, half), half), builder.ashr(wide, half)]


def reduce_signed(builder: ir.IRBuilder, wide: ir.Value) -> ir.Value:
    """As `reduce_wide` for signed lanes of at most p * 2^31 in size: the high half is in (-p, p)."""
    half = constant(wide.type, 32)
    low = builder.ashr(builder.shl(wide, half), half)
    factor = fence(builder, builder.mul(low, constant(wide.type, MONTY_P_INV - 2**32)))
    factor = builder.ashr(builder.shl(factor, half), half)
    return builder.sub(wide, fence(builder, builder.mul(factor, constant(wide.type, P))))


def shifted_cube(builder: ir.IRBuilder, x: ir.Value, shift: ir.Value) -> ir.Value:
    """(x + shift)^3 for `shift` in [-p, 0]: the sum stays signed and the square too, 64 bits wide."""
    cubes = []
    for part in signed_parts(builder, builder.add(x, shift)):
        square = builder.ashr(reduce_signed(builder, builder.mul(part, part)), constant(part.type, 32))
        cubes.append(reduce_signed(builder, builder.mul(square, part)))
    if len(cubes) == 1:
        return lift(builder, builder.trunc(builder.lshr(cubes[0], ir.Constant(I64, 32)), I32))
    return lift(builder, join_high(builder, cubes[0], cubes[1], x.type))


def wide_type(narrow: ir.VectorType) -> ir.VectorType:
    return ir.VectorType(I64, narrow.count // 2)


def even(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    wide = wide_type(x.type)
    return builder.and_(builder.bitcast(x, wide), constant(wide, _LOW_HALF))


def odd(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    wide = wide_type(x.type)
    return builder.lshr(builder.bitcast(x, wide), constant(wide, 32))


def join_high(builder: ir.IRBuilder, even: ir.Value, odd: ir.Value, narrow: ir.VectorType) -> ir.Value:
    """High halves of the 64-bit even and odd lanes, back in their order."""
    picks = [i + 1 if i % 2 == 0 else narrow.count + i for i in range(narrow.count)]
    mask = ir.Constant(ir.VectorType(I32, narrow.count), picks)
    return builder.shuffle_vector(builder.bitcast(even, narrow), builder.bitcast(odd, narrow), mask)


def div2k(builder: ir.IRBuilder, x: ir.Value, k: int) -> ir.Value:
    """x / 2^k for 1 <= k <= 24: p = 127 * 2^24 + 1, so 2^-k = -127 * 2^(24-k) and the low k bits fold."""
    low = builder.and_(x, constant(x.type, (1 << k) - 1))
    folded = builder.sub(
        builder.shl(low, constant(x.type, 31 - k)), builder.shl(low, constant(x.type, 24 - k))
    )
    return sub(builder, builder.lshr(x, constant(x.type, k)), folded)


def splat(builder: ir.IRBuilder, x: ir.Value, kind: ir.VectorType) -> ir.Value:
    undefined = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(undefined, x, ir.Constant(I32, 0))
    everywhere = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(single, undefined, everywhere)


def transpose(builder: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """As many vectors as each has lanes: swap bit k of row index and lane index, for each bit in turn."""
    size = len(vectors)
    half = 1
    while half < size:
        low = [i + size - half if i & half else i for i in range(size)]
        high = [i + size if i & half else i + half for i in range(size)]
        result = list(vectors)
        for i in range(size):
            if not i & half:
                for target, picks in ((i, low), (i + half, high)):
                    mask = ir.Constant(ir.VectorType(I32, size), picks)
                    result[target] = builder.shuffle_vector(vectors[i], vectors[i + half], mask)
        vectors = result
        half *= 2
    return vectors
