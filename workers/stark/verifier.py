"""The verifier: every check between a proof's bytes and "this statement is true".

In order: the height and the public values are ones this AIR and parameter set know; the bytes are a proof of
exactly that shape; the transcript is replayed; the constraints, folded at the out-of-domain point ζ, equal
the quotient times the vanishing polynomial; every query's openings lead to their commitments; and the reduced
opening of each query folds to the final polynomial. It accepts a subset of what Plonky3 0.6.2
`p3_uni_stark::verify` accepts.

All queries are checked together, as arrays: a few milliseconds, most of them hashing and the constraints at
ζ. Memory is a small multiple of the proof's length, which the shape bounds before anything is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kernels.backend import Backend
from kernels.field import (
    EXT_ONE,
    GENERATOR,
    U32,
    Ext,
    P,
    ext_add,
    ext_from_base,
    ext_inverse,
    ext_mul,
    ext_of,
    ext_power,
    ext_scale,
    ext_sub,
    from_monty,
    inverse,
    power,
    to_monty,
    two_adic_generator,
)
from kernels.point import PointProgram, fold_constraints, lower
from workers.hashing import default_backend
from workers.stark.air import Air, SymbolicProgram, symbolic_program
from workers.stark.errors import Refusal, VerificationError
from workers.stark.fri_verifier import Claim, verify_low_degree
from workers.stark.parameters import Parameters
from workers.stark.proof import Opened, Proof, decode, peek_log_rows
from workers.stark.soundness import admits
from workers.stark.transcript import Transcript

__all__ = ["Refusal", "VerificationError", "verify"]


@dataclass(frozen=True)
class Challenges:
    """What the transcript gave before the opened values were known."""

    alpha: Ext
    zeta: Ext


def verify(
    air: Air,
    proof: bytes,
    public_values: Sequence[int],
    *,
    parameters: Parameters,
    log_rows: int | None = None,
    backend: Backend | None = None,
) -> None:
    """Returns if `proof` proves `air` for these canonical `public_values`; raises otherwise.

    `log_rows` demands a height; None takes the one that the proof names (it is bound by the transcript).
    `backend` hashes; None is the CPU on one thread.

    Raises:
        VerificationError: the proof is refused, `code` says why.
    """
    program = symbolic_program(air)
    height = checked_height(program, peek_log_rows(proof), parameters=parameters, demanded=log_rows)
    check_public_values(program, public_values)
    parts = decode(proof, program=program, log_rows=height, parameters=parameters)
    backend = backend if backend is not None else default_backend()
    transcript = Transcript(backend)
    challenges = replay_commitments(transcript, parts, public_values)
    _check_constraints(air, parts, public_values, challenges)
    _check_openings(transcript, parts, challenges.zeta, parameters=parameters, backend=backend)


def check_public_values(program: SymbolicProgram, public_values: Sequence[int]) -> None:
    """Raises VerificationError `public_values` unless they are the AIR's number of canonical elements."""
    if len(public_values) != program.num_public or any(not 0 <= value < P for value in public_values):
        raise VerificationError(
            Refusal.PUBLIC_VALUES,
            f"{program.name} has {program.num_public} public values, canonical elements",
        )


def checked_height(
    program: SymbolicProgram, claimed: int, *, parameters: Parameters, demanded: int | None
) -> int:
    """The claimed height, if it is the demanded one (None: any) and the parameter set admits it.

    Raises:
        VerificationError: `wrong_shape` or `unsupported_height`.
    """
    if demanded is not None and claimed != demanded:
        raise VerificationError(Refusal.WRONG_SHAPE, f"2^{claimed} rows where 2^{demanded} are demanded")
    if not admits(parameters, program=program, log_rows=claimed):
        raise VerificationError(
            Refusal.UNSUPPORTED_HEIGHT, f"{parameters.name} does not admit 2^{claimed} rows of {program.name}"
        )
    return claimed


def replay_commitments(transcript: Transcript, proof: Proof, public_values: Sequence[int]) -> Challenges:
    """Observe all that comes before the batching challenge."""
    transcript.observe(proof.log_rows)
    transcript.observe(proof.log_rows)
    transcript.observe(0)
    transcript.observe_array(proof.trace_cap)
    transcript.observe_array(to_monty(np.array(public_values, dtype=np.int64)))
    alpha = transcript.sample_ext()
    transcript.observe_array(proof.quotient_cap)
    zeta = transcript.sample_ext()
    transcript.observe_array(proof.opened.local)
    if proof.opened.next is not None:
        transcript.observe_array(proof.opened.next)
    transcript.observe_array(proof.opened.chunks)
    return Challenges(alpha, zeta)


@lru_cache(maxsize=16)
def _lowered(air: Air) -> PointProgram:
    return lower(symbolic_program(air))


def _check_constraints(air: Air, proof: Proof, public_values: Sequence[int], challenges: Challenges) -> None:
    """The folded constraints at ζ equal Q(ζ) · (ζ^N - 1). Selectors are unnormalised."""
    zeta = challenges.zeta
    vanishing = ext_sub(ext_power(zeta, 1 << proof.log_rows), EXT_ONE)
    if not any(vanishing):
        raise VerificationError(Refusal.POINT_IN_DOMAIN, "ζ lies in the trace domain")
    last_point = ext_from_base(inverse(two_adic_generator(proof.log_rows)))
    transition = ext_sub(zeta, last_point)
    selectors = (
        ext_mul(vanishing, ext_inverse(ext_sub(zeta, EXT_ONE))),
        ext_mul(vanishing, ext_inverse(transition)),
        transition,
    )
    folded = fold_constraints(
        _lowered(air),
        local=proof.opened.local,
        following=proof.opened.next,
        public_values=public_values,
        selectors=selectors,
        alpha=challenges.alpha,
    )
    if folded != ext_mul(_quotient_at(zeta, proof.opened, log_rows=proof.log_rows), vanishing):
        raise VerificationError(Refusal.CONSTRAINTS, "the quotient does not match the constraints at ζ")


def _quotient_at(zeta: Ext, opened: Opened, *, log_rows: int) -> Ext:
    """Q(ζ) = Σ_i zps_i Σ_j chunk_i[j] X^j, with zps_i = Π_{j≠i} Z_{D_j}(ζ) / Z_{D_j}(first point of D_i)."""
    chunks = opened.chunks.shape[0]
    step = two_adic_generator(log_rows + (chunks - 1).bit_length())
    shifts = [GENERATOR * power(step, chunk) % P for chunk in range(chunks)]
    rows = 1 << log_rows
    quotient: Ext = (0, 0, 0, 0)
    for chunk, shift in enumerate(shifts):
        scale = EXT_ONE
        for other, other_shift in enumerate(shifts):
            if other != chunk:
                at_zeta = ext_sub(ext_power(ext_scale(inverse(other_shift), zeta), rows), EXT_ONE)
                at_first = (power(shift * inverse(other_shift), rows) - 1) % P
                scale = ext_mul(scale, ext_scale(inverse(at_first), at_zeta))
        # The chunk's columns are the base coefficients of its values; at ζ each is an extension element
        # itself.
        basis: Ext = EXT_ONE
        for column in _ext_list(opened.chunks[chunk]):
            quotient = ext_add(quotient, ext_mul(scale, ext_mul(basis, column)))
            basis = ext_mul(basis, (0, 1, 0, 0))
    return quotient


def _check_openings(
    transcript: Transcript, proof: Proof, zeta: Ext, *, parameters: Parameters, backend: Backend
) -> None:
    """All opened values are the committed polynomials' at their points (the FRI part)."""
    claims = opening_claims(proof, zeta)
    verify_low_degree(transcript, proof, claims, parameters=parameters, backend=backend)


def opening_claims(proof: Proof, zeta: Ext) -> list[Claim]:
    """What the proof claims of its trees, in the protocol's order."""
    opened = proof.opened
    chunk_columns = opened.chunks.reshape(-1, 4)
    claims = [Claim(opening=proof.fri.trace, point=zeta, values=opened.local)]
    if opened.next is not None:
        following = ext_scale(two_adic_generator(proof.log_rows), zeta)
        claims.append(Claim(opening=proof.fri.trace, point=following, values=opened.next))
    claims.append(Claim(opening=proof.fri.quotient, point=zeta, values=chunk_columns))
    return claims


def _ext_list(values: U32) -> list[Ext]:
    """[n, 4] in Montgomery form as canonical tuples."""
    return [ext_of(row) for row in from_monty(values).tolist()]
