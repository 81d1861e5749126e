"""SHA-256 (FIPS 180-4) of many messages at once, each in a vector lane of its own.

`build_compression` writes the hash once over the words of a target; `kernels.cuda.digests` runs it in a GPU
thread. `hashlib` defines what is computed. One long message is faster there: it is a single chain, and a
processor with SHA instructions needs no lanes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import jit
from kernels.field import U32
from kernels.lanes import LANES, splat, store
from kernels.messages import BLOCK_BYTES, I64, U8, Blocks, blocks_of
from kernels.threads import Pool
from kernels.word_lanes import WORDS, load_blocks
from kernels.words import WordOps

DIGEST_BYTES = 32
_LENGTH_BYTES = 8  # the message's bits, at the end of the last block


def _roots(count: int, exponent: float) -> list[int]:
    """The first 32 bits of the fractional parts of the first primes' square or cube roots, which is where the
    constants come from (FIPS 180-4, 4.2.2 and 5.3.3): exact, by integer roots."""
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, int(n**0.5) + 1))][:count]
    power = round(1 / exponent)
    constants = []
    for prime in primes:
        target = prime << (32 * power)
        root = round(prime**exponent * 2**32)
        while root**power > target:
            root -= 1
        while (root + 1) ** power <= target:
            root += 1
        constants.append(root & 0xFFFF_FFFF)
    return constants


INITIAL = np.array(_roots(8, 1 / 2), np.uint32)
ROUND_CONSTANTS = np.array(_roots(64, 1 / 3), np.uint32).reshape(4, 16)


def build_compression(ops: WordOps) -> Callable[..., Any]:
    """(state of 8 words, block of 16) -> state."""
    add, xor, both, constant, inline = ops.add, ops.xor, ops.both, ops.constant, ops.inline
    turn_2, turn_6, turn_7, turn_11 = ops.rotate(2), ops.rotate(6), ops.rotate(7), ops.rotate(11)
    turn_13, turn_17, turn_18, turn_19 = ops.rotate(13), ops.rotate(17), ops.rotate(18), ops.rotate(19)
    turn_22, turn_25, shift_3, shift_10 = ops.rotate(22), ops.rotate(25), ops.shift(3), ops.shift(10)
    table = ROUND_CONSTANTS

    @inline
    def one(s: Any, word: Any) -> Any:
        """A round; `word` is the schedule's plus the round's constant."""
        a, b, c, d, e, f, g, h = s
        chosen = xor(g, both(e, xor(f, g)))
        first = add(add(h, word), add(chosen, xor(xor(turn_6(e), turn_11(e)), turn_25(e))))
        majority = xor(b, both(xor(a, b), xor(b, c)))
        second = add(majority, xor(xor(turn_2(a), turn_13(a)), turn_22(a)))
        return (add(first, second), a, b, c, add(d, first), e, f, g)

    @inline
    def rounds_16(s: Any, w: Any, k: Any) -> Any:
        s = one(s, add(w[0], constant(table, k, 0)))
        s = one(s, add(w[1], constant(table, k, 1)))
        s = one(s, add(w[2], constant(table, k, 2)))
        s = one(s, add(w[3], constant(table, k, 3)))
        s = one(s, add(w[4], constant(table, k, 4)))
        s = one(s, add(w[5], constant(table, k, 5)))
        s = one(s, add(w[6], constant(table, k, 6)))
        s = one(s, add(w[7], constant(table, k, 7)))
        s = one(s, add(w[8], constant(table, k, 8)))
        s = one(s, add(w[9], constant(table, k, 9)))
        s = one(s, add(w[10], constant(table, k, 10)))
        s = one(s, add(w[11], constant(table, k, 11)))
        s = one(s, add(w[12], constant(table, k, 12)))
        s = one(s, add(w[13], constant(table, k, 13)))
        s = one(s, add(w[14], constant(table, k, 14)))
        return one(s, add(w[15], constant(table, k, 15)))

    @inline
    def next_word(w0: Any, w1: Any, w9: Any, w14: Any) -> Any:
        low = xor(xor(turn_7(w1), turn_18(w1)), shift_3(w1))
        high = xor(xor(turn_17(w14), turn_19(w14)), shift_10(w14))
        return add(add(w0, low), add(w9, high))

    @inline
    def next_words(w: Any) -> Any:
        """The schedule's next 16 words."""
        x0 = next_word(w[0], w[1], w[9], w[14])
        x1 = next_word(w[1], w[2], w[10], w[15])
        x2 = next_word(w[2], w[3], w[11], x0)
        x3 = next_word(w[3], w[4], w[12], x1)
        x4 = next_word(w[4], w[5], w[13], x2)
        x5 = next_word(w[5], w[6], w[14], x3)
        x6 = next_word(w[6], w[7], w[15], x4)
        x7 = next_word(w[7], w[8], x0, x5)
        x8 = next_word(w[8], w[9], x1, x6)
        x9 = next_word(w[9], w[10], x2, x7)
        x10 = next_word(w[10], w[11], x3, x8)
        x11 = next_word(w[11], w[12], x4, x9)
        x12 = next_word(w[12], w[13], x5, x10)
        x13 = next_word(w[13], w[14], x6, x11)
        x14 = next_word(w[14], w[15], x7, x12)
        x15 = next_word(w[15], x0, x8, x13)
        return (x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15)

    @inline
    def compress(state: Any, block: Any) -> Any:
        s, w = state, block
        for k in range(4):
            s = rounds_16(s, w, k)
            w = next_words(w)  # once too often, but the rounds stand in the code once
        return (
            add(state[0], s[0]),
            add(state[1], s[1]),
            add(state[2], s[2]),
            add(state[3], s[3]),
            add(state[4], s[4]),
            add(state[5], s[5]),
            add(state[6], s[6]),
            add(state[7], s[7]),
        )

    return compress


_compress = build_compression(WORDS)


@jit.kernel(
    jit.reads(2),
    jit.reads(1, dtype=jit.i64),
    jit.reads(1, dtype=jit.i64),
    jit.writes(2),
    jit.writes(1),
    jit.writes(1, dtype=jit.i64),
    jit.i64,
    jit.i64,
)
def _sha256(
    blocks: U32, first: I64, order: I64, out: U32, scratch: U32, rows: I64, start: int, stop: int
) -> None:
    """The messages order[start..stop]; message i has the blocks first[i] ... first[i + 1] - 1.

    `scratch` is U32[8 * LANES] and `rows` I64[LANES], of this range alone.
    """
    for group in range(start, stop, LANES):
        last = order[min(group + LANES, stop) - 1]
        state = (
            splat(INITIAL[0]),
            splat(INITIAL[1]),
            splat(INITIAL[2]),
            splat(INITIAL[3]),
            splat(INITIAL[4]),
            splat(INITIAL[5]),
            splat(INITIAL[6]),
            splat(INITIAL[7]),
        )
        for block in range(first[last + 1] - first[last]):
            for j in range(LANES):
                i = order[min(group + j, stop - 1)]
                rows[j] = min(first[i] + block, first[i + 1] - 1)
            state = _compress(state, load_blocks(blocks, rows))
            for k in range(8):
                store(scratch, k * LANES, state[k])
            for j in range(min(LANES, stop - group)):
                i = order[group + j]
                if first[i] + block + 1 == first[i + 1]:
                    for k in range(8):
                        out[i, k] = scratch[k * LANES + j]


def padded(pool: Pool, data: U8, offsets: I64) -> Blocks:
    """The messages as the hash takes them, words in this machine's order (FIPS 180-4, 5.1.1 and 5.2.1)."""
    blocks = blocks_of(pool, data, offsets, extra_bytes=1 + _LENGTH_BYTES)
    view = blocks.words.reshape(-1).view(np.uint8)
    view[blocks.first[:-1] * BLOCK_BYTES + blocks.lengths] = 0x80
    ends = blocks.first[1:] * (BLOCK_BYTES // _LENGTH_BYTES) - 1
    view.view(">u8")[ends] = 8 * blocks.lengths
    blocks.words.byteswap(inplace=True)
    return blocks


def sha256(pool: Pool, data: U8, offsets: I64) -> U8:
    """The digests U8[n, 32] of n messages, see `kernels.messages`."""
    blocks = padded(pool, data, offsets)
    return digest_bytes(states_of(pool, blocks, 0, len(blocks.lengths)))


def states_of(pool: Pool, blocks: Blocks, start: int, stop: int) -> U32:
    """The last states U32[stop - start, 8] of padded messages start ... stop - 1."""
    first = np.ascontiguousarray(blocks.first[start : stop + 1])
    order = np.argsort(np.diff(first), kind="stable")  # what shares a vector ends together
    out = np.empty((len(order), 8), np.uint32)

    def run(a: int, b: int) -> None:
        scratch, rows = np.empty(8 * LANES, np.uint32), np.empty(LANES, np.int64)
        _sha256(blocks.words, first, order, out, scratch, rows, a, b)

    pool.run_ranges(run, len(order), LANES, multiple_of=LANES)
    return out


def digest_bytes(digests: U32) -> U8:
    """U8[n, 32] from the states U32[n, 8]: words are written big-endian."""
    return digests.byteswap().view(np.uint8).reshape(-1, DIGEST_BYTES)
