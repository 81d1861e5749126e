"""The verifier's low-degree part: openings, reduced openings, folding (FRI; Plonky3 0.6.2
`p3_fri::verify_fri`).

Values stay in Montgomery form throughout and are multiplied by canonical factors (see `vector`), so nothing
is converted on the way from a proof's arrays to its hashes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels.backend import Backend
from kernels.field import GENERATOR, U32, Ext, P
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import Parameters
from workers.stark.proof import EXTENSION, Proof, RoundOpening, TreeOpening
from workers.stark.transcript import Transcript
from workers.stark.vector import (
    I64,
    U64,
    bit_reversed_points,
    combine,
    ext_array,
    ext_difference,
    ext_inverses,
    ext_powers,
    ext_product,
    fold_groups,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """The columns of one opened tree have these `values` [w, 4] (Montgomery) at one `point`."""

    opening: TreeOpening
    point: Ext
    values: U32


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldingChallenges:
    """The batching challenge, one β a round, and the queries' indices int64[q]."""

    batching: Ext
    betas: tuple[Ext, ...]
    indices: I64


def verify_low_degree(
    transcript: Transcript, proof: Proof, claims: Sequence[Claim], *, parameters: Parameters, backend: Backend
) -> None:
    """Checks that the claims, in the protocol's order, hold for the committed low-degree polynomials.

    Raises: VerificationError: `pow_witness`, `point_in_domain`, `trace_opening`, `quotient_opening`,
        `fri_opening` or `final_polynomial`.
    """
    challenges = replay_folding(transcript, proof, parameters=parameters)
    indices = challenges.indices
    fri = proof.fri
    for opening, cap, code in (
        (fri.trace, proof.trace_cap, Refusal.TRACE_OPENING),
        (fri.quotient, proof.quotient_cap, Refusal.QUOTIENT_OPENING),
    ):
        _check_paths(opening.rows, opening.path, indices, cap, code=code, backend=backend)
    values = reduced_openings(claims, indices, challenges.batching)
    for number, (log_arity, beta) in enumerate(
        zip(parameters.log_arities(proof.log_rows), challenges.betas, strict=True)
    ):
        groups = indices >> log_arity
        rows = _with_siblings(values, fri.rounds[number], indices & ((1 << log_arity) - 1))
        leaves = rows.reshape(rows.shape[0], -1).astype(np.uint32)
        _check_paths(
            leaves,
            fri.rounds[number].path,
            groups,
            fri.caps[number],
            code=Refusal.FRI_OPENING,
            backend=backend,
        )
        values = fold_groups(rows, groups, beta)
        indices = groups
    if not np.array_equal(values, _final_values(fri.final_polynomial, indices)):
        raise VerificationError(Refusal.FINAL_POLYNOMIAL, "a query does not fold to the final polynomial")


def reduced_openings(claims: Sequence[Claim], indices: I64, batching: Ext) -> U64:
    """ro(x) = Σ_k a^k (f_k(z) - f_k(x)) / (z - x) at the points x of the queries, [q, 4], Montgomery form.

    k runs over the claims' columns in order. Raises VerificationError `point_in_domain` if some z = x.
    """
    points = bit_reversed_points(indices, first_order=1) * np.uint64(GENERATOR) % np.uint64(P)
    points_ext = np.zeros((points.size, EXTENSION), dtype=np.uint64)
    points_ext[:, 0] = points
    powers = ext_powers(batching, sum(claim.values.shape[0] for claim in claims))
    total = np.zeros((indices.size, EXTENSION), dtype=np.uint64)
    start = 0
    for claim in claims:
        factors = powers[start : start + claim.values.shape[0]]
        start += claim.values.shape[0]
        claimed = ext_product(claim.values.astype(np.uint64), factors).sum(axis=0) % np.uint64(P)
        differences = ext_difference(claimed, combine(claim.opening.rows.astype(np.uint64), factors))
        distances = ext_difference(ext_array(claim.point), points_ext)
        if not distances.any(axis=1).all():
            raise VerificationError(Refusal.POINT_IN_DOMAIN, "a query point is an opening point")
        total = (total + ext_product(differences, ext_inverses(distances))) % np.uint64(P)
    return total


def replay_folding(transcript: Transcript, proof: Proof, *, parameters: Parameters) -> FoldingChallenges:
    """The challenges after the opened values were observed.

    Raises:
        VerificationError: `pow_witness`.
    """
    fri = proof.fri
    batching = transcript.sample_ext()
    betas: list[Ext] = []
    for cap, witness in zip(fri.caps, fri.commit_pow_witnesses, strict=True):
        transcript.observe_array(cap)
        if not transcript.check_witness(parameters.commit_pow_bits, witness):
            raise VerificationError(Refusal.POW_WITNESS, "a folding round's proof of work")
        betas.append(transcript.sample_ext())
    transcript.observe_array(fri.final_polynomial)
    for log_arity in parameters.log_arities(proof.log_rows):
        transcript.observe(log_arity)
    if not transcript.check_witness(parameters.query_pow_bits, fri.query_pow_witness):
        raise VerificationError(Refusal.POW_WITNESS, "the proof of work before the queries")
    log_height = proof.log_rows + parameters.log_blowup
    samples = [transcript.sample_bits(log_height) for _ in range(parameters.num_queries)]
    return FoldingChallenges(batching=batching, betas=tuple(betas), indices=np.array(samples, dtype=np.int64))


def _with_siblings(values: U64, opening: RoundOpening, positions: I64) -> U64:
    """The groups [q, 2^k, 4]: each query's own value at its position, its siblings around it in order."""
    queries, siblings, _ = opening.siblings.shape
    slots = np.arange(siblings)
    slots = slots + (slots >= positions[:, np.newaxis])
    groups = np.empty((queries, siblings + 1, EXTENSION), dtype=np.uint64)
    groups[np.arange(queries)[:, np.newaxis], slots] = opening.siblings
    groups[np.arange(queries), positions] = values
    return groups


def _check_paths(rows: U32, path: U32, indices: I64, cap: U32, *, code: Refusal, backend: Backend) -> None:
    """Every leaf `rows` [q, w] leads, by its `path` [q, k, 8], to the cap digest above its index."""
    digests = backend.hash_rows(np.ascontiguousarray(rows))
    for level in range(path.shape[1]):
        right = ((indices >> level) & 1 == 1)[:, np.newaxis]
        siblings = path[:, level]
        digests = backend.compress_pairs(
            np.where(right, siblings, digests), np.where(right, digests, siblings)
        )
    if not np.array_equal(digests, cap[indices >> path.shape[1]]):
        raise VerificationError(code, "a path does not lead to its commitment")


def _final_values(polynomial: U32, indices: I64) -> U64:
    """The final polynomial [n, 4] (Montgomery coefficients) at the queries' points of the last domain, [q,
    4]."""
    points = bit_reversed_points(indices, first_order=1)[:, np.newaxis]
    values = np.zeros((indices.size, EXTENSION), dtype=np.uint64)
    for coefficient in polynomial[::-1].astype(np.uint64):
        values = (values * points + coefficient) % np.uint64(P)
    return values
