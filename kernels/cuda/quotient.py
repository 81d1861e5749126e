"""The constraint tape on the GPU: a thread runs all instructions on its own row of the quotient domain.

The tape (`kernels.tape`, lowered with tiles of one column) is uniform over the threads, so its dispatch costs
no divergence; a slot is a word of the thread's local memory, which the hardware interleaves between
neighbouring threads. The trace is column-major: neighbouring threads read neighbouring rows of a column.
"""

from typing import Any

import numpy as np

from kernels.cuda.field import i64
from kernels.cuda.target import Arg, Body, Kernel, Ops, map_kernel
from kernels.tape import FIELDS, Code

SLOTS = (128, 1024)
"""Slots of the kernels that there are; a program takes the first that suffices."""

_ZERO = np.uint32(0)
_EXT_ZERO = (_ZERO,) * 4
_LOAD_LOCAL, _LOAD_NEXT, _LOAD_SELECTOR = int(Code.LOAD_LOCAL), int(Code.LOAD_NEXT), int(Code.LOAD_SELECTOR)
_SPLAT, _ADD, _ADD3, _ADD_SCALAR = int(Code.SPLAT), int(Code.ADD), int(Code.ADD3), int(Code.ADD_SCALAR)
_SUB, _SUB_SCALAR, _SCALAR_SUB = int(Code.SUB), int(Code.SUB_SCALAR), int(Code.SCALAR_SUB)
_MUL, _MUL_SCALAR, _MUL_SCALAR_ADD = int(Code.MUL), int(Code.MUL_SCALAR), int(Code.MUL_SCALAR_ADD)
_CUBE, _CUBE_SUM, _FOLD = int(Code.CUBE), int(Code.CUBE_SUM), int(Code.FOLD)
_FIELDS = FIELDS

_ARGUMENTS = (
    Arg.I32S,
    Arg.I64,
    Arg.U32S,
    Arg.U32S,
    Arg.U32S,
    Arg.I64,
    Arg.I64,
    Arg.U32S,
    Arg.I64,
    Arg.U32S,
    Arg.I64,
    Arg.I64,
    Arg.U32S,
)


def _build_quotient(ops: Ops) -> Body:
    """(instructions, their number, scalars, weights, trace, row stride, column stride, selectors U32[3, size],
    size, vanishing inverses U32[chunks], log rows, log chunks, out U32[chunks, rows, 4])"""
    code = ops.field
    add, sub, mul, shifted_cube = code.add, code.sub, code.mul, code.shifted_cube
    load_ext, store_ext, ext_mac, ext_scale = code.load_ext, code.store_ext, code.ext_mac, code.ext_scale

    @ops.inline
    def reverse_bits(x: Any, bits: Any) -> Any:
        result = i64(0)
        for _ in range(bits):
            result = i64(i64(result << 1) | (x & 1))
            x = i64(x >> 1)
        return result

    def body(
        i: Any,
        slots: Any,
        instructions: Any,
        count: Any,
        scalars: Any,
        weights: Any,
        trace: Any,
        row_stride: Any,
        column_stride: Any,
        selectors: Any,
        size: Any,
        vanishing_inverses: Any,
        log_rows: Any,
        log_chunks: Any,
        out: Any,
    ) -> None:
        log_size = i64(log_rows + log_chunks)
        natural = reverse_bits(i, log_size)
        successor = reverse_bits(i64((natural + (i64(1) << log_chunks)) & (size - 1)), log_size)
        here, after = i64(i * row_stride), i64(successor * row_stride)
        total = _EXT_ZERO
        for number in range(count):
            at = i64(number * _FIELDS)
            operation, d = instructions[at], instructions[at + 1]
            a, b, c = instructions[at + 2], instructions[at + 3], instructions[at + 4]
            if operation == _LOAD_LOCAL:
                slots[d] = trace[i64(here + a * column_stride)]
            elif operation == _FOLD:
                # Here the fields are a, j, b, k: the first of them stands where others have their target.
                u = load_ext(weights, i64(i64(4) * a), i64(1))
                v = load_ext(weights, i64(i64(4) * c), i64(1))
                total = ext_mac(total, slots[d], u, slots[b], v)
            elif operation == _ADD:
                slots[d] = add(slots[a], slots[b])
            elif operation == _ADD3:
                slots[d] = add(add(slots[a], slots[b]), slots[c])
            elif operation == _MUL_SCALAR_ADD:
                slots[d] = add(mul(slots[a], scalars[b]), slots[c])
            elif operation == _SUB:
                slots[d] = sub(slots[a], slots[b])
            elif operation == _MUL:
                slots[d] = mul(slots[a], slots[b])
            elif operation == _CUBE_SUM:
                slots[d] = shifted_cube(slots[a], scalars[b])
            elif operation == _CUBE:
                slots[d] = shifted_cube(slots[a], _ZERO)
            elif operation == _ADD_SCALAR:
                slots[d] = add(slots[a], scalars[b])
            elif operation == _SUB_SCALAR:
                slots[d] = sub(slots[a], scalars[b])
            elif operation == _SCALAR_SUB:
                slots[d] = sub(scalars[b], slots[a])
            elif operation == _MUL_SCALAR:
                slots[d] = mul(slots[a], scalars[b])
            elif operation == _LOAD_NEXT:
                slots[d] = trace[i64(after + a * column_stride)]
            elif operation == _LOAD_SELECTOR:
                slots[d] = selectors[i64(a * size + i)]
            else:  # _SPLAT
                slots[d] = scalars[a]
        # The chunks stand one after the other, each in natural order.
        target = i64(((natural & ((1 << log_chunks) - 1)) << log_rows) + (natural >> log_chunks))
        store_ext(out, i64(4 * target), ext_scale(vanishing_inverses[i >> log_rows], total))

    return body


QUOTIENTS: dict[int, Kernel] = {
    slots: map_kernel(f"quotient_{slots}", _ARGUMENTS, local_words=slots)(_build_quotient) for slots in SLOTS
}


@map_kernel("selectors", (Arg.U32S, Arg.U32S, Arg.I64, Arg.U32, Arg.U32, Arg.I64, Arg.U32S))
def selectors(ops: Ops) -> Body:
    """(xs, vanishing U32[chunks], log rows, one, last point, size, out U32[3, size]): Z/(x - 1), Z/(x - last)
    and x - last."""
    sub, mul, inverse = ops.field.sub, ops.field.mul, ops.field.inverse

    def body(
        i: Any, xs: Any, vanishing: Any, log_rows: Any, one: Any, last: Any, size: Any, out: Any
    ) -> None:
        z = vanishing[i >> log_rows]
        x = xs[i]
        out[i] = mul(z, inverse(sub(x, one)))
        out[i64(size + i)] = mul(z, inverse(sub(x, last)))
        out[i64(2 * size + i)] = sub(x, last)

    return body
