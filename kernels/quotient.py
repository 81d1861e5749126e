"""The quotient of an AIR's folded constraints by the vanishing polynomial, on the quotient domain.

Q(x) = sum_j alpha^(m - 1 - j) c_j(x) / (x^n - 1) for the constraints c_0 ... c_{m-1} in emission order
(Horner), on 3 K, |K| = n * chunks. The constraints are a `kernels.tape.Tape`; the kernel here is the machine
that runs it, on blocks of rows that keep all slots in the cache. Source: proof.md section 5; Plonky3
p3-uni-stark 0.6.2 ``quotient_values``.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from kernels import extension, field
from kernels.deep import bit_reversed_coset, inverse_differences
from kernels.field import U32, Ext
from kernels.interleave import load_tile, load_tile_first, prefetch, store4
from kernels.jit import i64, inline, kernel, reads, u32, u64, writes
from kernels.lanes import LANES, add, load, mul, scale, shifted_cube, splat, store, sub
from kernels.program import SymbolicProgram
from kernels.tape import SELECTORS, Code, Tape, lower
from kernels.threads import Pool
from kernels.wide import load_wide, mac2_scalar, reduce, store_wide

I64 = npt.NDArray[np.int64]

SHIFT = field.GENERATOR
_P = np.uint32(field.P)
_BLOCK = (
    256  # rows at a time: enough to hide an instruction's dispatch, few enough for the second-level cache
)
_LINE = 16  # elements of a cache line

_LOAD_LOCAL, _LOAD_NEXT, _LOAD_SELECTOR = int(Code.LOAD_LOCAL), int(Code.LOAD_NEXT), int(Code.LOAD_SELECTOR)
_SPLAT, _ADD, _ADD3, _ADD_SCALAR = int(Code.SPLAT), int(Code.ADD), int(Code.ADD3), int(Code.ADD_SCALAR)
_SUB, _SUB_SCALAR, _SCALAR_SUB = int(Code.SUB), int(Code.SUB_SCALAR), int(Code.SCALAR_SUB)
_MUL, _MUL_SCALAR, _MUL_SCALAR_ADD = int(Code.MUL), int(Code.MUL_SCALAR), int(Code.MUL_SCALAR_ADD)
_CUBE, _CUBE_SUM, _FOLD = int(Code.CUBE), int(Code.CUBE_SUM), int(Code.FOLD)


@inline
def _binary(operation: Any, slots: Any, target: Any, a: Any, b: Any, count: Any) -> None:
    """Slot by slot: target = operation(a, b)."""
    for at in range(0, count, LANES):
        store(slots, i64(target + at), operation(load(slots, i64(a + at)), load(slots, i64(b + at))))


@inline
def _with_scalar(operation: Any, slots: Any, target: Any, a: Any, scalar: Any, count: Any) -> None:
    """Slot with scalar: target = operation(a, scalar)."""
    value = splat(scalar)
    for at in range(0, count, LANES):
        store(slots, i64(target + at), operation(load(slots, i64(a + at)), value))


@inline
def _sum_of_three(slots: Any, target: Any, a: Any, b: Any, c: Any, count: Any) -> None:
    for at in range(0, count, LANES):
        pair = add(load(slots, i64(a + at)), load(slots, i64(b + at)))
        store(slots, i64(target + at), add(pair, load(slots, i64(c + at))))


@inline
def _scaled_sum(slots: Any, target: Any, a: Any, scalar: Any, c: Any, count: Any) -> None:
    for at in range(0, count, LANES):
        scaled = scale(load(slots, i64(a + at)), scalar)
        store(slots, i64(target + at), add(scaled, load(slots, i64(c + at))))


@inline
def _reversed_sub(x: Any, y: Any) -> Any:
    return sub(y, x)


@inline
def _load_row_values(slots: Any, target: Any, values: Any, offset: Any, count: Any) -> None:
    for at in range(0, count, LANES):
        store(slots, i64(target + at), load(values, i64(offset + at)))


@inline
def _fill(slots: Any, target: Any, scalar: Any, count: Any) -> None:
    value = splat(scalar)
    for at in range(0, count, LANES):
        store(slots, i64(target + at), value)


@inline
def _load_cells(slots: Any, target: Any, trace: Any, rows: Any, column: Any, count: Any) -> None:
    """A tile of `LANES` columns of the rows named into consecutive slots, zero beyond the last column."""
    width = trace.shape[1]
    for at in range(0, count, LANES):
        if column + LANES <= width:
            tile = load_tile(trace, rows, i64(at), i64(column), i64(width), i64(LANES))
        else:
            tile = load_tile_first(trace, rows, i64(at), i64(column), i64(width), i64(width - column))
        for k in range(LANES):
            store(slots, i64(target + k * _BLOCK + at), tile[k])


@inline
def _fold(sums: Any, slots: Any, a: Any, b: Any, weights: Any, j: Any, k: Any, count: Any) -> None:
    """Add the constraint in slot a times weight j and that in slot b times weight k to the accumulators."""
    u0, u1, u2, u3 = u64(weights[j, 0]), u64(weights[j, 1]), u64(weights[j, 2]), u64(weights[j, 3])
    v0, v1, v2, v3 = u64(weights[k, 0]), u64(weights[k, 1]), u64(weights[k, 2]), u64(weights[k, 3])
    for at in range(0, count, LANES):
        x, y = load(slots, i64(a + at)), load(slots, i64(b + at))
        t0, t1, t2, t3 = i64(at), i64(_BLOCK + at), i64(2 * _BLOCK + at), i64(3 * _BLOCK + at)
        store_wide(sums, t0, mac2_scalar(load_wide(sums, t0), x, u0, y, v0))
        store_wide(sums, t1, mac2_scalar(load_wide(sums, t1), x, u1, y, v1))
        store_wide(sums, t2, mac2_scalar(load_wide(sums, t2), x, u2, y, v2))
        store_wide(sums, t3, mac2_scalar(load_wide(sums, t3), x, u3, y, v3))


@inline
def _finish(
    sums: Any, vanishing_inverses: Any, targets: Any, out: Any, first: Any, count: Any, log_rows: Any
) -> None:
    """Reduce the accumulators, divide by x^n - 1 (one value a chunk) and put each row where it belongs."""
    record = np.empty(4 * LANES, dtype=np.uint32)
    for at in range(0, count, LANES):
        inverse = splat(vanishing_inverses[(first + at) >> log_rows])
        s0 = mul(inverse, reduce(load_wide(sums, i64(at))))
        s1 = mul(inverse, reduce(load_wide(sums, i64(_BLOCK + at))))
        s2 = mul(inverse, reduce(load_wide(sums, i64(2 * _BLOCK + at))))
        s3 = mul(inverse, reduce(load_wide(sums, i64(3 * _BLOCK + at))))
        store4(record, i64(0), (s0, s1, s2, s3))
        for lane in range(LANES):
            row = targets[first + at + lane]
            for k in range(4):
                out[row, k] = record[4 * lane + k]


@kernel(
    reads(2, dtype=types.int32),
    reads(1),
    reads(2),
    reads(2),
    reads(2),
    reads(1, dtype=i64),
    reads(1, dtype=i64),
    reads(1),
    writes(2),
    i64,
    i64,
    i64,
    i64,
)
def _run(
    instructions: Any,
    scalars: Any,
    weights: Any,
    trace: Any,
    selectors: Any,
    successors: Any,
    targets: Any,
    vanishing_inverses: Any,
    out: Any,
    slot_count: int,
    log_rows: int,
    start: int,
    stop: int,
) -> None:
    """Run the tape on rows start <= row < stop, multiples of LANES."""
    slots = np.empty(slot_count * _BLOCK, dtype=np.uint32)
    sums = np.empty(4 * _BLOCK, dtype=np.uint64)
    lines_each = -(-_BLOCK * trace.shape[1] // (_LINE * instructions.shape[0]))
    rows, next_rows = np.empty(_BLOCK, dtype=np.int64), np.empty(_BLOCK, dtype=np.int64)
    for first in range(start, stop, _BLOCK):
        count = min(_BLOCK, stop - first)
        sums[:] = 0
        for i in range(count):
            rows[i] = first + i
            next_rows[i] = successors[first + i]
        # Cells are read column by column, which no hardware prefetcher follows: ask for the next block's
        # lines evenly while this one is computed.
        line, last_line = i64((first + count) * trace.shape[1]), i64((first + 2 * count) * trace.shape[1])
        for number in range(instructions.shape[0]):
            for _ in range(lines_each):
                prefetch(trace, min(line, last_line))
                line += _LINE
            code, target = instructions[number, 0], i64(instructions[number, 1]) * _BLOCK
            x, y, z = i64(instructions[number, 2]), i64(instructions[number, 3]), i64(instructions[number, 4])
            a, b, c = x * _BLOCK, y * _BLOCK, z * _BLOCK
            if code == _ADD:
                _binary(add, slots, target, a, b, count)
            elif code == _ADD3:
                _sum_of_three(slots, target, a, b, c, count)
            elif code == _MUL_SCALAR_ADD:
                _scaled_sum(slots, target, a, scalars[y], c, count)
            elif code == _SUB:
                _binary(sub, slots, target, a, b, count)
            elif code == _MUL:
                _binary(mul, slots, target, a, b, count)
            elif code == _CUBE_SUM:
                _with_scalar(shifted_cube, slots, target, a, u32(scalars[y] - _P), count)
            elif code == _FOLD:
                # Here the fields are a, j, b, k: the first of them stands where others have their target.
                _fold(sums, slots, target, b, weights, x, z, count)
            elif code == _CUBE:
                _with_scalar(shifted_cube, slots, target, a, u32(0), count)
            elif code == _ADD_SCALAR:
                _with_scalar(add, slots, target, a, scalars[y], count)
            elif code == _SUB_SCALAR:
                _with_scalar(sub, slots, target, a, scalars[y], count)
            elif code == _SCALAR_SUB:
                _with_scalar(_reversed_sub, slots, target, a, scalars[y], count)
            elif code == _MUL_SCALAR:
                _with_scalar(mul, slots, target, a, scalars[y], count)
            elif code == _LOAD_LOCAL:
                _load_cells(slots, target, trace, rows, x, count)
            elif code == _LOAD_NEXT:
                _load_cells(slots, target, trace, next_rows, x, count)
            elif code == _LOAD_SELECTOR:
                _load_row_values(slots, target, selectors, x * selectors.shape[1] + first, count)
            else:  # _SPLAT
                _fill(slots, target, scalars[x], count)
        _finish(sums, vanishing_inverses, targets, out, first, count, log_rows)


@lru_cache(maxsize=64)
def _tape_of(program: SymbolicProgram) -> Tape:
    return lower(program, tile=LANES)


def _bit_reversal(log_size: int) -> I64:
    """bitrev(i) for every i below 2^log_size."""
    reversal = np.zeros(1, dtype=np.int64)
    for _ in range(log_size):
        reversal = np.concatenate((2 * reversal, 2 * reversal + 1))
    return reversal


@lru_cache(maxsize=4)
def _positions(log_rows: int, log_chunks: int) -> tuple[I64, I64]:
    """For each row of the bit-reversed quotient domain: where its next row lies, and where its quotient
    belongs.

    The next row is 2^log_chunks further in natural order, wrapping. Row i of the natural order belongs to
    chunk i mod 2^log_chunks; the chunks stand one after the other, each in natural order.
    """
    log_size = log_rows + log_chunks
    natural = _bit_reversal(log_size)
    chunks = 1 << log_chunks
    successors = natural[(natural + chunks) & ((1 << log_size) - 1)]
    targets = ((natural & (chunks - 1)) << log_rows) + (natural >> log_chunks)
    successors.flags.writeable = targets.flags.writeable = False
    return successors, targets


@kernel(reads(1), reads(1), reads(2), reads(2), u32, writes(2), i64, i64, i64)
def _selector_rows(
    xs: Any,
    vanishing: Any,
    first_inverses: Any,
    last_inverses: Any,
    last_point: Any,
    out: Any,
    log_rows: int,
    start: int,
    stop: int,
) -> None:
    for row in range(start, stop):
        z = vanishing[row >> log_rows]
        out[0, row] = mul(z, first_inverses[row, 0])
        out[1, row] = mul(z, last_inverses[row, 0])
        out[2, row] = sub(xs[row], last_point)


def _selectors(pool: Pool, log_rows: int, log_chunks: int, vanishing: Sequence[int]) -> U32:
    """The unnormalised selectors of first row, last row and transitions on the quotient domain: U32[3, size].

    They are Z/(x - 1), Z/(x - 1/h) and x - 1/h, for Z = x^n - 1 whose value in each chunk is ``vanishing``.
    """
    xs = bit_reversed_coset(SHIFT, log_rows + log_chunks)
    last = field.inverse(field.two_adic_generator(log_rows))
    out = np.empty((3, xs.size), dtype=np.uint32)
    # The inverses are of (point - x), the selectors want (x - point): Z changes its sign instead.
    arguments = (
        xs,
        field.to_monty([field.neg(z) for z in vanishing]),
        inverse_differences(pool, xs, point=field.EXT_ONE),
        inverse_differences(pool, xs, point=field.ext_from_base(last)),
        np.uint32(field.monty(last)),
        out,
        log_rows,
    )
    pool.run_ranges(lambda start, stop: _selector_rows(*arguments, start, stop), xs.size, _BLOCK)
    return out


def _weights(alpha: Ext, count: int) -> U32:
    """alpha^(count - 1), ..., alpha, 1, and then 0: U32[count + 1, 4]."""
    return np.concatenate((extension.powers(alpha, count)[::-1], np.zeros((1, 4), dtype=np.uint32)))


def quotient(
    pool: Pool,
    program: SymbolicProgram,
    trace_lde: U32,
    *,
    log_rows: int,
    public_values: Sequence[int],
    alpha: Ext,
) -> U32:
    """The quotient's chunks, U32[chunks, n, 4], each on 3 g^i H in natural order (g generates K).

    ``trace_lde`` is U32[n << log_blowup, w], the trace on 3 K' with rows bit-reversed; the quotient domain is
    its first n * chunks rows. ``public_values`` and ``alpha`` are canonical.
    """
    rows, chunks = 1 << log_rows, program.num_quotient_chunks
    log_chunks = chunks.bit_length() - 1
    size = rows * chunks
    assert rows >= LANES, f"a trace has at least {LANES} rows here"
    assert len(trace_lde) >= size, (len(trace_lde), size)
    assert trace_lde.shape[1] == program.width, (trace_lde.shape[1], program.width)
    tape = _tape_of(program)
    root, power = field.two_adic_generator(log_chunks), field.power(SHIFT, rows)
    vanishing = [field.sub(field.mul(power, field.power(root, chunk)), 1) for chunk in range(chunks)]
    needs_selectors = any(node.op in SELECTORS for node in program.nodes)
    selectors = _selectors(pool, log_rows, log_chunks, vanishing) if needs_selectors else _NO_SELECTORS
    out = np.empty((size, 4), dtype=np.uint32)
    arguments = (
        tape.instructions,
        field.to_monty(tape.scalar_values(public_values)),
        _weights(alpha, len(program.roots)),
        trace_lde,
        selectors,
        *_positions(log_rows, log_chunks),
        field.to_monty([field.inverse(z) for z in vanishing]),
        out,
        tape.slots,
        log_rows,
    )
    pool.run_ranges(lambda start, stop: _run(*arguments, start, stop), size, _BLOCK, multiple_of=_BLOCK)
    return out.reshape(chunks, rows, 4)


_NO_SELECTORS: U32 = np.empty((3, 0), dtype=np.uint32)
