"""The vector type of the CPU kernels, `Lanes`, and what kernels do with it: field operations, loads, stores.

A `Lanes` value *is* an LLVM vector `<LANES x i32>`; LLVM legalises it for the machine (two AVX2
registers where LANES is 16 and there is no AVX-512). The field operations take a `uint32` scalar or a
`Lanes` and give back the same, so one source serves both. Operands and results are in Montgomery form,
canonical range [0, p), unless a docstring says otherwise.
"""

import os
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from kernels import lane_code as code
from kernels.jit import intrinsic

_HOST_FEATURES = os.environ.get("NUMBA_CPU_FEATURES") or binding.get_host_cpu_features().flatten()

LANES = 16 if "+avx512f" in _HOST_FEATURES else 8
LOG_LANES = LANES.bit_length() - 1


class LanesType(types.Type):
    """Numba type of one vector of `LANES` field elements."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{LANES}")


vector = LanesType()
_VECTOR = ir.VectorType(code.I32, LANES)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)  # type: ignore[no-untyped-call]  # numba is half typed


def _tuple_of(count: int) -> Any:
    """The Numba type of a tuple of vectors."""
    return types.UniTuple(vector, count)  # type: ignore[no-untyped-call]  # numba is half typed


def _unpack(builder: ir.IRBuilder, values: ir.Value) -> list[ir.Value]:
    unpacked: list[ir.Value] = cgutils.unpack_tuple(  # type: ignore[no-untyped-call]  # numba is half typed
        builder, values
    )
    return unpacked


def _is_element(kind: Any) -> bool:
    return kind is vector or kind == types.uint32


def _binary(emit: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]) -> Any:
    def typing(typingctx: Any, x: Any, y: Any) -> Any:
        if not (_is_element(x) and _is_element(y) and x == y):
            return None

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return emit(builder, *args)

        return x(x, x), codegen

    return intrinsic(typing)


add = _binary(code.add)
sub = _binary(code.sub)
mul = _binary(code.mul)
shifted_cube = _binary(code.shifted_cube)


def divider(k: int) -> Any:
    """A function x -> x / 2^k in the field, for a fixed 1 <= k <= 24: shifts instead of a multiply."""
    assert 1 <= k <= 24

    def typing(typingctx: Any, x: Any) -> Any:
        if not _is_element(x):
            return None

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return code.div2k(builder, args[0], k)

        return x(x), codegen

    return intrinsic(typing)


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    """The vector with the `uint32` x in every lane."""
    if x != types.uint32:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return code.splat(builder, args[0], _VECTOR)

    return vector(x), codegen


@intrinsic
def counting(typingctx: Any, start: Any) -> Any:
    """The plain integers start, start + 1 ..., one a lane, from a `uint32`."""
    if start != types.uint32:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.add(code.splat(builder, args[0], _VECTOR), ir.Constant(_VECTOR, list(range(LANES))))

    return vector(start), codegen


@intrinsic
def scale(typingctx: Any, x: Any, factor: Any) -> Any:
    """The product of a vector with one `uint32` element, a little cheaper than `mul(x, splat(...))`."""
    if x is not vector or factor != types.uint32:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        wide = code.splat(builder, builder.zext(args[1], code.I64), code.wide_type(_VECTOR))
        even, odd = (
            code.reduce_wide(builder, builder.mul(part(builder, args[0]), wide))
            for part in (code.even, code.odd)
        )
        return code.lift(builder, code.join_high(builder, even, odd, _VECTOR))

    return vector(x, factor), codegen


def zeros(count: int) -> Any:
    """A function () -> the tuple of `count` zero vectors."""

    def typing(typingctx: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return context.make_tuple(builder, signature.return_type, [code.constant(_VECTOR, 0)] * count)

        return _tuple_of(count)(), codegen

    return intrinsic(typing)


def _is_u32_array(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype == types.uint32


def _element_pointer(context: Any, builder: ir.IRBuilder, kind: Any, array: Any, offset: Any) -> ir.Value:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [offset])


def vector_pointer(context: Any, builder: ir.IRBuilder, kind: Any, array: Any, offset: Any) -> ir.Value:
    return builder.bitcast(_element_pointer(context, builder, kind, array, offset), _VECTOR.as_pointer())


@intrinsic
def load(typingctx: Any, array: Any, offset: Any) -> Any:
    """`LANES` elements from `offset` elements after the start of the array's data, unchecked."""
    if not _is_u32_array(array) or offset != types.int64:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.load(vector_pointer(context, builder, signature.args[0], *args), align=4)

    return vector(array, offset), codegen


def loader(count: int) -> Any:
    """A function (array, offset) -> the tuple of `count` consecutive vectors from there."""

    def typing(typingctx: Any, array: Any, offset: Any) -> Any:
        if not _is_u32_array(array) or offset != types.int64:
            return None

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            first = vector_pointer(context, builder, signature.args[0], *args)
            elements = [
                builder.load(builder.gep(first, [ir.Constant(code.I64, k)]), align=4) for k in range(count)
            ]
            return context.make_tuple(builder, signature.return_type, elements)

        return _tuple_of(count)(array, offset), codegen

    return intrinsic(typing)


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write `LANES` elements at `offset` elements after the start of the array's data, unchecked."""
    if not _is_u32_array(array) or offset != types.int64 or value is not vector:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = vector_pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, offset, value), codegen


def first_lanes(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """The mask of the lanes below `count`, an i64."""
    limit = code.splat(builder, builder.trunc(count, code.I32), _VECTOR)
    return builder.icmp_signed("<", ir.Constant(_VECTOR, list(range(LANES))), limit)


_MASK = ir.VectorType(ir.IntType(1), LANES)


def masked_load(builder: ir.IRBuilder, pointer: ir.Value, mask: ir.Value) -> ir.Value:
    shape = ir.FunctionType(_VECTOR, [pointer.type, code.I32, _MASK, _VECTOR])
    masked = code.declare(builder, shape, f"llvm.masked.load.v{LANES}i32.p0")
    return builder.call(masked, [pointer, ir.Constant(code.I32, 4), mask, code.constant(_VECTOR, 0)])


@intrinsic
def load_first(typingctx: Any, array: Any, offset: Any, count: Any) -> Any:
    """As `load`, but only the first `count` elements are touched; the other lanes are 0."""
    if not _is_u32_array(array) or offset != types.int64 or count != types.int64:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = vector_pointer(context, builder, signature.args[0], args[0], args[1])
        return masked_load(builder, pointer, first_lanes(builder, args[2]))

    return vector(array, offset, count), codegen


@intrinsic
def store_first(typingctx: Any, array: Any, offset: Any, value: Any, count: Any) -> Any:
    """As `store`, but only the first `count` elements are touched."""
    kinds = (offset, value, count)
    if not _is_u32_array(array) or kinds != (types.int64, vector, types.int64):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = vector_pointer(context, builder, signature.args[0], args[0], args[1])
        shape = ir.FunctionType(ir.VoidType(), [_VECTOR, pointer.type, code.I32, _MASK])
        masked = code.declare(builder, shape, f"llvm.masked.store.v{LANES}i32.p0")
        builder.call(masked, [args[2], pointer, ir.Constant(code.I32, 4), first_lanes(builder, args[3])])
        return context.get_dummy_value()

    return types.void(array, *kinds), codegen


def _row_offsets(builder: ir.IRBuilder, first: Any, last: Any, stride: Any, column: Any) -> list[ir.Value]:
    """Element offsets of `column` in the rows first, first + 1 ..., never beyond the row `last`."""
    offsets = []
    for j in range(LANES):
        row = builder.add(first, ir.Constant(code.I64, j))
        row = builder.select(builder.icmp_signed("<", row, last), row, last)
        offsets.append(builder.add(builder.mul(row, stride), column))
    return offsets


BLOCK = 16


@intrinsic
def load_block(typingctx: Any, array: Any, first: Any, last: Any, stride: Any, column: Any) -> Any:
    """16 columns of LANES rows: lane j of element k is row min(first + j, last), column `column` + k.

    `stride` is the distance of two rows in elements. Lanes beyond the last row repeat it, so that
    `store_block` writes it several times with the same values: no tail needs a branch.
    """
    where = (first, last, stride, column)
    if not _is_u32_array(array) or any(kind != types.int64 for kind in where):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        def load_group(offset: ir.Value, group: int) -> ir.Value:
            start = builder.add(offset, ir.Constant(code.I64, group))
            return builder.load(vector_pointer(context, builder, signature.args[0], args[0], start), align=4)

        elements = _ir_load_block(builder, _row_offsets(builder, *args[1:5]), load_group)
        return context.make_tuple(builder, signature.return_type, elements)

    return _tuple_of(BLOCK)(array, *where), codegen


@intrinsic
def load_block_over(
    typingctx: Any, array: Any, first: Any, last: Any, stride: Any, column: Any, count: Any, state: Any
) -> Any:
    """As `load_block` for the first `count` columns alone; the other elements are those of `state`."""
    where = (first, last, stride, column, count)
    if not _is_u32_array(array) or any(kind != types.int64 for kind in where):
        return None
    if not isinstance(state, types.UniTuple) or state.dtype is not vector or state.count < BLOCK:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        def load_group(offset: ir.Value, group: int) -> ir.Value:
            start = builder.add(offset, ir.Constant(code.I64, group))
            pointer = vector_pointer(context, builder, signature.args[0], args[0], start)
            mask = first_lanes(builder, builder.sub(args[5], ir.Constant(code.I64, group)))
            return masked_load(builder, pointer, mask)

        loaded = _ir_load_block(builder, _row_offsets(builder, *args[1:5]), load_group)
        kept = _unpack(builder, args[6])
        elements = [
            builder.select(builder.icmp_signed("<", ir.Constant(code.I64, k), args[5]), loaded[k], kept[k])
            for k in range(BLOCK)
        ]
        return context.make_tuple(builder, signature.return_type, elements)

    return _tuple_of(BLOCK)(array, *where, state), codegen


def _ir_load_block(
    builder: ir.IRBuilder, offsets: list[ir.Value], load_group: Callable[[ir.Value, int], ir.Value]
) -> list[ir.Value]:
    elements: list[ir.Value] = []
    for group in range(0, BLOCK, LANES):
        elements += code.transpose(builder, [load_group(offset, group) for offset in offsets])
    return elements


@intrinsic
def store_block(
    typingctx: Any, array: Any, first: Any, last: Any, stride: Any, column: Any, elements: Any
) -> Any:
    """The inverse of `load_block` for a tuple of 1 to 16 elements, which are as many columns."""
    where = (first, last, stride, column)
    if not _is_u32_array(array) or any(kind != types.int64 for kind in where):
        return None
    if not isinstance(elements, types.UniTuple) or elements.dtype is not vector or elements.count > BLOCK:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        ir_store_columns(
            context, builder, signature.args[0], args[0], _row_offsets(builder, *args[1:5]), args[5]
        )
        return context.get_dummy_value()

    return types.void(array, *where, elements), codegen


def ir_store_columns(
    context: Any, builder: ir.IRBuilder, kind: Any, array: Any, offsets: list[ir.Value], elements: ir.Value
) -> None:
    """Lane j of a tuple of vectors to consecutive places from offsets[j] on, in order of the lanes."""
    columns = _unpack(builder, elements)
    for group in range(0, len(columns), LANES):
        part = columns[group : group + LANES]
        count = len(part)
        part += [ir.Constant(_VECTOR, ir.Undefined)] * (LANES - count)
        narrow = ir.VectorType(code.I32, count)
        keep = ir.Constant(narrow, list(range(count)))
        for row, offset in zip(code.transpose(builder, part), offsets, strict=True):
            start = builder.add(offset, ir.Constant(code.I64, group))
            pointer = _element_pointer(context, builder, kind, array, start)
            kept = row if count == LANES else builder.shuffle_vector(row, row, keep)
            builder.store(kept, builder.bitcast(pointer, narrow.as_pointer()), align=4)


@intrinsic
def lane(typingctx: Any, x: Any, index: Any) -> Any:
    """Element `index` of a vector."""
    if x is not vector or not isinstance(index, types.Integer):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.extract_element(args[0], args[1])

    return types.uint32(x, index), codegen
