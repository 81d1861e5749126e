"""Poseidon2 kernels: a thread works on its own row, pair, input or permutation.

Matrices come with the strides of rows and columns in elements, so that one kernel reads column-major
matrices (neighbouring threads read neighbouring words) and rows of extension elements alike.
"""

from typing import Any

import numpy as np

from kernels.cuda.field import i64, u32
from kernels.cuda.target import Arg, Body, Ops, block_kernel, map_kernel
from kernels.poseidon2 import (
    DIGEST_LEN,
    HALF_EXTERNAL_ROUNDS,
    RATE_16,
    RATE_24,
    ROUND_CONSTANTS_16,
    TRACE_WIDTH,
)

_WIDTH = 16
_INTERNAL_ROUNDS = len(ROUND_CONSTANTS_16.internal)
_INTERNAL_START = _WIDTH * (1 + HALF_EXTERNAL_ROUNDS)
_FINAL_START = _INTERNAL_START + _INTERNAL_ROUNDS
_ZERO = np.uint32(0)

GRIND_CANDIDATES = 256
NOT_FOUND = np.uint32(0xFFFF_FFFF)


def build_load_8(ops: Ops) -> Any:
    @ops.inline
    def load_8(pointer: Any, at: Any, stride: Any) -> Any:
        return (
            pointer[at],
            pointer[at + stride],
            pointer[at + 2 * stride],
            pointer[at + 3 * stride],
            pointer[at + 4 * stride],
            pointer[at + 5 * stride],
            pointer[at + 6 * stride],
            pointer[at + 7 * stride],
        )

    return load_8


def build_load_8_over(ops: Ops) -> Any:
    @ops.inline
    def one(pointer: Any, at: Any, stride: Any, k: Any, count: Any, kept: Any) -> Any:
        return pointer[at + k * stride] if k < count else kept

    @ops.inline
    def load_8_over(pointer: Any, at: Any, stride: Any, count: Any, s: Any) -> Any:
        """The first `count` elements (any number, also below 0 or above 8), the others those of s."""
        return (
            one(pointer, at, stride, 0, count, s[0]),
            one(pointer, at, stride, 1, count, s[1]),
            one(pointer, at, stride, 2, count, s[2]),
            one(pointer, at, stride, 3, count, s[3]),
            one(pointer, at, stride, 4, count, s[4]),
            one(pointer, at, stride, 5, count, s[5]),
            one(pointer, at, stride, 6, count, s[6]),
            one(pointer, at, stride, 7, count, s[7]),
        )

    return load_8_over


def build_store_8(ops: Ops) -> Any:
    @ops.inline
    def store_8(pointer: Any, at: Any, stride: Any, x: Any) -> None:
        pointer[at] = x[0]
        pointer[at + stride] = x[1]
        pointer[at + 2 * stride] = x[2]
        pointer[at + 3 * stride] = x[3]
        pointer[at + 4 * stride] = x[4]
        pointer[at + 5 * stride] = x[5]
        pointer[at + 6 * stride] = x[6]
        pointer[at + 7 * stride] = x[7]

    return store_8


@map_kernel("permute_16", (Arg.U32S, Arg.U32S))
def permute_16(ops: Ops) -> Body:
    """(states U32[n, 16], out U32[n, 16])"""
    load_8, store_8, permute = build_load_8(ops), build_store_8(ops), ops.permutation_16.permute

    def body(i: Any, states: Any, out: Any) -> None:
        at = i64(i * 16)
        s = permute(load_8(states, at, i64(1)) + load_8(states, at + 8, i64(1)))
        store_8(out, at, i64(1), s[:8])
        store_8(out, at + 8, i64(1), s[8:])

    return body


@map_kernel("permute_24", (Arg.U32S, Arg.U32S))
def permute_24(ops: Ops) -> Body:
    """(states U32[n, 24], out U32[n, 24])"""
    load_8, store_8, permute = build_load_8(ops), build_store_8(ops), ops.permutation_24.permute

    def body(i: Any, states: Any, out: Any) -> None:
        at = i64(i * 24)
        low = load_8(states, at, i64(1)) + load_8(states, at + 8, i64(1))
        s = permute(low + load_8(states, at + 16, i64(1)))
        store_8(out, at, i64(1), s[:8])
        store_8(out, at + 8, i64(1), s[8:16])
        store_8(out, at + 16, i64(1), s[16:])

    return body


@map_kernel("compress", (Arg.U32S, Arg.U32S, Arg.U32S, Arg.I64))
def compress(ops: Ops) -> Body:
    """(left, right, out U32[n, 8], stride): digest i of a side starts at i * stride.

    Neighbours of one layer are `left` = the layer, `right` = the layer from its second digest on, stride 16.
    """
    load_8, store_8, permute = build_load_8(ops), build_store_8(ops), ops.permutation_16.permute

    def body(i: Any, left: Any, right: Any, out: Any, stride: Any) -> None:
        at = i64(i * stride)
        s = permute(load_8(left, at, i64(1)) + load_8(right, at, i64(1)))
        store_8(out, i64(i * 8), i64(1), s[:8])

    return body


@map_kernel("sponge_24", (Arg.U32S, Arg.I64, Arg.I64, Arg.I64, Arg.U32S))
def sponge_24(ops: Ops) -> Body:
    """(rows, row stride, column stride, width, out U32[n, 8]): `poseidon2.sponge24` of each row."""
    load_8, load_8_over, store_8 = build_load_8(ops), build_load_8_over(ops), build_store_8(ops)
    permute = ops.permutation_24.permute
    z = (_ZERO,) * 24

    def body(i: Any, rows: Any, row_stride: Any, column_stride: Any, width: Any, out: Any) -> None:
        s = z
        first = i64(i * row_stride)
        for column in range(0, width, RATE_24):
            at = i64(first + column * column_stride)
            after = i64(at + 8 * column_stride)
            left = i64(width - column)
            if left >= RATE_24:
                rate = load_8(rows, at, column_stride) + load_8(rows, after, column_stride)
            else:
                rate = load_8_over(rows, at, column_stride, left, s[:8]) + load_8_over(
                    rows, after, column_stride, left - 8, s[8:16]
                )
            s = permute(rate + s[16:])
        store_8(out, i64(i * DIGEST_LEN), i64(1), s[:8])

    return body


@map_kernel("sponge_tagged", (Arg.U32S, Arg.I64S, Arg.U32S, Arg.U32S))
def sponge_tagged(ops: Ops) -> Body:
    """(elements, offsets I64[n + 1], capacities U32[n, 2], out U32[n, 8]): H_t, see `Backend.hash_tagged`.

    The capacities are tag and length in Montgomery form.
    """
    load_8_over, store_8, permute = build_load_8_over(ops), build_store_8(ops), ops.permutation_16.permute
    zeros_6, zeros_8 = (_ZERO,) * 6, (_ZERO,) * 8

    def body(i: Any, elements: Any, offsets: Any, capacities: Any, out: Any) -> None:
        start, stop = offsets[i], offsets[i + 1]
        tag_and_length = (capacities[2 * i], capacities[2 * i + 1])
        s = zeros_8 + tag_and_length + zeros_6
        for block in range(max(i64(1), (stop - start + RATE_16 - 1) // RATE_16)):
            at = i64(start + block * RATE_16)
            s = permute(load_8_over(elements, at, i64(1), stop - at, zeros_8) + s[8:])
        store_8(out, i64(i * DIGEST_LEN), i64(1), s[:8])

    return body


def _build_traced(ops: Ops) -> Any:
    """(state, out, offset of its first column, column stride) -> the permuted state, its AIR row written."""
    store_8, permutation = build_store_8(ops), ops.permutation_16
    external_layer, external_round = permutation.external_layer, permutation.external_round
    internal_cube, internal_layer = permutation.internal_cube, permutation.internal_layer

    @ops.inline
    def store_16(out: Any, at: Any, stride: Any, s: Any) -> None:
        store_8(out, at, stride, s[:8])
        store_8(out, i64(at + 8 * stride), stride, s[8:])

    @ops.inline
    def traced(state: Any, out: Any, base: Any, column_stride: Any) -> Any:
        store_16(out, base, column_stride, state)
        s = external_layer(state)
        for half in range(2):
            first = _FINAL_START * half + _WIDTH * (1 - half)
            for r in range(HALF_EXTERNAL_ROUNDS):
                s = external_round(s, half * HALF_EXTERNAL_ROUNDS + r)
                store_16(out, i64(base + (first + r * _WIDTH) * column_stride), column_stride, s)
            for r in range(_INTERNAL_ROUNDS * (1 - half)):
                cube = internal_cube(s[0], r)
                out[i64(base + (_INTERNAL_START + r) * column_stride)] = cube
                s = internal_layer(cube, s)
        return s

    return traced


@map_kernel("permutation_trace", (Arg.U32S, Arg.U32S, Arg.I64, Arg.I64, Arg.I64))
def permutation_trace(ops: Ops) -> Body:
    """(inputs U32[n, 16], out, row stride, column stride, permutations a row): Poseidon2 AIR rows."""
    load_8, traced = build_load_8(ops), _build_traced(ops)

    def body(i: Any, inputs: Any, out: Any, row_stride: Any, column_stride: Any, per_row: Any) -> None:
        row = i // per_row
        base = i64(row * row_stride + (i - row * per_row) * TRACE_WIDTH * column_stride)
        s = load_8(inputs, i64(i * 16), i64(1)) + load_8(inputs, i64(i * 16 + 8), i64(1))
        traced(s, out, base, column_stride)

    return body


@map_kernel(
    "absorb_rows",
    (Arg.U32S, Arg.I64S, Arg.U32S, Arg.I64S, Arg.I64S, Arg.U32S, Arg.I64, Arg.I64, Arg.U32S),
)
def absorb_rows(ops: Ops) -> Body:
    """(elements, offsets I64[n + 1], capacities U32[n, 8], first I64[n + 1], rows I64[blocks], out, row stride,
    column stride, digests U32[n, 8]): the sponge of each input, from a capacity of its own; block b of input i leaves
    its AIR row at rows[first[i] + b] of `out`."""
    load_8, load_8_over = build_load_8(ops), build_load_8_over(ops)
    store_8, traced = build_store_8(ops), _build_traced(ops)
    zeros_8 = (_ZERO,) * 8

    def body(
        i: Any,
        elements: Any,
        offsets: Any,
        capacities: Any,
        first: Any,
        rows: Any,
        out: Any,
        row_stride: Any,
        column_stride: Any,
        digests: Any,
    ) -> None:
        start, stop = offsets[i], offsets[i + 1]
        s = zeros_8 + load_8(capacities, i64(i * 8), i64(1))
        for block in range(first[i + 1] - first[i]):
            at = i64(start + block * RATE_16)
            base = i64(rows[i64(first[i] + block)] * row_stride)
            rate = load_8_over(elements, at, i64(1), stop - at, zeros_8)
            s = traced(rate + s[8:], out, base, column_stride)
        store_8(digests, i64(i * DIGEST_LEN), i64(1), s[:8])

    return body


@map_kernel("gather_rows", (Arg.U32S, Arg.I64, Arg.I64, Arg.I64, Arg.I64S, Arg.I64, Arg.U32S))
def gather_rows(ops: Ops) -> Body:
    """(matrix, row stride, column stride, width, indices, shift, out U32[q, width]): rows indices >> shift.

    An item is one element of `out`.
    """

    def body(
        i: Any,
        matrix: Any,
        row_stride: Any,
        column_stride: Any,
        width: Any,
        indices: Any,
        shift: Any,
        out: Any,
    ) -> None:
        query = i // width
        row = indices[query] >> shift
        out[i] = matrix[i64(row * row_stride + (i - query * width) * column_stride)]

    return body


@map_kernel("gather_paths", (Arg.U32S, Arg.I64, Arg.I64, Arg.I64S, Arg.U32S))
def gather_paths(ops: Ops) -> Body:
    """(layers, leaves, levels, indices, out U32[q, levels, 8]): siblings bottom-up; an item is one word.

    The layers stand one after the other, leaves first.
    """

    def body(i: Any, layers: Any, leaves: Any, levels: Any, indices: Any, out: Any) -> None:
        digest = i // DIGEST_LEN
        query = digest // levels
        level = i64(digest - query * levels)
        start = 2 * leaves - ((2 * leaves) >> level)
        sibling = (indices[query] >> level) ^ 1
        out[i] = layers[i64((start + sibling) * DIGEST_LEN + (i - digest * DIGEST_LEN))]

    return body


@block_kernel(
    "grind",
    (Arg.U32S, Arg.I64, Arg.U32, Arg.U32, Arg.I64, Arg.U32S),
    threads=256,
    shared_words=GRIND_CANDIDATES,
)
def grind(ops: Ops) -> Body:
    """(state U32[24], slot, R^2, mask, first, found U32[blocks]): each block tries `GRIND_CANDIDATES` in the
    state's slot, beginning at first, and says which is the smallest whose sampled bits are zero, counted
    from the block's own first, or `NOT_FOUND`."""
    mul, permute, sync = ops.field.mul, ops.permutation_24.permute, ops.sync
    load_8 = build_load_8(ops)

    @ops.inline
    def replaced(s: Any, k: Any, slot: Any, candidate: Any) -> Any:
        return candidate if slot == k else s[k]

    @ops.inline
    def sampled(state: Any, slot: Any, x: Any) -> Any:
        s = load_8(state, i64(0), i64(1)) + load_8(state, i64(8), i64(1))
        # fmt: off
        rate = (
            replaced(s, 0, slot, x), replaced(s, 1, slot, x), replaced(s, 2, slot, x), replaced(s, 3, slot, x),
            replaced(s, 4, slot, x), replaced(s, 5, slot, x), replaced(s, 6, slot, x), replaced(s, 7, slot, x),
            replaced(s, 8, slot, x), replaced(s, 9, slot, x), replaced(s, 10, slot, x),
            replaced(s, 11, slot, x), replaced(s, 12, slot, x), replaced(s, 13, slot, x),
            replaced(s, 14, slot, x), replaced(s, 15, slot, x),
        )
        # fmt: on
        return mul(permute(rate + load_8(state, i64(16), i64(1)))[RATE_24 - 1], u32(1))

    def body(
        block: Any,
        thread: Any,
        threads: Any,
        shared: Any,
        state: Any,
        slot: Any,
        to_monty: Any,
        mask: Any,
        first: Any,
        found: Any,
    ) -> None:
        base = i64(first + block * GRIND_CANDIDATES)
        for k in range(thread, GRIND_CANDIDATES, threads):
            shared[k] = u32(sampled(state, slot, mul(u32(base + k), to_monty)) & mask)
        sync()
        if thread == 0:
            best = NOT_FOUND
            for k in range(GRIND_CANDIDATES - 1, -1, -1):
                if shared[k] == _ZERO:
                    best = u32(k)
            found[block] = best

    return body


@map_kernel("copy_matrix", (Arg.U32S, Arg.I64, Arg.I64, Arg.I64, Arg.U32S, Arg.I64, Arg.I64))
def copy_matrix(ops: Ops) -> Body:
    """(source, row stride, column stride, rows, target, row stride, column stride); an item is an element."""

    def body(
        i: Any,
        source: Any,
        row_stride: Any,
        column_stride: Any,
        rows: Any,
        target: Any,
        target_row_stride: Any,
        target_column_stride: Any,
    ) -> None:
        column = i // rows
        row = i64(i - column * rows)
        word = source[i64(row * row_stride + column * column_stride)]
        target[i64(row * target_row_stride + column * target_column_stride)] = word

    return body
