"""Loads and stores of consecutive small records as vectors: word k of `LANES` records in the lanes of result
k.

An array of extension elements has records of four words; pairs of them have eight. Element order in memory is
the protocol's; arithmetic wants each coefficient in a vector of its own.
"""

from typing import Any

from llvmlite import ir
from numba import types

from kernels import lane_code as code
from kernels import lanes
from kernels.jit import intrinsic
from kernels.lanes import LANES


def _vectors(count: int) -> Any:
    """The Numba type of a tuple of vectors."""
    return types.UniTuple(lanes.vector, count)  # type: ignore[no-untyped-call]  # numba is half typed


def _pick(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, indices: list[int]) -> ir.Value:
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(code.I32, LANES), indices))


def _ir_unzip(builder: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """Words of records side by side, `len(vectors)` words a record, apart: log2 steps of evens and odds."""
    if len(vectors) == 1:
        return vectors
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    even, odd = (
        _ir_unzip(builder, [_pick(builder, x, y, list(range(start, 2 * LANES, 2))) for x, y in pairs])
        for start in (0, 1)
    )
    return [word for both in zip(even, odd, strict=True) for word in both]


def _ir_zip(builder: ir.IRBuilder, words: list[ir.Value]) -> list[ir.Value]:
    """The inverse of `_ir_unzip`."""
    if len(words) == 1:
        return words
    even, odd = _ir_zip(builder, words[::2]), _ir_zip(builder, words[1::2])
    half = LANES // 2
    alternating = [[i for j in range(half) for i in (start + j, LANES + start + j)] for start in (0, half)]
    return [_pick(builder, x, y, indices) for x, y in zip(even, odd, strict=True) for indices in alternating]


def _loader(count: int) -> Any:
    def typing(typingctx: Any, array: Any, offset: Any) -> Any:
        if not isinstance(array, types.Array) or array.dtype != types.uint32 or offset != types.int64:
            return None

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            pointer = lanes.vector_pointer(context, builder, signature.args[0], *args)
            vectors = [
                builder.load(builder.gep(pointer, [ir.Constant(code.I64, k)]), align=4) for k in range(count)
            ]
            return context.make_tuple(builder, signature.return_type, _ir_unzip(builder, vectors))

        return _vectors(count)(array, offset), codegen

    return intrinsic(typing)


load4 = _loader(4)
"""`load4(array, offset)`: `LANES` records of four words (extension elements) from `offset` words on."""

load8 = _loader(8)
"""`load8(array, offset)`: `LANES` records of eight words (pairs of extension elements)."""


@intrinsic
def store4(typingctx: Any, array: Any, offset: Any, words: Any) -> Any:
    """Write what `load4` reads."""
    if not isinstance(array, types.Array) or array.dtype != types.uint32 or offset != types.int64:
        return None
    if words != _vectors(4):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = lanes.vector_pointer(context, builder, signature.args[0], args[0], args[1])
        parts = [builder.extract_value(args[2], k) for k in range(4)]
        for k, vector in enumerate(_ir_zip(builder, parts)):
            builder.store(vector, builder.gep(pointer, [ir.Constant(code.I64, k)]), align=4)
        return context.get_dummy_value()

    return types.void(array, offset, words), codegen


def _tile_loader(*, masked: bool) -> Any:
    def typing(typingctx: Any, array: Any, rows: Any, at: Any, column: Any, stride: Any, count: Any) -> Any:
        scalars = (at, column, stride, count)
        if not isinstance(array, types.Array) or array.dtype != types.uint32 or set(scalars) != {types.int64}:
            return None
        if not isinstance(rows, types.Array) or rows.dtype != types.int64:
            return None

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            row_data = context.make_array(signature.args[1])(context, builder, args[1]).data
            vectors = []
            for j in range(LANES):
                position = builder.add(args[2], ir.Constant(code.I64, j))
                row = builder.load(builder.gep(row_data, [position]))
                start = builder.add(builder.mul(row, args[4]), args[3])
                pointer = lanes.vector_pointer(context, builder, signature.args[0], args[0], start)
                if masked:
                    mask = lanes.first_lanes(builder, args[5])
                    vectors.append(lanes.masked_load(builder, pointer, mask))
                else:
                    vectors.append(builder.load(pointer, align=4))
            tile = code.transpose(builder, vectors)
            return context.make_tuple(builder, signature.return_type, tile)

        return _vectors(LANES)(array, rows, *scalars), codegen

    return intrinsic(typing)


load_tile = _tile_loader(masked=False)
"""`load_tile(array, rows, at, column, stride, count)`: element k is column `column` + k of the `LANES` rows
`rows[at]`, `rows[at + 1]`, ... of an array whose rows lie `stride` elements apart; `count` is not looked
at."""

load_tile_first = _tile_loader(masked=True)
"""As `load_tile`, but of each row only `count` elements are touched; the other columns are 0."""


@intrinsic
def store_rows(typingctx: Any, array: Any, rows: Any, stride: Any, column: Any, elements: Any) -> Any:
    """The columns from `column` on of the rows `rows[0]`, `rows[1]`, ... from a tuple of 1 to 16 vectors, one a
    column; rows lie `stride` elements apart. Where a row is named twice, its last lane stays."""
    if not isinstance(array, types.Array) or array.dtype != types.uint32:
        return None
    if not isinstance(rows, types.Array) or rows.dtype != types.int64:
        return None
    if {stride, column} != {types.int64} or not isinstance(elements, types.UniTuple):
        return None
    if elements.dtype is not lanes.vector or elements.count > lanes.BLOCK:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        row_data = context.make_array(signature.args[1])(context, builder, args[1]).data
        offsets = []
        for j in range(LANES):
            row = builder.load(builder.gep(row_data, [ir.Constant(code.I64, j)]))
            offsets.append(builder.add(builder.mul(row, args[2]), args[3]))
        lanes.ir_store_columns(context, builder, signature.args[0], args[0], offsets, args[4])
        return context.get_dummy_value()

    return types.void(array, rows, stride, column, elements), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of the element `offset` elements after the start of the array's data, which may
    lie beyond its end."""
    if not isinstance(array, types.Array) or array.dtype != types.uint32 or offset != types.int64:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = lanes.vector_pointer(context, builder, signature.args[0], *args)
        byte_pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        shape = ir.FunctionType(ir.VoidType(), [byte_pointer.type, code.I32, code.I32, code.I32])
        function = code.declare(builder, shape, "llvm.prefetch.p0")
        read, second_level, data = (ir.Constant(code.I32, value) for value in (0, 2, 1))
        builder.call(function, [byte_pointer, read, second_level, data])
        return context.get_dummy_value()

    return types.void(array, offset), codegen
