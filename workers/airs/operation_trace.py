"""The trace of a batch: rows for `OperationAir`, from witnesses, as array operations over the whole batch.

Row by row this would read: absorb a block, permute, fill the registers. Done for all operations at once it
is: hash each kind of digest for the whole batch, every permutation leaving its columns in its row
(`kernels.absorb`), then set flags and registers with index arrays.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from kernels.backend import Backend
from kernels.field import U32, P, monty, to_monty
from workers.airs.blinding import BlindingSource, SystemBlinding
from workers.airs.operation import (
    CNT,
    FLAGS,
    LEFT,
    MIN_PADDING_ROWS,
    OUT,
    RATE,
    WIDTH,
    Flag,
    H,
    Y,
    Z,
)
from workers.airs.poseidon2 import COLUMNS
from workers.encoding import Tag, digests_of, string_elements
from workers.hashing import default_backend
from workers.statement import (
    MAX_OPERATIONS,
    MAX_OUTPUT_BYTES,
    OperationWitness,
    Statement,
    WitnessElements,
    batch_public_values,
    statements_of,
)

I64 = npt.NDArray[np.int64]
_Take = Callable[[I64, slice], U32]
"""(rows, columns) of the trace, wherever it lies."""

FIXED_ROWS = 11
"""Rows of an operation beside those that absorb its output."""
MAX_LOG_ROWS = 17
LOG_BLOWUP = 1
"""That of every parameter set: what `OperationTrace.memory` has room for."""
BLINDED_CELLS = 2 * RATE + RATE + 1
"""Free cells of a padding row: 16 inputs, 8 of Y, LEFT."""

_STATE = 2 * RATE
_ONE = np.uint32(monty(1))
_Y, _FLAGS = Y - COLUMNS, FLAGS - COLUMNS  # among the registers, the columns beside the permutation's
_SMALL = to_monty(np.arange(string_elements(MAX_OUTPUT_BYTES) + 1))
"""Montgomery form of what CNT and LEFT count: operations of a batch, elements of an output."""


class BatchSizeError(ValueError):
    """The operations do not fit one proof."""

    code = "batch_size"


@dataclass(frozen=True, kw_only=True, eq=False)
class OperationTrace:
    """A batch ready to be proved: `trace` is U32[2^log_rows, 192] in Montgomery form; `root` is 32 bytes."""

    trace: U32
    root: bytes
    n: int
    log_rows: int
    operation_rows: int
    memory: U32 | None
    """What `trace` is the last rows of: room for its extension (`workers.stark.prover.prove`); None on a device."""
    digests: "_Digests"

    @cached_property
    def statement_digests(self) -> tuple[bytes, ...]:
        """The digests S that the proof is about, in order."""
        return tuple(digests_of(self.digests.statements))

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """All public digests of the operations. Bindings, which no proof speaks of, are hashed here."""
        return tuple(statements_of(**vars(self.digests)))

    @property
    def public_values(self) -> list[int]:
        """The root's 8 elements and n."""
        return batch_public_values(self.root, self.n)


def rows_for(output_length: int) -> int:
    """Rows, which is permutations, of an operation with an output of that many bytes."""
    return -(-string_elements(output_length) // RATE) + FIXED_ROWS


def log_rows_for(output_lengths: Iterable[int]) -> int:
    """log2 of the rows of a batch of such outputs, padding included. May exceed `MAX_LOG_ROWS`."""
    return _log_rows(sum(rows_for(length) for length in output_lengths))


def _log_rows(operation_rows: int) -> int:
    return (operation_rows + MIN_PADDING_ROWS - 1).bit_length()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Digests:
    """Public digests of all operations, U32[n, 8] in Montgomery form."""

    publics: U32
    constraints: U32
    outputs: U32
    nullifiers: U32
    keys: U32
    statements: U32


@dataclass(frozen=True, eq=False)
class _Places:
    """Where the rows of each operation are: `start` [n] its first row, `blocks` [n] its C rows, `elements`
    [n] of enc(output). `c_rows` are all C rows in order, `c_owner` whose they are and `c_block` which
    block."""

    start: I64
    blocks: I64
    elements: I64
    c_rows: I64
    c_owner: I64
    c_block: I64
    operation_rows: int

    @classmethod
    def of(cls, witnesses: Sequence[OperationWitness]) -> "_Places":
        elements = np.array([string_elements(len(w.output)) for w in witnesses], dtype=np.int64)
        blocks = -(-elements // RATE)
        ends = np.cumsum(blocks + FIXED_ROWS)
        start = ends - blocks - FIXED_ROWS
        owner = np.repeat(np.arange(len(witnesses)), blocks)
        block = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        return cls(start, blocks, elements, start[owner] + 6 + block, owner, block, int(ends[-1]))

    def head(self, row: int) -> I64:
        """The rows S1 N1 N2 S2 K S3 of all operations, by number 0–5."""
        return self.start + row

    def tail(self, row: int) -> I64:
        """The rows S4 O1 O2 S5 R of all operations, by number 0–4."""
        return self.start + 6 + self.blocks + row


def operation_trace(
    domain: bytes,
    witnesses: Sequence[OperationWitness],
    *,
    blinding: BlindingSource | None = None,
    backend: Backend | None = None,
) -> OperationTrace:
    """The trace of a batch, with at least `MIN_PADDING_ROWS` padding rows filled from `blinding` (None: the
    operating system's randomness). `backend` permutes (None: the CPU on one thread).

    Raises:
        BatchSizeError: there is no operation, more than `MAX_OPERATIONS`, or more rows than 2^`MAX_LOG_ROWS`.
        WitnessError: `domain` is empty or too long.
    """
    backend = backend if backend is not None else default_backend()
    if not 1 <= len(witnesses) <= MAX_OPERATIONS:
        raise BatchSizeError(f"{len(witnesses)} operations; a batch has 1 to {MAX_OPERATIONS}")
    places = _Places.of(witnesses)
    log_rows = _log_rows(places.operation_rows)
    if log_rows > MAX_LOG_ROWS:
        raise BatchSizeError(f"{places.operation_rows} rows do not fit 2^{MAX_LOG_ROWS} with padding")
    trace, memory = backend.new_trace(1 << log_rows, WIDTH, log_blowup=LOG_BLOWUP)
    digests, root = _hash_all(domain, witnesses, places, trace=trace, backend=backend)
    padding = trace[places.operation_rows :]
    source = blinding if blinding is not None else SystemBlinding()
    free = source.elements(BLINDED_CELLS * len(padding)).reshape(-1, BLINDED_CELLS)
    backend.permutation_trace(free[:, :_STATE], out=padding[:, :COLUMNS])

    # Beside the permutations, on its own: many narrow writes far apart would cost more than one copy.
    registers = np.zeros((len(trace), WIDTH - COLUMNS), dtype=np.uint32)
    registers[places.operation_rows :, _Y : _Y + RATE] = free[:, _STATE : _STATE + RATE]
    registers[places.operation_rows :, LEFT - COLUMNS] = free[:, -1]
    _set_flags(registers, places)
    take = partial(backend.take, trace)
    _set_registers(registers, take, places, witnesses)
    _set_running_root(registers, take, places)
    backend.write_columns(trace, COLUMNS, registers)
    return OperationTrace(
        trace=trace,
        root=root,
        n=len(witnesses),
        log_rows=log_rows,
        operation_rows=places.operation_rows,
        memory=memory,
        digests=digests,
    )


def _hash_all(
    domain: bytes,
    witnesses: Sequence[OperationWitness],
    places: _Places,
    *,
    trace: U32,
    backend: Backend,
) -> tuple[_Digests, bytes]:
    """The batch's digests and its root; the permutations of all those that stand in the trace are left there."""
    elements = WitnessElements.of(domain, witnesses, backend=backend)
    permutations = trace[:, :COLUMNS]

    def tags(tag: Tag, inputs: int) -> U32:
        return np.full(inputs, tag, dtype=np.uint32)

    def absorb(tag: Tag, inputs: U32, offsets: I64, rows: I64) -> U32:
        kinds = tags(tag, len(offsets) - 1)
        return backend.absorb(inputs, offsets, kinds, out=permutations, rows=rows)

    def absorb_rows(tag: Tag, columns: Sequence[U32], *rows: I64) -> U32:
        inputs = np.hstack(columns)
        offsets = inputs.shape[1] * np.arange(len(inputs) + 1)
        return absorb(tag, inputs.reshape(-1), offsets, np.stack(rows, axis=1).reshape(-1))

    head, tail = places.head, places.tail
    kinds = tags(Tag.PUBLIC, len(witnesses))
    publics = backend.hash_tagged(elements.public, elements.public_offsets, kinds)
    constraints = absorb(Tag.CONSTRAINT, elements.output, elements.output_offsets, places.c_rows)
    keys = absorb_rows(Tag.KEY, [elements.secrets], head(4))
    outputs = absorb_rows(Tag.OUTPUT, [constraints, elements.salts], tail(1), tail(2))
    nullifiers = absorb_rows(Tag.NULLIFIER, [publics, elements.secrets], head(1), head(2))
    statements = absorb_rows(
        Tag.STATEMENT,
        [publics, nullifiers, keys, constraints, outputs],
        *(head(0), head(3), head(5), tail(0), tail(3)),
    )
    root = absorb(Tag.ROOT, statements.reshape(-1), np.array([0, statements.size]), tail(4))
    digests = _Digests(
        publics=publics,
        constraints=constraints,
        outputs=outputs,
        nullifiers=nullifiers,
        keys=keys,
        statements=statements,
    )
    return digests, digests_of(root)[0]


def _set_flags(registers: U32, places: _Places) -> None:
    head = (Flag.A, Flag.B, Flag.D, Flag.E, Flag.K, Flag.S)
    for row, flag in enumerate(head):
        registers[places.head(row), _FLAGS + flag] = _ONE
    for row, flag in enumerate((Flag.A, Flag.B, Flag.D, Flag.E, Flag.R)):
        registers[places.tail(row), _FLAGS + flag] = _ONE
    for row in range(4):
        registers[places.tail(row), H - COLUMNS] = _ONE
    last = places.c_block == places.blocks[places.c_owner] - 1
    registers[places.c_rows, _FLAGS + Flag.C + last] = _ONE
    left = places.elements[places.c_owner] - RATE * places.c_block
    registers[places.c_rows, LEFT - COLUMNS] = _SMALL[left]


def _set_registers(
    registers: U32, take: _Take, places: _Places, witnesses: Sequence[OperationWitness]
) -> None:
    """Y: the capacity of S over N1–N2, K, the C rows and O1–O2; the secret on S2; the tail on S3; the size on
    S4."""
    register = slice(_Y, _Y + RATE)
    capacity_out = slice(OUT + RATE, OUT + 2 * RATE)
    for source, kept in ((places.head(0), (1, 2)), (places.head(3), (4,))):
        capacity = take(source, capacity_out)
        for row in kept:
            registers[places.head(row), register] = capacity
    registers[places.head(3), register] = take(places.head(2), slice(RATE))
    registers[places.c_rows, register] = take(places.head(5), capacity_out)[places.c_owner]
    capacity = take(places.tail(0), capacity_out)
    for row in (1, 2):
        registers[places.tail(row), register] = capacity
    last_size = places.elements - RATE * (places.blocks - 1)
    registers[places.tail(0), _Y + last_size - 1] = _ONE

    groups = places.elements - 1
    lacking = 3 * groups - np.array([len(w.output) for w in witnesses], dtype=np.int64)
    sizes, size_of = np.unique(groups, return_inverse=True)  # a batch has few sizes
    inverses = np.array([pow(int(size), -1, P) if size else 0 for size in sizes], dtype=np.int64)
    registers[places.head(5), _Y] = to_monty((lacking >= 1).astype(np.int64))
    registers[places.head(5), _Y + 1] = to_monty(lacking * inverses[size_of])


def _set_running_root(registers: U32, take: _Take, places: _Places) -> None:
    """Z and CNT: the root's capacity and the operations so far, constant between R rows and through
    padding."""
    absorbed = np.zeros(len(registers) + 1, dtype=np.int64)
    absorbed[places.tail(4) + 1] = 1
    count = np.cumsum(absorbed)[:-1]
    r_rows = places.tail(4)
    states = np.empty((len(r_rows) + 1, RATE + 1), dtype=np.uint32)
    states[:-1, :RATE] = take(r_rows, slice(RATE, 2 * RATE))
    states[-1:, :RATE] = take(r_rows[-1:], slice(OUT + RATE, OUT + 2 * RATE))
    states[:, RATE] = _SMALL[: len(states)]
    known = states[count]
    registers[:, Z - COLUMNS : Z - COLUMNS + RATE] = known[:, :RATE]
    registers[:, CNT - COLUMNS] = known[:, RATE]
