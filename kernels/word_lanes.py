"""Vectors of plain words: `kernels.words` on the vector type of `kernels.lanes`, a word a lane."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from kernels import jit, lanes
from kernels import lane_code as code
from kernels.field import U32
from kernels.lanes import LANES
from kernels.messages import BLOCK_WORDS
from kernels.words import WordOps


def _binary(emit: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]) -> Any:
    def typing(typingctx: Any, x: Any, y: Any) -> Any:
        if x is not lanes.vector or y is not lanes.vector:
            return None

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return emit(builder, *args)

        return lanes.vector(x, y), codegen

    return jit.intrinsic(typing)


def _unary(emit: Callable[[ir.IRBuilder, ir.Value], ir.Value]) -> Any:
    def typing(typingctx: Any, x: Any) -> Any:
        if x is not lanes.vector:
            return None

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return emit(builder, *args)

        return lanes.vector(x), codegen

    return jit.intrinsic(typing)


def _rotate(k: int) -> Any:
    assert 1 <= k <= 31

    def emit(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
        right = builder.lshr(x, code.constant(x.type, k))
        return builder.or_(right, builder.shl(x, code.constant(x.type, 32 - k)))

    return _unary(emit)


def _shift(k: int) -> Any:
    assert 1 <= k <= 31
    return _unary(lambda builder, x: builder.lshr(x, code.constant(x.type, k)))


@jit.inline
def _constant(table: U32, row: int, column: int) -> Any:
    return lanes.splat(table[row, column])


def _is_array(kind: Any, dtype: Any) -> bool:
    return isinstance(kind, types.Array) and kind.dtype == dtype


@jit.intrinsic
def load_blocks(typingctx: Any, blocks: Any, rows: Any) -> Any:
    """Word k of row `rows[j]` of U32[n, 16] in lane j of vector k: a tuple of 16; `rows` is I64[LANES or more]."""
    if not _is_array(blocks, types.uint32) or not _is_array(rows, types.int64):
        return None
    loaded = types.UniTuple(lanes.vector, BLOCK_WORDS)  # type: ignore[no-untyped-call]  # numba is half typed

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        places = context.make_array(signature.args[1])(context, builder, args[1]).data
        starts = [
            builder.mul(
                builder.load(builder.gep(places, [ir.Constant(code.I64, j)])),
                ir.Constant(code.I64, BLOCK_WORDS),
            )
            for j in range(LANES)
        ]

        def vector_at(start: ir.Value, group: int) -> ir.Value:
            offset = builder.add(start, ir.Constant(code.I64, group))
            pointer = lanes.vector_pointer(context, builder, signature.args[0], args[0], offset)
            return builder.load(pointer, align=4)

        words: list[ir.Value] = []
        for group in range(0, BLOCK_WORDS, LANES):
            words += code.transpose(builder, [vector_at(start, group) for start in starts])
        return context.make_tuple(builder, signature.return_type, words)

    return loaded(blocks, rows), codegen


WORDS = WordOps(
    add=_binary(lambda builder, x, y: builder.add(x, y)),
    xor=_binary(lambda builder, x, y: builder.xor(x, y)),
    both=_binary(lambda builder, x, y: builder.and_(x, y)),
    rotate=_rotate,
    shift=_shift,
    constant=_constant,
    inline=jit.inline,
)
