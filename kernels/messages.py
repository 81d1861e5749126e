"""Many byte strings as two arrays, and as blocks: how hashes of 64-byte blocks get their input.

The bytes of all messages stand one after the other; message i is `data[offsets[i]:offsets[i + 1]]`. A kernel
sees `Blocks`: every message begins a block of its own, and zeros follow it to the end of its last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import buffers, jit
from kernels.field import U32
from kernels.threads import Pool

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

BLOCK_BYTES = 64
BLOCK_WORDS = 16
_MESSAGES_A_RANGE = 64


def pack(messages: Sequence[bytes]) -> tuple[U8, I64]:
    """(data U8[total], offsets I64[n + 1]) of these messages."""
    offsets = np.zeros(len(messages) + 1, np.int64)
    np.cumsum([len(message) for message in messages], out=offsets[1:])
    return np.frombuffer(b"".join(messages), np.uint8), offsets


@dataclass(frozen=True)
class Blocks:
    """Message i has the blocks `first[i]` ... `first[i + 1] - 1` of `words`, U32[blocks, 16], which are its bytes
    as they stand in memory; `lengths` are in bytes."""

    words: U32
    first: I64
    lengths: I64


@jit.kernel(
    jit.reads(1, dtype=jit.u8),
    jit.reads(1, dtype=jit.i64),
    jit.reads(1, dtype=jit.i64),
    jit.writes(1, dtype=jit.u8),
    jit.i64,
    jit.i64,
)
def _lay_out(data: U8, offsets: I64, first: I64, out: U8, start: int, stop: int) -> None:
    """Messages start..stop and the zeros behind them. Unsigned places need no check for a negative one, so that this
    becomes a plain copy."""
    one = np.uint64(1)
    for i in range(start, stop):
        source, end = np.uint64(offsets[i]), np.uint64(offsets[i + 1])
        place, behind = np.uint64(first[i] * BLOCK_BYTES), np.uint64(first[i + 1] * BLOCK_BYTES)
        while source < end:
            out[place] = data[source]
            source += one
            place += one
        while place < behind:
            out[place] = 0
            place += one


def blocks_of(pool: Pool, data: U8, offsets: I64, *, extra_bytes: int = 0) -> Blocks:
    """Every message with room for at least `extra_bytes` behind it; an empty one has one block."""
    offsets = np.ascontiguousarray(offsets, np.int64)
    assert data.ndim == 1, data.shape
    assert data.dtype == np.uint8, data.dtype
    assert offsets.ndim == 1, offsets.shape
    assert (offsets[0], offsets[-1]) == (0, data.size), "the offsets do not span the data"
    lengths = np.diff(offsets)
    assert (lengths >= 0).all(), "the offsets do not rise"
    first = np.zeros(len(offsets), np.int64)
    np.cumsum(np.maximum(1, -(-(lengths + extra_bytes) // BLOCK_BYTES)), out=first[1:])
    words = buffers.empty((int(first[-1]), BLOCK_WORDS))
    out, data = words.reshape(-1).view(np.uint8), np.ascontiguousarray(data)
    pool.run_ranges(lambda a, b: _lay_out(data, offsets, first, out, a, b), len(lengths), _MESSAGES_A_RANGE)
    return Blocks(words, first, lengths)
