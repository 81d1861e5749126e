"""A proof: its parts as arrays, and its bytes (postcard, the wire of Plonky3 `p3-uni-stark` 0.6.2).

AIR, height and parameters fix every length in a proof. So the shape is computed first, one table lists the
wire's fields in order (`ProofShape.layout`), and both directions follow that table: the encoder fills it in,
the decoder demands it. Everything that the wire repeats for each query is one array here, with the query as
its first axis.

All arrays are `uint32` in Montgomery form; the wire carries Montgomery values too. Proof-of-work witnesses
are canonical integers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kernels.field import U32, P, from_monty, monty
from kernels.program import SymbolicProgram
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import Parameters
from workers.stark.wire import MAX_VARINT_BYTES, U64, decode_varints, encode_varints

DIGEST = 8
EXTENSION = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """Evaluations at the out-of-domain point ζ: `local` [w, 4] at ζ, `next` [w, 4] at ζ·h or None if the AIR
    reads no next cell, `chunks` [k, 4, 4]: the four base columns of each quotient chunk at ζ."""

    local: U32
    next: U32 | None
    chunks: U32


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeOpening:
    """One tree opened at all query indices: `rows` [q, width], the leaf's rows in commit order side by side,
    and `path` [q, depth, 8], siblings bottom-up below the cap."""

    rows: U32
    path: U32


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundOpening:
    """One FRI round opened at all query indices: `siblings` [q, 2^log_arity - 1, 4], the other values of the
    query's group in order, and `path` [q, depth, 8]."""

    siblings: U32
    path: U32


@dataclass(frozen=True, kw_only=True, eq=False)
class FriProof:
    """The low-degree proof. `caps` and `rounds` have one entry a folding round, `final_polynomial` [n, 4] is
    by coefficients."""

    caps: tuple[U32, ...]
    commit_pow_witnesses: tuple[int, ...]
    trace: TreeOpening
    quotient: TreeOpening
    rounds: tuple[RoundOpening, ...]
    final_polynomial: U32
    query_pow_witness: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Proof:
    """A whole proof; caps are [2^cap_height, 8] (clamped to the tree)."""

    log_rows: int
    trace_cap: U32
    quotient_cap: U32
    opened: Opened
    fri: FriProof


@dataclass(frozen=True)
class Field:
    """Consecutive varints of the wire: `size` elements, or one fixed number (a length, an option's tag, an
    arity)."""

    name: str
    size: int = 1
    fixed: int | None = None


@dataclass(frozen=True)
class Layout:
    """The wire's fields in order: `head`, then `query` once for each query, then `tail`."""

    head: tuple[Field, ...]
    query: tuple[Field, ...]
    tail: tuple[Field, ...]


@dataclass(frozen=True, kw_only=True)
class ProofShape:
    """What fixes all lengths of a proof: `width` columns, whether the next row is read, `chunks` quotient
    chunks, 2^log_rows rows, and the parameters."""

    width: int
    reads_next: bool
    chunks: int
    log_rows: int
    parameters: Parameters

    @classmethod
    def of(cls, program: SymbolicProgram, *, log_rows: int, parameters: Parameters) -> "ProofShape":
        return cls(
            width=program.width,
            reads_next=program.reads_next,
            chunks=program.num_quotient_chunks,
            log_rows=log_rows,
            parameters=parameters,
        )

    @property
    def log_height(self) -> int:
        """log2 of the low-degree extension's length."""
        return self.log_rows + self.parameters.log_blowup

    @property
    def log_arities(self) -> tuple[int, ...]:
        return self.parameters.log_arities(self.log_rows)

    def cap_height(self, log_leaves: int) -> int:
        """The height of the cap of a tree of 2^log_leaves leaves."""
        return min(self.parameters.cap_height, log_leaves)

    def round_leaves(self) -> Iterator[tuple[int, int]]:
        """(log arity, log2 of the tree's leaves) of each folding round."""
        log_leaves = self.log_height
        for log_arity in self.log_arities:
            log_leaves -= log_arity
            yield log_arity, log_leaves

    @cached_property
    def layout(self) -> Layout:
        """The fields of the wire. Names of elements are the keys of `parts_of`."""
        rounds = tuple(self.round_leaves())
        head = [
            *_cap("trace_cap", self.cap_height(self.log_height)),
            *_cap("quotient_cap", self.cap_height(self.log_height)),
            Field("random commitment", fixed=0),
            *_elements("trace_local", self.width, EXTENSION),
            *self._next_row(),
            Field("preprocessed local", fixed=0),
            Field("preprocessed next", fixed=0),
            Field("quotient chunk count", fixed=self.chunks),
        ]
        for chunk in range(self.chunks):
            head += _elements(f"chunk{chunk}", EXTENSION, EXTENSION)
        head += [Field("random opening", fixed=0), Field("FRI cap count", fixed=len(rounds))]
        for number, (_, log_leaves) in enumerate(rounds):
            head += _cap(f"fri_cap{number}", self.cap_height(log_leaves))
        head += _elements("commit_pow", len(rounds), 1)
        head.append(Field("query count", fixed=self.parameters.num_queries))

        query = [Field("input proof count", fixed=2), Field("trace matrix count", fixed=1)]
        query += _elements("trace_rows", self.width, 1)
        query += self._path("trace_path", self.log_height)
        query.append(Field("quotient matrix count", fixed=self.chunks))
        for chunk in range(self.chunks):
            query += _elements(f"chunk_rows{chunk}", EXTENSION, 1)
        query += self._path("quotient_path", self.log_height)
        query.append(Field("round count", fixed=len(rounds)))
        for number, (log_arity, log_leaves) in enumerate(rounds):
            query.append(Field("log arity", fixed=log_arity))
            query += _elements(f"siblings{number}", (1 << log_arity) - 1, EXTENSION)
            query += self._path(f"fri_path{number}", log_leaves)

        tail = [
            *_elements("final_polynomial", 1 << self.parameters.log_final_len, EXTENSION),
            Field("query_pow"),
            Field("degree bits", fixed=self.log_rows),
        ]
        return Layout(tuple(head), tuple(query), tuple(tail))

    def _next_row(self) -> list[Field]:
        if not self.reads_next:
            return [Field("trace_next option", fixed=0)]
        return [Field("trace_next option", fixed=1), *_elements("trace_next", self.width, EXTENSION)]

    def _path(self, name: str, log_leaves: int) -> list[Field]:
        return _elements(name, log_leaves - self.cap_height(log_leaves), DIGEST)

    @cached_property
    def numbers(self) -> int:
        """How many varints a proof of this shape has."""
        layout = self.layout
        return _size(layout.head) + self.parameters.num_queries * _size(layout.query) + _size(layout.tail)

    @property
    def max_bytes(self) -> int:
        """No proof of this shape is longer."""
        return self.numbers * MAX_VARINT_BYTES


def encode(proof: Proof, *, program: SymbolicProgram, parameters: Parameters) -> bytes:
    """The proof's bytes. Its arrays must have the shapes that AIR, height and parameters fix (asserted)."""
    shape = ProofShape.of(program, log_rows=proof.log_rows, parameters=parameters)
    parts = parts_of(proof)
    layout = shape.layout
    queries = np.zeros((parameters.num_queries, _size(layout.query)), dtype=np.uint32)
    _fill(queries, layout.query, parts)
    head = np.zeros((1, _size(layout.head)), dtype=np.uint32)
    _fill(head, layout.head, parts)
    tail = np.zeros((1, _size(layout.tail)), dtype=np.uint32)
    _fill(tail, layout.tail, parts)
    return encode_varints(np.concatenate((head.reshape(-1), queries.reshape(-1), tail.reshape(-1))))


def decode(data: bytes, *, program: SymbolicProgram, log_rows: int, parameters: Parameters) -> Proof:
    """The proof in `data`, which must be exactly the bytes that `encode` would give for it.

    Memory is bounded by the shape and by `len(data)`: an overlong input is refused before anything is
    allocated.

    Raises: VerificationError: `malformed_varint`, `non_canonical`, `wrong_shape`, `truncated` or
        `trailing_bytes`.
    """
    shape = ProofShape.of(program, log_rows=log_rows, parameters=parameters)
    if len(data) > shape.max_bytes:
        raise VerificationError(
            Refusal.TRAILING_BYTES, f"{len(data)} bytes where {shape.max_bytes} is the most"
        )
    numbers, incomplete = decode_varints(data)
    layout = shape.layout
    head_size, tail_size = _size(layout.head), _size(layout.tail)
    parts: dict[str, U32] = {}
    _demand(numbers[:head_size].reshape(1, -1), layout.head, parts)
    if numbers.size < shape.numbers:
        raise VerificationError(Refusal.TRUNCATED, f"{numbers.size} of {shape.numbers} numbers")
    _demand(
        numbers[head_size : shape.numbers - tail_size].reshape(parameters.num_queries, -1),
        layout.query,
        parts,
    )
    _demand(numbers[shape.numbers - tail_size : shape.numbers].reshape(1, -1), layout.tail, parts)
    if numbers.size > shape.numbers or incomplete:
        raise VerificationError(Refusal.TRAILING_BYTES, "bytes follow the proof")
    return assemble(parts, shape)


def peek_log_rows(data: bytes) -> int:
    """The height that a proof claims: its last varint, if that is one byte; unchecked otherwise.

    Raises: VerificationError: `truncated`, there are no bytes; `unsupported_height`, the claim is no one-byte
        varint.
    """
    if not data:
        raise VerificationError(Refusal.TRUNCATED, "an empty proof")
    if data[-1] >= 0x80:
        raise VerificationError(Refusal.UNSUPPORTED_HEIGHT, "the last byte is not a height")
    return data[-1]


def _size(fields: tuple[Field, ...]) -> int:
    return sum(field.size for field in fields)


def _elements(name: str, count: int, width: int) -> list[Field]:
    return [Field(f"{name} length", fixed=count), Field(name, count * width)]


def _cap(name: str, height: int) -> list[Field]:
    return _elements(name, 1 << height, DIGEST)


def _fill(rows: U32, fields: tuple[Field, ...], parts: Mapping[str, U32]) -> None:
    start = 0
    for field in fields:
        if field.fixed is not None:
            rows[:, start] = field.fixed
        else:
            part = parts[field.name]
            assert part.size == rows.shape[0] * field.size, f"{field.name} has shape {part.shape}"
            rows[:, start : start + field.size] = part.reshape(rows.shape[0], field.size)
        start += field.size


def _demand(rows: U64, fields: tuple[Field, ...], parts: dict[str, U32]) -> None:
    """Checks as many fields as `rows` [n, ≤ size of all fields] covers and puts the elements into `parts`."""
    start = 0
    for field in fields:
        numbers = rows[:, start : start + field.size]
        if numbers.shape[1] < field.size:
            return
        if field.fixed is not None:
            if (numbers != field.fixed).any():
                found = int(numbers[numbers != field.fixed][0])
                raise VerificationError(Refusal.WRONG_SHAPE, f"{field.name} is {found}, not {field.fixed}")
        elif (numbers >= P).any():
            raise VerificationError(Refusal.NON_CANONICAL, f"an element of {field.name} is not below p")
        else:
            parts[field.name] = np.ascontiguousarray(numbers).astype(np.uint32)
        start += field.size


def parts_of(proof: Proof) -> dict[str, U32]:
    """The proof's elements by the names of `ProofShape.layout`."""
    opened, fri = proof.opened, proof.fri
    parts = {
        "trace_cap": proof.trace_cap,
        "quotient_cap": proof.quotient_cap,
        "trace_local": opened.local,
        "commit_pow": np.array([monty(witness) for witness in fri.commit_pow_witnesses], dtype=np.uint32),
        "trace_rows": fri.trace.rows,
        "trace_path": fri.trace.path,
        "quotient_path": fri.quotient.path,
        "final_polynomial": fri.final_polynomial,
        "query_pow": np.array([monty(fri.query_pow_witness)], dtype=np.uint32),
    }
    if opened.next is not None:
        parts["trace_next"] = opened.next
    for chunk, values in enumerate(opened.chunks):
        parts[f"chunk{chunk}"] = values
        parts[f"chunk_rows{chunk}"] = fri.quotient.rows[:, EXTENSION * chunk : EXTENSION * (chunk + 1)]
    for number, (cap, opening) in enumerate(zip(fri.caps, fri.rounds, strict=True)):
        parts[f"fri_cap{number}"] = cap
        parts[f"siblings{number}"] = opening.siblings
        parts[f"fri_path{number}"] = opening.path
    return parts


def assemble(parts: Mapping[str, U32], shape: ProofShape) -> Proof:
    """The proof whose elements by name are these: `parts_of` backwards."""
    queries = shape.parameters.num_queries
    rounds = range(len(shape.log_arities))

    def extension(name: str) -> U32:
        return parts[name].reshape(-1, EXTENSION)

    def digests(name: str) -> U32:
        return parts[name].reshape(-1, DIGEST)

    def path(name: str) -> U32:
        return parts[name].reshape(queries, -1, DIGEST)

    return Proof(
        log_rows=shape.log_rows,
        trace_cap=digests("trace_cap"),
        quotient_cap=digests("quotient_cap"),
        opened=Opened(
            local=extension("trace_local"),
            next=extension("trace_next") if shape.reads_next else None,
            chunks=np.stack([extension(f"chunk{chunk}") for chunk in range(shape.chunks)]),
        ),
        fri=FriProof(
            caps=tuple(digests(f"fri_cap{number}") for number in rounds),
            commit_pow_witnesses=tuple(from_monty(parts["commit_pow"].reshape(-1)).tolist()),
            trace=TreeOpening(rows=parts["trace_rows"], path=path("trace_path")),
            quotient=TreeOpening(
                rows=np.concatenate([parts[f"chunk_rows{chunk}"] for chunk in range(shape.chunks)], axis=1),
                path=path("quotient_path"),
            ),
            rounds=tuple(
                RoundOpening(
                    siblings=parts[f"siblings{number}"].reshape(queries, -1, EXTENSION),
                    path=path(f"fri_path{number}"),
                )
                for number in rounds
            ),
            final_polynomial=extension("final_polynomial"),
            query_pow_witness=int(from_monty(parts["query_pow"])[0, 0]),
        ),
    )
