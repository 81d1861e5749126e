"""SHA-256 and BLAKE3 on the GPU: a message, a chunk or a pair of chaining values in each thread.

The compressions are those of `kernels.sha256` and `kernels.blake3`, over the words of a thread.
"""

from typing import Any

import numpy as np

from kernels import blake3, sha256
from kernels.cuda.field import i64, u32
from kernels.cuda.hashing import build_load_8, build_store_8
from kernels.cuda.target import Arg, Body, Ops, map_kernel
from kernels.messages import BLOCK_BYTES, BLOCK_WORDS

_INITIAL = tuple(np.uint32(word) for word in sha256.INITIAL)
_ZERO = np.uint32(0)
_BLOCK_BYTES = np.uint32(BLOCK_BYTES)
CHUNK_COLUMNS = 5
"""Columns of `kernels.blake3.Chunks.table`."""


@map_kernel("sha256", (Arg.U32S, Arg.I64S, Arg.U32S))
def sha256_messages(ops: Ops) -> Body:
    """(blocks U32[m, 16], first I64[n + 1], out U32[n, 8]): message i has the blocks first[i] ... first[i + 1] - 1,
    padded, in this machine's byte order; digests likewise."""
    compress = sha256.build_compression(ops.words)
    load_8, store_8, initial = build_load_8(ops), build_store_8(ops), _INITIAL

    def body(i: Any, blocks: Any, first: Any, out: Any) -> None:
        state = initial
        for block in range(first[i], first[i + 1]):
            at = i64(block * BLOCK_WORDS)
            state = compress(state, load_8(blocks, at, i64(1)) + load_8(blocks, i64(at + 8), i64(1)))
        store_8(out, i64(i * 8), i64(1), state)

    return body


@map_kernel("blake3_chunks", (Arg.U32S, Arg.I64S, Arg.U32S))
def blake3_chunks(ops: Ops) -> Body:
    """(blocks U32[m, 16], chunks I64[n, 5], out U32[n, 8]): chaining values; see `kernels.blake3.Chunks`."""
    compress = blake3.build_compression(ops.words)
    load_8, store_8, key = build_load_8(ops), build_store_8(ops), _INITIAL
    chunk_start = blake3.CHUNK_START

    def body(i: Any, blocks: Any, chunks: Any, out: Any) -> None:
        row = i64(i * CHUNK_COLUMNS)
        first, count, left = chunks[row], chunks[row + 1], chunks[row + 2]
        counter, closing = u32(chunks[row + 3]), u32(chunks[row + 4])
        cv = key
        for block in range(count):
            ends = block + 1 == count
            length = u32(left) if ends else _BLOCK_BYTES
            flags = u32((chunk_start if block == 0 else _ZERO) | (closing if ends else _ZERO))
            at = i64((first + block) * BLOCK_WORDS)
            words = load_8(blocks, at, i64(1)) + load_8(blocks, i64(at + 8), i64(1))
            cv = compress(cv, words, counter, length, flags)
        store_8(out, i64(i * 8), i64(1), cv)

    return body


@map_kernel("blake3_parents", (Arg.U32S, Arg.U32S, Arg.U32S))
def blake3_parents(ops: Ops) -> Body:
    """(children U32[n, 16], flags U32[n], out U32[n, 8])"""
    compress = blake3.build_compression(ops.words)
    load_8, store_8, key = build_load_8(ops), build_store_8(ops), _INITIAL

    def body(i: Any, children: Any, flags: Any, out: Any) -> None:
        at = i64(i * BLOCK_WORDS)
        words = load_8(children, at, i64(1)) + load_8(children, i64(at + 8), i64(1))
        store_8(out, i64(i * 8), i64(1), compress(key, words, _ZERO, _BLOCK_BYTES, flags[i]))

    return body
