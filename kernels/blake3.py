"""BLAKE3 (the plain hash, 32 bytes) of many messages at once: every chunk of 1 KiB in a vector lane of its own.

So one long message is as parallel as many short ones. `build_compression` writes the compression once over the
words of a target; `kernels.cuda.digests` runs it in a GPU thread. Source: the BLAKE3 paper (O'Connor, Aumasson,
Neves, Wilcox-O'Hearn, 2020), sections 2.2 to 2.5; the package `blake3` is what tests compare with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import jit, lanes
from kernels.field import U32
from kernels.lanes import LANES, load, load_block, splat, store, store_block
from kernels.messages import BLOCK_BYTES, I64, U8, Blocks, blocks_of
from kernels.sha256 import INITIAL
from kernels.threads import Pool
from kernels.word_lanes import WORDS, load_blocks
from kernels.words import WordOps

DIGEST_BYTES = 32
CHUNK_BYTES = 1024
IV = INITIAL.reshape(1, 8)
"""The key of the plain hash is SHA-256's initial state."""

CHUNK_START, CHUNK_END, PARENT, ROOT = (np.uint32(1 << k) for k in range(4))


def build_compression(ops: WordOps) -> Callable[..., Any]:
    """(chaining value of 8 words, block of 16, counter, length of the block, flags) -> chaining value.

    The counter is below 2^32.
    """
    add, xor, constant, inline = ops.add, ops.xor, ops.constant, ops.inline
    turn_16, turn_12, turn_8, turn_7 = ops.rotate(16), ops.rotate(12), ops.rotate(8), ops.rotate(7)

    @inline
    def mixed(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
        a = add(add(a, b), x)
        d = turn_16(xor(d, a))
        c = add(c, d)
        b = turn_12(xor(b, c))
        a = add(add(a, b), y)
        d = turn_8(xor(d, a))
        c = add(c, d)
        return (a, turn_7(xor(b, c)), c, d)

    @inline
    def one(v: Any, m: Any) -> Any:
        """A round: the columns, then the diagonals."""
        a0, b0, c0, d0 = mixed(v[0], v[4], v[8], v[12], m[0], m[1])
        a1, b1, c1, d1 = mixed(v[1], v[5], v[9], v[13], m[2], m[3])
        a2, b2, c2, d2 = mixed(v[2], v[6], v[10], v[14], m[4], m[5])
        a3, b3, c3, d3 = mixed(v[3], v[7], v[11], v[15], m[6], m[7])
        a0, b1, c2, d3 = mixed(a0, b1, c2, d3, m[8], m[9])
        a1, b2, c3, d0 = mixed(a1, b2, c3, d0, m[10], m[11])
        a2, b3, c0, d1 = mixed(a2, b3, c0, d1, m[12], m[13])
        a3, b0, c1, d2 = mixed(a3, b0, c1, d2, m[14], m[15])
        return (a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3)

    @inline
    def permuted(m: Any) -> Any:
        # fmt: off
        return (
            m[2], m[6], m[3], m[10], m[7], m[0], m[4], m[13],
            m[1], m[11], m[12], m[5], m[9], m[14], m[15], m[8],
        )
        # fmt: on

    @inline
    def compress(cv: Any, block: Any, counter: Any, length: Any, flags: Any) -> Any:
        zero = xor(counter, counter)
        start = (constant(IV, 0, 0), constant(IV, 0, 1), constant(IV, 0, 2), constant(IV, 0, 3))
        v = one(cv + start + (counter, zero, length, flags), block)
        m = block
        for _ in range(6):
            m = permuted(m)
            v = one(v, m)
        return (
            xor(v[0], v[8]),
            xor(v[1], v[9]),
            xor(v[2], v[10]),
            xor(v[3], v[11]),
            xor(v[4], v[12]),
            xor(v[5], v[13]),
            xor(v[6], v[14]),
            xor(v[7], v[15]),
        )

    return compress


_compress = build_compression(WORDS)
_load_3 = lanes.loader(3)


@jit.inline
def _key() -> Any:
    return (
        splat(IV[0, 0]),
        splat(IV[0, 1]),
        splat(IV[0, 2]),
        splat(IV[0, 3]),
        splat(IV[0, 4]),
        splat(IV[0, 5]),
        splat(IV[0, 6]),
        splat(IV[0, 7]),
    )


@jit.kernel(
    jit.reads(2),
    jit.reads(2, dtype=jit.i64),
    jit.reads(1, dtype=jit.i64),
    jit.writes(2),
    jit.writes(1),
    jit.writes(1, dtype=jit.i64),
    jit.i64,
    jit.i64,
)
def _chunks(
    blocks: U32, chunks: I64, order: I64, out: U32, scratch: U32, rows: I64, start: int, stop: int
) -> None:
    """Chaining values of the chunks order[start..stop]; the columns of `chunks` are those of `Chunks.table`.

    `scratch` is U32[8 * LANES] and `rows` I64[LANES], of this range alone.
    """
    for group in range(start, stop, LANES):
        longest = chunks[order[min(group + LANES, stop) - 1], 1]
        cv = _key()
        for block in range(longest):
            for j in range(LANES):
                i = order[min(group + j, stop - 1)]
                ends = block + 1 == chunks[i, 1]
                rows[j] = chunks[i, 0] + min(block, chunks[i, 1] - 1)
                scratch[j] = np.uint32(chunks[i, 3])
                scratch[LANES + j] = np.uint32(chunks[i, 2] if ends else BLOCK_BYTES)
                opening = CHUNK_START if block == 0 else np.uint32(0)
                scratch[2 * LANES + j] = opening | (np.uint32(chunks[i, 4]) if ends else np.uint32(0))
            counter, length, flags = _load_3(scratch, 0)
            cv = _compress(cv, load_blocks(blocks, rows), counter, length, flags)
            for k in range(8):
                store(scratch, k * LANES, cv[k])
            for j in range(min(LANES, stop - group)):
                i = order[group + j]
                if block + 1 == chunks[i, 1]:
                    for k in range(8):
                        out[i, k] = scratch[k * LANES + j]


@jit.kernel(jit.reads(2), jit.reads(1), jit.writes(2), jit.i64, jit.i64)
def _parents(children: U32, flags: U32, out: U32, start: int, stop: int) -> None:
    """Rows start..stop of U32[n, 16], two chaining values side by side.

    Lanes beyond the last row repeat it, flags included: hence `flags` is U32[n + LANES], the last one repeated.
    """
    zero, length = splat(np.uint32(0)), splat(np.uint32(BLOCK_BYTES))
    for row in range(start, stop, LANES):
        block = load_block(children, row, stop - 1, 16, 0)
        cv = _compress(_key(), block, zero, length, load(flags, row))
        store_block(out, row, stop - 1, 8, 0, cv)


@dataclass(frozen=True)
class Chunks:
    """The chunks of all messages, message by message, `counts` I64[n] of them.

    A row of `table` I64[chunks, 5] is a chunk: its first block, its blocks, the bytes in the last of them, the chunk's
    number in its message, and the flags of its last block.
    """

    table: I64
    counts: I64


def chunks_of(blocks: Blocks) -> Chunks:
    """How messages are cut; an empty one is one empty chunk."""
    counts = np.maximum(1, -(-blocks.lengths // CHUNK_BYTES))
    assert counts.size == 0 or counts.max() < 1 << 32, "a counter of 32 bits"
    owner, number = _places(counts)
    length = np.minimum(CHUNK_BYTES, blocks.lengths[owner] - CHUNK_BYTES * number)
    size = np.maximum(1, -(-length // BLOCK_BYTES))
    first = blocks.first[owner] + CHUNK_BYTES // BLOCK_BYTES * number
    flags = np.where(counts[owner] == 1, CHUNK_END | ROOT, CHUNK_END).astype(np.int64)
    return Chunks(np.stack((first, size, length - BLOCK_BYTES * (size - 1), number, flags), axis=1), counts)


def root_digests(values: U32, counts: I64, join: Callable[[U32, U32], U32]) -> U8:
    """U8[n, 32] from the chaining values of all chunks, U32[sum of counts, 8].

    `join` compresses U32[pairs, 16] with flags U32[pairs]. Neighbours are joined level by level and an odd one is
    carried up, which makes BLAKE3's left-balanced tree.
    """
    while counts.size and counts.max() > 1:
        pairs = counts // 2
        joined = pairs + counts % 2
        before, after = _starts(counts), _starts(joined)
        owner, number = _places(pairs)
        left = before[owner] + 2 * number
        flags = np.where(counts[owner] == 2, PARENT | ROOT, PARENT).astype(np.uint32)
        level = np.empty((int(joined.sum()), 8), np.uint32)
        level[after[owner] + number] = join(np.hstack((values[left], values[left + 1])), flags)
        odd = np.flatnonzero(counts % 2)
        level[after[odd] + pairs[odd]] = values[before[odd] + counts[odd] - 1]
        values, counts = level, joined
    return values.astype("<u4").view(np.uint8).reshape(-1, DIGEST_BYTES)


def _starts(counts: I64) -> I64:
    return np.cumsum(counts) - counts


def _places(counts: I64) -> tuple[I64, I64]:
    """Of each of `sum(counts)` things the owner, and its number among the owner's."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - _starts(counts)[owner]


def blake3(pool: Pool, data: U8, offsets: I64) -> U8:
    """The digests U8[n, 32] of n messages, see `kernels.messages`."""
    blocks = blocks_of(pool, data, offsets)
    chunks = chunks_of(blocks)
    values = chunk_values(pool, blocks, chunks.table)
    return root_digests(values, chunks.counts, lambda children, flags: parents(pool, children, flags))


def chunk_values(pool: Pool, blocks: Blocks, table: I64) -> U32:
    """The chaining values U32[n, 8] of chunks, rows of `Chunks.table`."""
    order = np.argsort(table[:, 1], kind="stable")  # what shares a vector ends together
    values = np.empty((len(order), 8), np.uint32)

    def run(start: int, stop: int) -> None:
        scratch, rows = np.empty(8 * LANES, np.uint32), np.empty(LANES, np.int64)
        _chunks(blocks.words, table, order, values, scratch, rows, start, stop)

    pool.run_ranges(run, len(order), LANES, multiple_of=LANES)
    return values


def parents(pool: Pool, children: U32, flags: U32) -> U32:
    """The chaining values U32[n, 8] of pairs U32[n, 16] with flags U32[n]."""
    out = np.empty((len(children), 8), np.uint32)
    repeated = np.pad(flags, (0, LANES), mode="edge")
    pool.run_ranges(
        lambda a, b: _parents(children, repeated, out, a, b), len(children), 4 * LANES, multiple_of=LANES
    )
    return out
