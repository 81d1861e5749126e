"""The second wire form: the same proof without what its reader can compute.

Queries meet in the upper layers of a tree, and more of them in every folding round. Here each opened row
stands once, a sibling's digest only where no opened leaf lies below it, and of a folding group only the
values that no earlier round gives: together an optimal multiproof for each tree (as later Plonky3 releases
prune; the encoding is ours, `agenc-pruned-1`). Elements are 4 bytes, Montgomery form, little-endian.

    log2 of the rows
    trace cap, quotient cap, opened values, FRI caps, commit witnesses, final polynomial, query witness
    for the trace's tree, then the quotient's: the rows of the opened leaves by rising index, then its digests
    for each folding round: the groups' missing values by rising position, then the tree's digests

A tree's digests are level by level from the leaves on, by rising index. No length is written: AIR, height
and parameters fix those of the first part, and the query indices, which the transcript gives, all others.

Nothing is verified in this form. `expand` gives the plain bytes, and the verifier judges those; each word
becomes part of them, so a change of one byte is refused here or there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kernels.backend import Backend
from kernels.field import U32, Ext, P
from kernels.poseidon2 import DIGEST_LEN
from workers.hashing import default_backend
from workers.stark.air import Air, SymbolicProgram, symbolic_program
from workers.stark.errors import Refusal, VerificationError
from workers.stark.fri_verifier import FoldingChallenges, reduced_openings, replay_folding
from workers.stark.parameters import Parameters
from workers.stark.proof import (
    EXTENSION,
    Field,
    Proof,
    ProofShape,
    TreeOpening,
    assemble,
    decode,
    encode,
    parts_of,
    peek_log_rows,
)
from workers.stark.transcript import Transcript
from workers.stark.vector import I64, fold_groups
from workers.stark.verifier import check_public_values, checked_height, opening_claims, replay_commitments

PRUNED_WIRE = "agenc-pruned-1"
_WORD_BYTES = 4


def prune(
    air: Air,
    proof: bytes,
    public_values: Sequence[int],
    *,
    parameters: Parameters,
    backend: Backend | None = None,
) -> bytes:
    """The pruned form of a proof that verifies; of another one, bytes that do not.

    Raises:
        VerificationError: the bytes are no proof of this AIR and height, or a proof of work is wrong.
    """
    backend = backend if backend is not None else default_backend()
    program = symbolic_program(air)
    log_rows = checked_height(program, peek_log_rows(proof), parameters=parameters, demanded=None)
    parsed = decode(proof, program=program, log_rows=log_rows, parameters=parameters)
    shape = ProofShape.of(program, log_rows=log_rows, parameters=parameters)
    _, challenges = _replay(program, parsed, public_values, parameters=parameters, backend=backend)
    parts = parts_of(parsed)
    words = [np.array([log_rows], dtype=np.uint32), *(parts[field.name] for field in _once(shape))]
    leaves, first = np.unique(challenges.indices, return_index=True)
    for opening in (parsed.fri.trace, parsed.fri.quotient):
        words += [opening.rows[first], *_missing_digests(leaves, opening.path[first])]
    for (log_arity, _), opened in zip(shape.round_leaves(), parsed.fri.rounds, strict=True):
        groups, one_of, known = _groups(leaves, log_arity)
        rows = np.zeros((len(groups), 1 << log_arity, EXTENSION), dtype=np.uint32)
        query = first[one_of]
        others = np.arange(1 << log_arity) != (leaves[one_of] & ((1 << log_arity) - 1))[:, np.newaxis]
        rows[others] = opened.siblings[query].reshape(-1, EXTENSION)
        words += [rows[~known], *_missing_digests(groups, opened.path[query])]
        leaves, first = groups, query
    return np.concatenate([part.reshape(-1) for part in words]).astype("<u4").tobytes()


def expand(
    air: Air,
    pruned: bytes,
    public_values: Sequence[int],
    *,
    parameters: Parameters,
    log_rows: int | None = None,
    backend: Backend | None = None,
) -> bytes:
    """The plain bytes of a pruned proof, for `workers.stark.verifier.verify`; by themselves they prove
    nothing.

    `log_rows` demands a height. Memory is bounded by the shape's longest proof.

    Raises:
        VerificationError: the bytes are not exactly those of a pruned proof of this shape.
    """
    backend = backend if backend is not None else default_backend()
    program = symbolic_program(air)
    reader = _Reader(pruned)
    claimed = int(reader.take(1, 1, canonical=False)[0, 0])
    height = checked_height(program, claimed, parameters=parameters, demanded=log_rows)
    shape = ProofShape.of(program, log_rows=height, parameters=parameters)
    parts = {field.name: np.zeros(field.size, np.uint32) for field in _once(shape)}
    for name, part in parts.items():
        parts[name] = reader.take(1, part.size)
    queries = parameters.num_queries
    parts |= {f.name: np.zeros((queries, f.size), np.uint32) for f in shape.layout.query if f.fixed is None}
    zeta, challenges = _replay(
        program, assemble(parts, shape), public_values, parameters=parameters, backend=backend
    )
    _expand_queries(parts, reader, shape, zeta, challenges, backend=backend)
    reader.finish()
    return encode(assemble(parts, shape), program=program, parameters=parameters)


def _expand_queries(
    parts: dict[str, U32],
    reader: "_Reader",
    shape: ProofShape,
    zeta: Ext,
    challenges: FoldingChallenges,
    *,
    backend: Backend,
) -> None:
    """Fill in what the plain form has of each query, in the order of the trees."""
    leaves, leaf_of = np.unique(challenges.indices, return_inverse=True)
    trace_rows = reader.take(len(leaves), shape.width)
    trace_path = _paths(reader, leaves, trace_rows, shape.log_height, shape=shape, backend=backend)
    quotient_rows = reader.take(len(leaves), EXTENSION * shape.chunks)
    quotient_path = _paths(reader, leaves, quotient_rows, shape.log_height, shape=shape, backend=backend)
    parts |= {"trace_rows": trace_rows[leaf_of], "trace_path": trace_path[leaf_of]}
    parts |= {"quotient_path": quotient_path[leaf_of]}
    for chunk in range(shape.chunks):
        columns = slice(EXTENSION * chunk, EXTENSION * (chunk + 1))
        parts[f"chunk_rows{chunk}"] = quotient_rows[leaf_of, columns]

    proof = assemble(parts, shape)
    trace = TreeOpening(rows=trace_rows, path=trace_path)
    quotient = TreeOpening(rows=quotient_rows, path=quotient_path)
    distinct = replace(proof, fri=replace(proof.fri, trace=trace, quotient=quotient))
    values = reduced_openings(opening_claims(distinct, zeta), leaves, challenges.batching)
    for number, ((log_arity, log_leaves), beta) in enumerate(
        zip(shape.round_leaves(), challenges.betas, strict=True)
    ):
        arity = 1 << log_arity
        positions = leaves[leaf_of] & (arity - 1)
        groups, _, known = _groups(leaves, log_arity)
        rows = np.empty((len(groups), arity, EXTENSION), dtype=np.uint32)
        rows[known] = values  # both by rising position
        rows[~known] = reader.take(int((~known).sum()), EXTENSION)
        path = _paths(reader, groups, rows.reshape(len(groups), -1), log_leaves, shape=shape, backend=backend)
        group_of = np.searchsorted(groups, leaves >> log_arity)[leaf_of]
        others = np.arange(arity) != positions[:, np.newaxis]
        parts[f"siblings{number}"] = rows[group_of][others].reshape(len(group_of), -1)
        parts[f"fri_path{number}"] = path[group_of]
        values = fold_groups(rows.astype(np.uint64), groups, beta)
        leaves, leaf_of = groups, group_of


def _replay(
    program: SymbolicProgram,
    proof: Proof,
    public_values: Sequence[int],
    *,
    parameters: Parameters,
    backend: Backend,
) -> tuple[Ext, FoldingChallenges]:
    """ζ, and what the transcript gives after it. Reads nothing of the proof's queries."""
    check_public_values(program, public_values)
    transcript = Transcript(backend)
    zeta = replay_commitments(transcript, proof, public_values).zeta
    return zeta, replay_folding(transcript, proof, parameters=parameters)


def _once(shape: ProofShape) -> list[Field]:
    """The elements that a proof has once, in the plain wire's order."""
    return [field for field in (*shape.layout.head, *shape.layout.tail) if field.fixed is None]


def _groups(
    leaves: I64, log_arity: int
) -> tuple[I64, I64, "np.ndarray[tuple[int, int], np.dtype[np.bool_]]"]:
    """The folding groups of rising leaves, the place of one leaf of each, and which positions are leaves."""
    groups, one_of, group_of = np.unique(leaves >> log_arity, return_index=True, return_inverse=True)
    known = np.zeros((len(groups), 1 << log_arity), dtype=np.bool_)
    known[group_of, leaves & ((1 << log_arity) - 1)] = True
    return groups, one_of, known


@dataclass(frozen=True, eq=False)
class _Level:
    """Nodes of a tree's level by rising index. `sibling` is the place of a node's sibling among them where
    `known`; `parent` that of its parent among the next level's nodes, `child` a child of each of those."""

    nodes: I64
    known: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    sibling: I64
    parent: I64
    child: I64


def _levels(leaves: I64, depth: int) -> Iterator[_Level]:
    """From rising leaves up to, but not including, the level of the cap."""
    nodes = leaves
    for _ in range(depth):
        sibling = np.minimum(np.searchsorted(nodes, nodes ^ 1), len(nodes) - 1)
        parents, child, parent = np.unique(nodes >> 1, return_index=True, return_inverse=True)
        yield _Level(nodes, nodes[sibling] == nodes ^ 1, sibling, parent, child)
        nodes = parents


def _missing_digests(leaves: I64, path: U32) -> list[U32]:
    """Of the paths U32[n, depth, 8] of rising leaves the digests that cannot be computed from the leaves."""
    digests: list[U32] = []
    below = np.arange(len(leaves))  # a leaf below each node
    for number, level in enumerate(_levels(leaves, path.shape[1])):
        digests.append(path[below[~level.known], number])
        below = below[level.child]
    return digests


def _paths(
    reader: "_Reader", leaves: I64, rows: U32, log_leaves: int, *, shape: ProofShape, backend: Backend
) -> U32:
    """The paths U32[n, depth, 8] of rising leaves with these rows; the digests that are missing are read."""
    depth = log_leaves - shape.cap_height(log_leaves)
    path = np.empty((len(leaves), depth, DIGEST_LEN), dtype=np.uint32)
    digests = backend.hash_rows(rows)
    above = np.arange(len(leaves))  # the node above each leaf
    for number, level in enumerate(_levels(leaves, depth)):
        siblings = digests[level.sibling]
        siblings[~level.known] = reader.take(int((~level.known).sum()), DIGEST_LEN)
        path[:, number] = siblings[above]
        right = (level.nodes & 1 == 1)[:, np.newaxis]
        pairs = np.where(right, siblings, digests), np.where(right, digests, siblings)
        digests = backend.compress_pairs(*pairs)[level.child]
        above = level.parent[above]
    return path


class _Reader:
    """Words from the front of the bytes."""

    def __init__(self, data: bytes) -> None:
        if len(data) % _WORD_BYTES:
            raise VerificationError(Refusal.TRUNCATED, f"{len(data)} bytes are no whole words")
        self._words = np.frombuffer(data, dtype="<u4")
        self._taken = 0

    def take(self, count: int, width: int, *, canonical: bool = True) -> U32:
        """The next words as U32[count, width]."""
        end = self._taken + count * width
        if end > self._words.size:
            raise VerificationError(Refusal.TRUNCATED, f"{self._words.size} words where {end} are needed")
        words = self._words[self._taken : end].astype(np.uint32).reshape(count, width)
        if canonical and (words >= P).any():
            raise VerificationError(Refusal.NON_CANONICAL, "an element is not below p")
        self._taken = end
        return words

    def finish(self) -> None:
        if self._taken != self._words.size:
            raise VerificationError(Refusal.TRAILING_BYTES, f"{self._words.size - self._taken} words follow")
