"""Opening columns outside their domain, the DEEP combination, and FRI folds: see `kernels.deep`, `kernels.fold`.

An extension matrix that these kernels write is row-major, so that an element is 16 contiguous bytes. A thread
inverts its own differences: on a GPU that is cheaper than sharing one inversion.
"""

from typing import Any

import numpy as np

from kernels import field
from kernels.cuda.field import i64
from kernels.cuda.target import Arg, Body, Ops, block_kernel, map_kernel

SUM_THREADS = 256
_HALF = np.uint32(field.monty(field.inverse(2)))
_ZERO = np.uint32(0)
_EXT_ZERO = (_ZERO,) * 4


@map_kernel("barycentric_weights", (Arg.U32S, Arg.U32S, Arg.U32S))
def barycentric_weights(ops: Ops) -> Body:
    """(point U32[4], xs U32[n], out U32[n, 4]): x / (point - x)."""
    code = ops.field
    sub, load_ext, store_ext = code.sub, code.load_ext, code.store_ext
    ext_inverse, ext_scale = code.ext_inverse, code.ext_scale

    def body(i: Any, point: Any, xs: Any, out: Any) -> None:
        p = load_ext(point, i64(0), i64(1))
        x = xs[i]
        store_ext(out, i64(4 * i), ext_scale(x, ext_inverse((sub(p[0], x), p[1], p[2], p[3]))))

    return body


@block_kernel(
    "column_sums",
    (Arg.U32S, Arg.I64, Arg.I64, Arg.I64, Arg.I64, Arg.U32S, Arg.I64, Arg.U32S),
    threads=SUM_THREADS,
    shared_words=4 * SUM_THREADS,
)
def column_sums(ops: Ops) -> Body:
    """(values, row stride, column stride, rows, rows a segment, weights U32[rows, 4], shift, out U32[columns,
    segments, 4]): of each column and segment of rows the sum of value * weight[(row - shift) mod rows].

    A block is one segment of one column; rows and segments are powers of two.
    """
    code = ops.field
    add, sync, load_ext = code.add, ops.sync, code.load_ext
    store_ext, ext_mac = code.store_ext, code.ext_mac

    def body(
        block: Any,
        thread: Any,
        threads: Any,
        shared: Any,
        values: Any,
        row_stride: Any,
        column_stride: Any,
        rows: Any,
        segment_rows: Any,
        weights: Any,
        shift: Any,
        out: Any,
    ) -> None:
        segments = i64(rows // segment_rows)
        column = i64(block // segments)
        first = i64((block - column * segments) * segment_rows)
        start = i64(column * column_stride + first * row_stride)
        total = _EXT_ZERO
        pairs = i64(segment_rows // 2)
        for k in range(thread, pairs, threads):
            x, y = values[i64(start + k * row_stride)], values[i64(start + (k + pairs) * row_stride)]
            u = load_ext(weights, i64(4 * ((first + k - shift) & (rows - 1))), i64(1))
            v = load_ext(weights, i64(4 * ((first + k + pairs - shift) & (rows - 1))), i64(1))
            total = ext_mac(total, x, u, y, v)
        store_ext(shared, i64(4 * thread), total)
        sync()
        half = i64(threads // 2)
        while half > 0:
            for k in range(thread, 4 * half, threads):
                shared[k] = add(shared[k], shared[i64(k + 4 * half)])
            sync()
            half = i64(half // 2)
        for k in range(thread, 4, threads):
            out[i64(4 * block + k)] = shared[k]

    return body


@map_kernel("sum_segments", (Arg.U32S, Arg.I64, Arg.U32S, Arg.U32S))
def sum_segments(ops: Ops) -> Body:
    """(sums U32[columns, segments, 4], segments, factor U32[4], out U32[columns, 4]): factor * their sum."""
    code = ops.field
    load_ext, store_ext, ext_add, ext_mul = code.load_ext, code.store_ext, code.ext_add, code.ext_mul

    def body(i: Any, sums: Any, segments: Any, factor: Any, out: Any) -> None:
        total = _EXT_ZERO
        for k in range(segments):
            total = ext_add(total, load_ext(sums, i64(4 * (i * segments + k)), i64(1)))
        store_ext(out, i64(4 * i), ext_mul(total, load_ext(factor, i64(0), i64(1))))

    return body


@map_kernel("combine_columns", (Arg.U32S, Arg.I64, Arg.I64, Arg.I64, Arg.U32S, Arg.U32S))
def combine_columns(ops: Ops) -> Body:
    """(values, row stride, column stride, width, coefficients U32[even width, 4], out U32[rows, 4]).

    The coefficients are filled up with zeros to an even number.
    """
    code = ops.field
    load_ext, store_ext, ext_mac = code.load_ext, code.store_ext, code.ext_mac

    def body(
        i: Any, values: Any, row_stride: Any, column_stride: Any, width: Any, coefficients: Any, out: Any
    ) -> None:
        total = _EXT_ZERO
        at = i64(i * row_stride)
        for c in range(0, width, 2):
            u = load_ext(coefficients, i64(4 * c), i64(1))
            v = load_ext(coefficients, i64(4 * c + 4), i64(1))
            # The last column of an odd number stands for its neighbour, whose coefficient is zero.
            x, y = (
                values[i64(at + c * column_stride)],
                values[i64(at + min(c + 1, width - 1) * column_stride)],
            )
            total = ext_mac(total, x, u, y, v)
        store_ext(out, i64(4 * i), total)

    return body


@map_kernel("add_opening", (Arg.U32S, Arg.I64, Arg.I64, Arg.U32S, Arg.U32S, Arg.U32S))
def add_opening(ops: Ops) -> Body:
    """(combined, row stride, column stride, xs, parameters U32[12], out U32[m, 4]): out += scale * (value -
    combined) / (point - x); the parameters are value, point, scale."""
    code = ops.field
    sub, load_ext, store_ext = code.sub, code.load_ext, code.store_ext
    ext_add, ext_sub, ext_mul, ext_inverse = code.ext_add, code.ext_sub, code.ext_mul, code.ext_inverse

    def body(
        i: Any, combined: Any, row_stride: Any, column_stride: Any, xs: Any, parameters: Any, out: Any
    ) -> None:
        value = load_ext(parameters, i64(0), i64(1))
        p = load_ext(parameters, i64(4), i64(1))
        inverse = ext_inverse((sub(p[0], xs[i]), p[1], p[2], p[3]))
        difference = ext_sub(value, load_ext(combined, i64(i * row_stride), column_stride))
        term = ext_mul(load_ext(parameters, i64(8), i64(1)), ext_mul(difference, inverse))
        store_ext(out, i64(4 * i), ext_add(load_ext(out, i64(4 * i), i64(1)), term))

    return body


@map_kernel("fold", (Arg.U32S, Arg.U32S, Arg.U32S, Arg.U32S))
def fold(ops: Ops) -> Body:
    """(values U32[2 n, 4], beta U32[4], halves over x U32[n], out U32[n, 4]): one binary fold."""
    code = ops.field
    load_ext, store_ext, ext_add, ext_sub = code.load_ext, code.store_ext, code.ext_add, code.ext_sub
    ext_mul, ext_scale = code.ext_mul, code.ext_scale

    def body(i: Any, values: Any, beta: Any, halves_over_x: Any, out: Any) -> None:
        low = load_ext(values, i64(8 * i), i64(1))
        high = load_ext(values, i64(8 * i + 4), i64(1))
        challenge = load_ext(beta, i64(0), i64(1))
        odd = ext_mul(challenge, ext_scale(halves_over_x[i], ext_sub(low, high)))
        store_ext(out, i64(4 * i), ext_add(ext_scale(_HALF, ext_add(low, high)), odd))

    return body


@map_kernel("powers", (Arg.U32S, Arg.I64, Arg.U32, Arg.U32S))
def powers(ops: Ops) -> Body:
    """(squares U32[bits], bits, start, out): start * the product of squares[k] over the bits k of i.

    With squares base^(2^k) these are powers in order; the highest first, powers in bit-reversed order.
    """
    mul = ops.field.mul

    def body(i: Any, squares: Any, bits: Any, start: Any, out: Any) -> None:
        result = start
        for k in range(bits):
            if (i >> k) & 1:
                result = mul(result, squares[k])
        out[i] = result

    return body
