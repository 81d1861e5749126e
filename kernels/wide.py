"""Sums of products that are reduced once: 64-bit accumulators beside the lanes of `kernels.lanes`.

A Montgomery multiply spends two thirds of its work on the reduction. A sum of products needs one: `mac`
adds a product to an accumulator below p * 2^32 and brings it back below p * 2^32 with one subtraction and
one minimum, `reduce` makes a field element of it. As in `kernels.lanes`, everything takes scalars
(`uint32`, with `uint64` accumulators) or vectors (`Lanes`, with `Wide` accumulators), Montgomery form.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from kernels import lane_code as code
from kernels import lanes
from kernels.field import P
from kernels.jit import intrinsic
from kernels.lanes import LANES

_HALF = ir.VectorType(code.I64, LANES // 2)
_PAIR = ir.LiteralStructType([_HALF, _HALF])


class WideType(types.Type):
    """Numba type of `LANES` 64-bit accumulators: those of the even lanes, then those of the odd."""

    def __init__(self) -> None:
        super().__init__(name=f"Wide{LANES}")


wide = WideType()


@register_model(WideType)
class _WideModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _PAIR)  # type: ignore[no-untyped-call]  # numba is half typed


def _accumulator_of(kind: Any) -> Any:
    """The accumulator type beside an element type, or None."""
    if kind is lanes.vector:
        return wide
    return types.uint64 if kind == types.uint32 else None


def _halves(builder: ir.IRBuilder, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    return builder.extract_value(value, 0), builder.extract_value(value, 1)


def _pair(builder: ir.IRBuilder, even: ir.Value, odd: ir.Value) -> ir.Value:
    return builder.insert_value(builder.insert_value(ir.Constant(_PAIR, ir.Undefined), even, 0), odd, 1)


def _ir_product(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> list[ir.Value]:
    """The 64-bit products: one of scalars, those of even and of odd lanes of vectors."""
    if not isinstance(x.type, ir.VectorType):
        return [builder.mul(builder.zext(x, code.I64), builder.zext(y, code.I64))]
    return [builder.mul(part(builder, x), part(builder, y)) for part in (code.even, code.odd)]


def _ir_correct(builder: ir.IRBuilder, total: ir.Value) -> ir.Value:
    """From [0, 2p * 2^32) to [0, p * 2^32).

    The low halves of `total` and of `total - p * 2^32` are equal, so that a minimum of 32-bit lanes, which
    every machine has, serves for one of 64-bit lanes, which AVX2 lacks.
    """
    if not isinstance(total.type, ir.VectorType):
        smaller = builder.sub(total, ir.Constant(code.I64, P << 32))
        return builder.select(builder.icmp_unsigned("<", total, smaller), total, smaller)
    narrow = ir.VectorType(code.I32, 2 * total.type.count)
    halves = builder.bitcast(total, narrow)
    smaller = builder.sub(halves, ir.Constant(narrow, [0, P] * total.type.count))
    return builder.bitcast(code.umin(builder, halves, smaller), total.type)


def _accumulate(builder: ir.IRBuilder, accumulator: ir.Value, products: list[list[ir.Value]]) -> ir.Value:
    """accumulator + the sum of at most two products for each part, corrected once."""
    vector = accumulator.type == _PAIR
    parts = list(_halves(builder, accumulator)) if vector else [accumulator]
    for index in range(len(parts)):
        for product in products:
            parts[index] = builder.add(parts[index], product[index])
        parts[index] = _ir_correct(builder, parts[index])
    return _pair(builder, *parts) if vector else parts[0]


@intrinsic
def mac(typingctx: Any, accumulator: Any, x: Any, y: Any) -> Any:
    """accumulator + x * y, for an accumulator below p * 2^32, as is the result."""
    if x != y or _accumulator_of(x) is None or accumulator != _accumulator_of(x):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return _accumulate(builder, args[0], [_ir_product(builder, args[1], args[2])])

    return accumulator(accumulator, x, y), codegen


@intrinsic
def mac2(typingctx: Any, accumulator: Any, x0: Any, y0: Any, x1: Any, y1: Any) -> Any:
    """accumulator + x0 * y0 + x1 * y1, as `mac` twice: p * 2^32 + 2p^2 < 2p * 2^32, so one correction will
    do."""
    if not x0 == y0 == x1 == y1 or _accumulator_of(x0) is None or accumulator != _accumulator_of(x0):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        products = [_ir_product(builder, *args[1:3]), _ir_product(builder, *args[3:5])]
        return _accumulate(builder, args[0], products)

    return accumulator(accumulator, x0, y0, x1, y1), codegen


@intrinsic
def product(typingctx: Any, x: Any, y: Any) -> Any:
    """x * y as an accumulator (below p^2)."""
    if x != y or _accumulator_of(x) is None:
        return None
    accumulator = _accumulator_of(x)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        parts = _ir_product(builder, *args)
        return parts[0] if len(parts) == 1 else _pair(builder, *parts)

    return accumulator(x, y), codegen


@intrinsic
def reduce(typingctx: Any, accumulator: Any) -> Any:
    """The field element of an accumulator below p * 2^32."""
    if accumulator is not wide and accumulator != types.uint64:
        return None
    element: Any = lanes.vector if accumulator is wide else types.uint32

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        if accumulator is wide:
            even, odd = (code.reduce_wide(builder, half) for half in _halves(builder, args[0]))
            joined = code.join_high(builder, even, odd, ir.VectorType(code.I32, LANES))
            return code.lift(builder, joined)
        high = builder.lshr(code.reduce_wide(builder, args[0]), ir.Constant(code.I64, 32))
        return code.lift(builder, builder.trunc(high, code.I32))

    return element(accumulator), codegen


@intrinsic
def zero_wide(typingctx: Any) -> Any:
    """`Wide` accumulators of zero."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return ir.Constant(_PAIR, None)

    return wide(), codegen


def _is_u64_array(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype == types.uint64


def _pointer(context: Any, builder: ir.IRBuilder, kind: Any, array: Any, offset: Any) -> ir.Value:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _HALF.as_pointer())


@intrinsic
def load_wide(typingctx: Any, array: Any, offset: Any) -> Any:
    """`Wide` accumulators from `offset` elements after the start of a `uint64` array's data, unchecked."""
    if not _is_u64_array(array) or offset != types.int64:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = _pointer(context, builder, signature.args[0], *args)
        second = builder.gep(pointer, [ir.Constant(code.I64, 1)])
        return _pair(builder, builder.load(pointer, align=8), builder.load(second, align=8))

    return wide(array, offset), codegen


@intrinsic
def store_wide(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write what `load_wide` reads."""
    if not _is_u64_array(array) or offset != types.int64 or value is not wide:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        even, odd = _halves(builder, args[2])
        builder.store(even, pointer, align=8)
        builder.store(odd, builder.gep(pointer, [ir.Constant(code.I64, 1)]), align=8)
        return context.get_dummy_value()

    return types.void(array, offset, value), codegen


def _spread(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    """A 64-bit scalar below 2^32 in every lane: what both the even and the odd lanes of a vector are
    multiplied by."""
    spread = code.splat(builder, scalar, _HALF)
    # The mask tells LLVM that a 32-bit multiply will do, and costs nothing there.
    return builder.and_(spread, code.constant(_HALF, 0xFFFF_FFFF))


@intrinsic
def mac2_scalar(typingctx: Any, accumulator: Any, x0: Any, y0: Any, x1: Any, y1: Any) -> Any:
    """`mac2` of two vectors x with one element y each, for all lanes.

    The elements are `uint64`: read from an array of them, they need no instruction of their own.
    """
    if (accumulator, x0, x1) != (wide, lanes.vector, lanes.vector) or not y0 == y1 == types.uint64:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        products = [
            [builder.mul(part(builder, x), factor) for part in (code.even, code.odd)]
            for x, factor in ((args[1], _spread(builder, args[2])), (args[3], _spread(builder, args[4])))
        ]
        return _accumulate(builder, args[0], products)

    return accumulator(accumulator, x0, y0, x1, y1), codegen


@intrinsic
def sum_wide(typingctx: Any, accumulator: Any) -> Any:
    """The sum of the lanes' accumulators as one `uint64` accumulator, below p * 2^32."""
    if accumulator is not wide:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        even, odd = _halves(builder, args[0])
        total = _ir_correct(builder, builder.add(even, odd))
        width = LANES // 2
        while width > 1:
            width //= 2
            half = ir.VectorType(code.I32, width)
            low, high = (
                builder.shuffle_vector(total, total, ir.Constant(half, list(range(start, start + width))))
                for start in (0, width)
            )
            total = _ir_correct(builder, builder.add(low, high))
        return builder.extract_element(total, ir.Constant(code.I32, 0))

    return types.uint64(accumulator), codegen
