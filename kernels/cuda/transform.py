"""Low-degree extension on the GPU: the three passes of `kernels.lde` through shared memory, and transposition.

Of 2^k rows, position p = q + low * t with low = 2^(k/2) or so. A block takes a *tile* of neighbouring
sequences of one column, so that its reads and writes are of runs of words:

1. `interpolate`: tiles of source positions h0 ... h0 + tile - 1 modulo high, read in bit-reversed order of the
   rest; the lower layers of the inverse transform; written as blocks of `low` consecutive positions.
2. `cross`: tiles of q, all t; the upper layers of the inverse transform; for each coset the scale and the upper
   layers of the evaluation.
3. `evaluate`: tiles of blocks of `low` consecutive positions; the lower layers of the evaluation.

A column of the result is contiguous. Tables of roots are those of `kernels.ntt.roots`.
"""

from typing import Any

from kernels.cuda.field import i64
from kernels.cuda.target import Arg, Body, Ops, block_kernel

LOG_SHARED = 13
"""log2 of the elements that a block of passes 1 and 3 works on (32 KiB); a coset of pass 2 has half of it."""
MAX_LOG_TILE = 4
MAX_LOG_ROWS = 2 * (LOG_SHARED - 1)
_PADDED_WORDS = (1 << LOG_SHARED) + (1 << LOG_SHARED) // 32
_SECOND = _PADDED_WORDS // 2
_THREADS = 256

TRANSPOSE_TILE = 32


def _build_padded(ops: Ops) -> Any:
    @ops.inline
    def padded(x: Any) -> Any:
        """Where element x of the tile stands: a word is left out in 32, against bank conflicts of strides."""
        return i64(x + (x >> 5))

    return padded


def _build_reversed(ops: Ops) -> Any:
    @ops.inline
    def reverse_bits(x: Any, bits: Any) -> Any:
        result = i64(0)
        for _ in range(bits):
            result = i64(i64(result << 1) | (x & 1))
            x = i64(x >> 1)
        return result

    return reverse_bits


def _build_layers(ops: Ops) -> tuple[Any, Any]:
    """(up, down): all layers over 2^log_rows rows in shared memory, by the threads of a block together.

    Element (row, t) of the tile stands at base + row * row_step + t * tile_step, and its sequence meets the
    roots step * (half + j) + offset + t * spread of the table. Layers are done two at a time, as in
    `kernels.ntt`; an odd one is the lowest.
    """
    add, sub, mul, sync, padded = ops.field.add, ops.field.sub, ops.field.mul, ops.sync, _build_padded(ops)

    def up(
        thread: Any,
        threads: Any,
        shared: Any,
        base: Any,
        log_rows: Any,
        log_tile: Any,
        row_step: Any,
        tile_step: Any,
        table: Any,
        step: Any,
        offset: Any,
        spread: Any,
    ) -> None:
        tile_mask = i64(i64(i64(1) << log_tile) - 1)
        if log_rows & 1:
            for k in range(thread, i64(1) << i64(log_rows - 1 + log_tile), threads):
                t, m = i64(k & tile_mask), i64(k >> log_tile)
                at = i64(base + 2 * m * row_step + t * tile_step)
                p0, p1 = padded(at), padded(i64(at + row_step))
                x0, x1 = shared[p0], mul(shared[p1], table[i64(step + offset + t * spread)])
                shared[p0], shared[p1] = add(x0, x1), sub(x0, x1)
            sync()
        for layer in range(log_rows & 1, log_rows, 2):
            half = i64(i64(1) << layer)
            distance, apart = i64(half * row_step), i64(half * step)
            for k in range(thread, i64(1) << i64(log_rows - 2 + log_tile), threads):
                t, m = i64(k & tile_mask), i64(k >> log_tile)
                j = i64(m & (half - 1))
                at = i64(base + (4 * m - 3 * j) * row_step + t * tile_step)
                root = i64(apart + j * step + offset + t * spread)
                p0, p1 = padded(at), padded(i64(at + distance))
                p2, p3 = padded(i64(at + 2 * distance)), padded(i64(at + 3 * distance))
                inner = table[root]
                x0, x1, x2, x3 = shared[p0], mul(shared[p1], inner), shared[p2], mul(shared[p3], inner)
                y0, y1 = add(x0, x1), sub(x0, x1)
                y2 = mul(add(x2, x3), table[i64(root + apart)])
                y3 = mul(sub(x2, x3), table[i64(root + 2 * apart)])
                shared[p0], shared[p1] = add(y0, y2), add(y1, y3)
                shared[p2], shared[p3] = sub(y0, y2), sub(y1, y3)
            sync()

    def down(
        thread: Any,
        threads: Any,
        shared: Any,
        base: Any,
        log_rows: Any,
        log_tile: Any,
        row_step: Any,
        tile_step: Any,
        table: Any,
        step: Any,
        offset: Any,
        spread: Any,
    ) -> None:
        tile_mask = i64(i64(i64(1) << log_tile) - 1)
        for layer in range(log_rows - 2, -1, -2):
            half = i64(i64(1) << layer)
            distance, apart = i64(half * row_step), i64(half * step)
            for k in range(thread, i64(1) << i64(log_rows - 2 + log_tile), threads):
                t, m = i64(k & tile_mask), i64(k >> log_tile)
                j = i64(m & (half - 1))
                at = i64(base + (4 * m - 3 * j) * row_step + t * tile_step)
                root = i64(apart + j * step + offset + t * spread)
                p0, p1 = padded(at), padded(i64(at + distance))
                p2, p3 = padded(i64(at + 2 * distance)), padded(i64(at + 3 * distance))
                inner = table[root]
                x0, x1, x2, x3 = shared[p0], shared[p1], shared[p2], shared[p3]
                y0, y2 = add(x0, x2), mul(sub(x0, x2), table[i64(root + apart)])
                y1, y3 = add(x1, x3), mul(sub(x1, x3), table[i64(root + 2 * apart)])
                shared[p0], shared[p1] = add(y0, y1), mul(sub(y0, y1), inner)
                shared[p2], shared[p3] = add(y2, y3), mul(sub(y2, y3), inner)
            sync()
        if log_rows & 1:
            for k in range(thread, i64(1) << i64(log_rows - 1 + log_tile), threads):
                t, m = i64(k & tile_mask), i64(k >> log_tile)
                at = i64(base + 2 * m * row_step + t * tile_step)
                p0, p1 = padded(at), padded(i64(at + row_step))
                x0, x1 = shared[p0], shared[p1]
                shared[p0], shared[p1] = add(x0, x1), mul(sub(x0, x1), table[i64(step + offset + t * spread)])
            sync()

    return ops.inline(up), ops.inline(down)


@block_kernel(
    "lde_interpolate",
    (Arg.U32S, Arg.I64, Arg.I64, Arg.U32S, Arg.I64, Arg.U32S, Arg.I64, Arg.I64, Arg.I64),
    threads=_THREADS,
    shared_words=_PADDED_WORDS,
)
def interpolate(ops: Ops) -> Body:
    """(values, row stride, column stride, out, column stride of out, inverse roots, log low, log high, log
    tile): blocks are columns times 2^(log high - log tile)."""
    padded, reverse_bits, sync, (up, _) = (
        _build_padded(ops),
        _build_reversed(ops),
        ops.sync,
        _build_layers(ops),
    )

    def body(
        block: Any,
        thread: Any,
        threads: Any,
        shared: Any,
        values: Any,
        row_stride: Any,
        column_stride: Any,
        out: Any,
        out_stride: Any,
        table: Any,
        log_low: Any,
        log_high: Any,
        log_tile: Any,
    ) -> None:
        column = i64(block >> i64(log_high - log_tile))
        first = i64(i64(block - (column << i64(log_high - log_tile))) << log_tile)
        count = i64(i64(1) << i64(log_low + log_tile))
        for k in range(thread, count, threads):
            t, j = i64(k & ((1 << log_tile) - 1)), i64(k >> log_tile)
            source = i64((j << log_high) + first + t)
            at = i64((reverse_bits(j, log_low) << log_tile) + t)
            shared[padded(at)] = values[i64(column * column_stride + source * row_stride)]
        sync()
        tile = i64(i64(1) << log_tile)
        up(thread, threads, shared, i64(0), log_low, log_tile, tile, i64(1), table, i64(1), i64(0), i64(0))
        for k in range(thread, count, threads):
            q, t = i64(k & ((1 << log_low) - 1)), i64(k >> log_low)
            position = i64((reverse_bits(i64(first + t), log_high) << log_low) + q)
            out[i64(column * out_stride + position)] = shared[padded(i64((q << log_tile) + t))]

    return body


@block_kernel(
    "lde_cross",
    (Arg.U32S, Arg.I64, Arg.U32S, Arg.U32S, Arg.U32S, Arg.I64, Arg.I64, Arg.I64, Arg.I64),
    threads=_THREADS,
    shared_words=2 * _SECOND,
)
def cross(ops: Ops) -> Body:
    """(out, column stride, inverse roots, roots, scales U32[cosets, n], cosets, log low, log high, log tile):
    blocks are columns times 2^(log low - log tile)."""
    padded, sync, mul, (up, down) = _build_padded(ops), ops.sync, ops.field.mul, _build_layers(ops)
    second = 1 << (LOG_SHARED - 1)

    def body(
        block: Any,
        thread: Any,
        threads: Any,
        shared: Any,
        out: Any,
        out_stride: Any,
        inverse_table: Any,
        table: Any,
        scales: Any,
        cosets: Any,
        log_low: Any,
        log_high: Any,
        log_tile: Any,
    ) -> None:
        column = i64(block >> i64(log_low - log_tile))
        first = i64(i64(block - (column << i64(log_low - log_tile))) << log_tile)
        count = i64(i64(1) << i64(log_high + log_tile))
        low, tile, size = (
            i64(i64(1) << log_low),
            i64(i64(1) << log_tile),
            i64(i64(1) << i64(log_low + log_high)),
        )
        base = i64(column * out_stride + first)
        one = i64(1)
        for k in range(thread, count, threads):
            t, r = i64(k & (tile - 1)), i64(k >> log_tile)
            shared[padded(k)] = out[i64(base + t + (r << log_low))]
        sync()
        up(thread, threads, shared, i64(0), log_high, log_tile, tile, one, inverse_table, low, first, one)
        for coset in range(cosets):
            for k in range(thread, count, threads):
                t, r = i64(k & (tile - 1)), i64(k >> log_tile)
                factor = scales[i64(coset * size + first + t + (r << log_low))]
                shared[padded(i64(second + k))] = mul(shared[padded(k)], factor)
            sync()
            down(thread, threads, shared, i64(second), log_high, log_tile, tile, one, table, low, first, one)
            for k in range(thread, count, threads):
                t, r = i64(k & (tile - 1)), i64(k >> log_tile)
                out[i64(base + coset * size + t + (r << log_low))] = shared[padded(i64(second + k))]
            sync()

    return body


@block_kernel(
    "lde_evaluate",
    (Arg.U32S, Arg.I64, Arg.U32S, Arg.I64, Arg.I64, Arg.I64),
    threads=_THREADS,
    shared_words=_PADDED_WORDS,
)
def evaluate(ops: Ops) -> Body:
    """(out, column stride, roots, log low, log of a column's blocks of `low`, log tile): blocks are columns
    times 2^(log blocks - log tile)."""
    padded, sync, (_, down) = _build_padded(ops), ops.sync, _build_layers(ops)

    def body(
        block: Any,
        thread: Any,
        threads: Any,
        shared: Any,
        out: Any,
        out_stride: Any,
        table: Any,
        log_low: Any,
        log_blocks: Any,
        log_tile: Any,
    ) -> None:
        column = i64(block >> i64(log_blocks - log_tile))
        tile = i64(block - (column << i64(log_blocks - log_tile)))
        count = i64(i64(1) << i64(log_low + log_tile))
        base = i64(column * out_stride + tile * count)
        for k in range(thread, count, threads):
            shared[padded(k)] = out[i64(base + k)]
        sync()
        low = i64(i64(1) << log_low)
        down(thread, threads, shared, i64(0), log_low, log_tile, i64(1), low, table, i64(1), i64(0), i64(0))
        for k in range(thread, count, threads):
            out[i64(base + k)] = shared[padded(k)]

    return body


@block_kernel(
    "transpose",
    (Arg.U32S, Arg.I64, Arg.I64, Arg.U32S, Arg.I64),
    threads=_THREADS,
    shared_words=TRANSPOSE_TILE * (TRANSPOSE_TILE + 1),
)
def transpose(ops: Ops) -> Body:
    """(source U32[rows, columns] row-major, rows, columns, out, column stride of out): column-major.

    Blocks are ceil(columns / 32) times ceil(rows / 32).
    """
    sync = ops.sync
    size = TRANSPOSE_TILE

    def body(
        block: Any,
        thread: Any,
        threads: Any,
        shared: Any,
        source: Any,
        rows: Any,
        columns: Any,
        out: Any,
        out_stride: Any,
    ) -> None:
        across = i64((columns + size - 1) // size)
        first_row = i64((block // across) * size)
        first_column = i64((block % across) * size)
        for k in range(thread, size * size, threads):
            r, c = i64(k // size), i64(k % size)
            if first_row + r < rows and first_column + c < columns:
                shared[i64(r * (size + 1) + c)] = source[i64((first_row + r) * columns + first_column + c)]
        sync()
        for k in range(thread, size * size, threads):
            c, r = i64(k // size), i64(k % size)
            if first_row + r < rows and first_column + c < columns:
                out[i64((first_column + c) * out_stride + first_row + r)] = shared[i64(r * (size + 1) + c)]

    return body
