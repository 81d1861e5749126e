"""The low-degree proof, prover's side: commit, fold, repeat, then open every tree at random places.

Before each fold the vector's groups of 2^k consecutive values are committed to as rows of a tree. The last
vector is sent as a polynomial. Source: proof.md section 5; Plonky3 p3-fri 0.6.2 ``prove_fri``.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kernels.backend import Backend
from kernels.field import (
    EXT_ZERO,
    U32,
    Ext,
    ext_add,
    ext_of,
    ext_scale,
    from_monty,
    inverse,
    power,
    to_monty,
    two_adic_generator,
)
from kernels.merkle import MerkleTree
from workers.stark.parameters import Parameters
from workers.stark.proof import FriProof, RoundOpening, TreeOpening
from workers.stark.stopwatch import Stopwatch
from workers.stark.transcript import Transcript

I64 = npt.NDArray[np.int64]


def prove_low_degree(
    reduced: U32,
    *,
    trace_tree: MerkleTree,
    quotient_tree: MerkleTree,
    log_rows: int,
    parameters: Parameters,
    transcript: Transcript,
    backend: Backend,
    watch: Stopwatch,
) -> FriProof:
    """The proof that ``reduced``, U32[2^log_rows << log_blowup, 4] bit-reversed, is of degree below
    2^log_rows, with the trees it was made from opened at the query indices. Phases ``fri`` and ``grind`` of
    ``watch``."""
    log_arities = parameters.log_arities(log_rows)
    trees: list[MerkleTree] = []
    caps: list[U32] = []
    witnesses: list[int] = []
    vector = reduced
    for log_arity in log_arities:
        with watch.phase("fri"):
            trees.append(backend.merkle_tree([vector.reshape(-1, 4 << log_arity)]))
        caps.append(trees[-1].cap(parameters.cap_height))
        transcript.observe_array(caps[-1])
        with watch.phase("grind"):
            witnesses.append(transcript.grind(parameters.commit_pow_bits))
        beta = transcript.sample_ext()
        with watch.phase("fri"):
            vector = backend.fold(vector, beta=beta, log_arity=log_arity)
    final = final_polynomial(vector, length=1 << parameters.log_final_len)
    transcript.observe_array(final)
    for log_arity in log_arities:
        transcript.observe(log_arity)
    with watch.phase("grind"):
        query_witness = transcript.grind(parameters.query_pow_bits)
    log_height = log_rows + parameters.log_blowup
    samples = [transcript.sample_bits(log_height) for _ in range(parameters.num_queries)]
    indices = np.array(samples, dtype=np.int64)
    with watch.phase("fri"):
        return FriProof(
            caps=tuple(caps),
            commit_pow_witnesses=tuple(witnesses),
            trace=_open_tree(trace_tree, indices, parameters.cap_height),
            quotient=_open_tree(quotient_tree, indices, parameters.cap_height),
            rounds=_open_rounds(trees, log_arities, indices, parameters.cap_height),
            final_polynomial=final,
            query_pow_witness=query_witness,
        )


def final_polynomial(vector: U32, *, length: int) -> U32:
    """The coefficients, U32[length, 4], of the polynomial of degree below ``length`` that the bit-reversed
    evaluations U32[m, 4] on a subgroup are of: its first ``length`` values lie on the subgroup of that
    order."""
    log_length = length.bit_length() - 1
    root_inverse = inverse(two_adic_generator(log_length))
    values = [ext_of(value) for value in from_monty(vector[:length]).tolist()]
    natural = [values[_reverse_bits(i, log_length)] for i in range(length)]
    coefficients: list[Ext] = []
    for k in range(length):
        total = EXT_ZERO
        for i, value in enumerate(natural):
            total = ext_add(total, ext_scale(power(root_inverse, i * k), value))
        coefficients.append(ext_scale(inverse(length), total))
    return to_monty(coefficients)


def _reverse_bits(index: int, bits: int) -> int:
    reversed_index = 0
    for _ in range(bits):
        reversed_index, index = 2 * reversed_index + (index & 1), index >> 1
    return reversed_index


def _open_tree(tree: MerkleTree, indices: I64, cap_height: int) -> TreeOpening:
    rows, path = tree.open_many(indices, cap_height)
    return TreeOpening(rows=np.concatenate(rows, axis=1), path=path)


def _open_rounds(
    trees: Sequence[MerkleTree], log_arities: Sequence[int], indices: I64, cap_height: int
) -> tuple[RoundOpening, ...]:
    openings: list[RoundOpening] = []
    for tree, log_arity in zip(trees, log_arities, strict=True):
        arity = 1 << log_arity
        own, indices = indices & (arity - 1), indices >> log_arity
        (rows,), path = tree.open_many(indices, cap_height)
        groups = rows.reshape(-1, arity, 4)
        others = np.arange(arity)[None, :] != own[:, None]  # the verifier computes a query's own value itself
        openings.append(RoundOpening(siblings=groups[others].reshape(-1, arity - 1, 4), path=path))
    return tuple(openings)
