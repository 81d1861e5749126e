"""The trace of a batch: rows for `OperationAir`, from witnesses, as array operations over the whole batch.

Row by row this would read: absorb a block, permute, fill the registers. Done for all operations at once it
is: hash each kind of digest for the whole batch and keep every sponge state (`kernels.absorb`), put those
states where their rows are, let the backend fill in the permutations, then set flags and registers with index
arrays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import buffers
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
from workers.encoding import WORD_BYTES, Tag, digests_of, elements_of, string_elements
from workers.hashing import default_backend
from workers.statement import (
    MAX_OPERATIONS,
    OperationWitness,
    Statement,
    WitnessWords,
    batch_public_values,
    joined,
)

I64 = npt.NDArray[np.int64]

FIXED_ROWS = 11
"""Rows of an operation beside those that absorb its output."""
MAX_LOG_ROWS = 17
BLINDED_CELLS = 2 * RATE + RATE + 1
"""Free cells of a padding row: 16 inputs, 8 of Y, LEFT."""

_STATE = 2 * RATE
_ONE = np.uint32(monty(1))


class BatchSizeError(ValueError):
    """The operations do not fit one proof."""

    code = "batch_size"


@dataclass(frozen=True, kw_only=True, eq=False)
class OperationTrace:
    """A batch ready to be proved: `trace` is U32[2^log_rows, 192] in Montgomery form; `root` is 32 bytes."""

    trace: U32
    root: bytes
    n: int
    statements: tuple[Statement, ...]
    log_rows: int
    operation_rows: int

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


@dataclass(frozen=True, eq=False)
class _Sponges:
    """One kind of digest for every operation: `states` U32[blocks, 16] are the permutations' inputs,
    `digests` U32[n, 8]."""

    states: U32
    digests: U32


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
    statements, sponges = _hash_all(domain, witnesses, backend=backend)
    trace = buffers.empty((1 << log_rows, WIDTH))
    trace[:, COLUMNS:] = 0
    padding = slice(places.operation_rows, None)

    inputs = np.zeros((1 << log_rows, _STATE), dtype=np.uint32)
    _place_states(inputs, places, sponges)
    source = blinding if blinding is not None else SystemBlinding()
    free = source.elements(BLINDED_CELLS * (trace.shape[0] - places.operation_rows)).reshape(
        -1, BLINDED_CELLS
    )
    inputs[padding] = free[:, :_STATE]
    trace[padding, Y : Y + RATE] = free[:, _STATE : _STATE + RATE]
    trace[padding, LEFT] = free[:, -1]
    backend.permutation_trace(inputs, out=trace[:, :COLUMNS])

    _set_flags(trace, places)
    _set_registers(trace, places, witnesses)
    _set_running_root(trace, places, sponges[Tag.ROOT])
    return OperationTrace(
        trace=trace,
        root=digests_of(sponges[Tag.ROOT].digests)[0],
        n=len(witnesses),
        statements=statements,
        log_rows=log_rows,
        operation_rows=places.operation_rows,
    )


def _hash_all(
    domain: bytes, witnesses: Sequence[OperationWitness], *, backend: Backend
) -> tuple[tuple[Statement, ...], dict[Tag, _Sponges]]:
    """The batch's statements, and the sponges of all digests that stand in the trace."""
    words = WitnessWords.of(domain, witnesses)
    sponges: dict[Tag, _Sponges] = {}

    def digests(tag: Tag, inputs: Sequence[bytes]) -> list[bytes]:
        sponges[tag] = _Sponges(*backend.absorb(*_packed(tag, inputs)))
        return digests_of(sponges[tag].digests)

    publics = digests_of(backend.hash_tagged(*_packed(Tag.PUBLIC, words.public)))
    constraints = digests(Tag.CONSTRAINT, words.output)
    keys = digests(Tag.KEY, words.secret)
    outputs = digests(Tag.OUTPUT, joined(constraints, words.salt))
    nullifiers = digests(Tag.NULLIFIER, joined(publics, words.secret))
    statements = digests(Tag.STATEMENT, joined(publics, nullifiers, keys, constraints, outputs))
    digests(Tag.ROOT, [b"".join(statements)])
    bindings = digests_of(backend.hash_tagged(*_packed(Tag.BINDING, joined(publics, outputs))))
    columns = (publics, constraints, outputs, nullifiers, keys, statements, bindings)
    return tuple(Statement(*row) for row in zip(*columns, strict=True)), sponges


def _packed(tag: Tag, inputs: Sequence[bytes]) -> tuple[U32, I64, U32]:
    """Inputs of one kind as a backend hashes them: elements, offsets, tags."""
    offsets = np.zeros(len(inputs) + 1, dtype=np.int64)
    np.cumsum([len(words) // WORD_BYTES for words in inputs], out=offsets[1:])
    return elements_of(b"".join(inputs)), offsets, np.full(len(inputs), tag, dtype=np.uint32)


def _place_states(inputs: U32, places: _Places, sponges: dict[Tag, _Sponges]) -> None:
    statement = sponges[Tag.STATEMENT].states.reshape(-1, 5, _STATE)
    nullifier = sponges[Tag.NULLIFIER].states.reshape(-1, 2, _STATE)
    output = sponges[Tag.OUTPUT].states.reshape(-1, 2, _STATE)
    inputs[places.head(0)] = statement[:, 0]
    inputs[places.head(1)] = nullifier[:, 0]
    inputs[places.head(2)] = nullifier[:, 1]
    inputs[places.head(3)] = statement[:, 1]
    inputs[places.head(4)] = sponges[Tag.KEY].states
    inputs[places.head(5)] = statement[:, 2]
    inputs[places.c_rows] = sponges[Tag.CONSTRAINT].states
    inputs[places.tail(0)] = statement[:, 3]
    inputs[places.tail(1)] = output[:, 0]
    inputs[places.tail(2)] = output[:, 1]
    inputs[places.tail(3)] = statement[:, 4]
    inputs[places.tail(4)] = sponges[Tag.ROOT].states


def _set_flags(trace: U32, places: _Places) -> None:
    head = (Flag.A, Flag.B, Flag.D, Flag.E, Flag.K, Flag.S)
    for row, flag in enumerate(head):
        trace[places.head(row), FLAGS + flag] = _ONE
    for row, flag in enumerate((Flag.A, Flag.B, Flag.D, Flag.E, Flag.R)):
        trace[places.tail(row), FLAGS + flag] = _ONE
    for row in range(4):
        trace[places.tail(row), H] = _ONE
    last = places.c_block == places.blocks[places.c_owner] - 1
    trace[places.c_rows[~last], FLAGS + Flag.C] = _ONE
    trace[places.c_rows[last], FLAGS + Flag.L] = _ONE
    trace[places.c_rows, LEFT] = to_monty(places.elements[places.c_owner] - RATE * places.c_block)


def _set_registers(trace: U32, places: _Places, witnesses: Sequence[OperationWitness]) -> None:
    """Y: the capacity of S over N1–N2, K, the C rows and O1–O2; the secret on S2; the tail on S3; the size on
    S4."""
    register = slice(Y, Y + RATE)
    capacity_out = slice(OUT + RATE, OUT + 2 * RATE)
    for source, kept in ((places.head(0), (1, 2)), (places.head(3), (4,))):
        for row in kept:
            trace[places.head(row), register] = trace[source, capacity_out]
    trace[places.head(3), register] = trace[places.head(2), :RATE]
    trace[places.c_rows, register] = trace[places.head(5)[places.c_owner], capacity_out]
    for row in (1, 2):
        trace[places.tail(row), register] = trace[places.tail(0), capacity_out]
    last_size = places.elements - RATE * (places.blocks - 1)
    trace[places.tail(0), Y + last_size - 1] = _ONE

    groups = places.elements - 1
    lacking = 3 * groups - np.array([len(w.output) for w in witnesses], dtype=np.int64)
    sizes, size_of = np.unique(groups, return_inverse=True)  # a batch has few sizes
    inverses = np.array([pow(int(size), -1, P) if size else 0 for size in sizes], dtype=np.int64)
    trace[places.head(5), Y] = to_monty((lacking >= 1).astype(np.int64))
    trace[places.head(5), Y + 1] = to_monty(lacking * inverses[size_of])


def _set_running_root(trace: U32, places: _Places, root: _Sponges) -> None:
    """Z and CNT: the root's capacity and the operations so far, constant between R rows and through
    padding."""
    absorbed = np.zeros(trace.shape[0] + 1, dtype=np.int64)
    absorbed[places.tail(4) + 1] = 1
    count = np.cumsum(absorbed)[:-1]
    capacities = np.concatenate(
        (root.states[:, RATE:], trace[places.tail(4)[-1:], OUT + RATE : OUT + 2 * RATE])
    )
    trace[:, Z : Z + RATE] = capacities[count]
    trace[:, CNT] = to_monty(count)
