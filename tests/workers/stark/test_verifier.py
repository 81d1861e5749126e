"""The verifier accepts what Plonky3 proved and refuses every change to it."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kernels.field import GENERATOR, U32, Ext, P, to_monty, two_adic_generator
from tests.workers.fib_air import FibAir
from tests.workers.stark.vector_proofs import NAMES, VectorProof, load_vector_proof
from workers.airs.operation import OperationAir
from workers.airs.poseidon2 import Poseidon2Air
from workers.stark.air import Air, symbolic_program
from workers.stark.errors import Refusal, VerificationError
from workers.stark.fri_verifier import Claim, reduced_openings
from workers.stark.parameters import PROVEN_100, STANDARD, TESTING, Parameters
from workers.stark.proof import Proof, TreeOpening, decode, encode
from workers.stark.transcript import Transcript
from workers.stark.verifier import verify

pytestmark = pytest.mark.vectors


@pytest.fixture(scope="module")
def fib(vectors_dir: Path) -> VectorProof:
    return load_vector_proof(vectors_dir, "fib_h6")


@pytest.fixture(scope="module")
def operation(vectors_dir: Path) -> VectorProof:
    return load_vector_proof(vectors_dir, "operation_case2")


def refusal(
    air: Air,
    proof: bytes,
    public_values: tuple[int, ...],
    *,
    parameters: Parameters = STANDARD,
    log_rows: int | None = None,
) -> Refusal:
    with pytest.raises(VerificationError) as refused:
        verify(air, proof, public_values, parameters=parameters, log_rows=log_rows)
    return refused.value.code


def is_refused(vector: VectorProof, proof: bytes) -> bool:
    try:
        verify(vector.air, proof, vector.public_values, parameters=STANDARD)
    except VerificationError:
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_proofs_of_plonky3_are_accepted(vectors_dir: Path, name: str) -> None:
    vector = load_vector_proof(vectors_dir, name)
    verify(vector.air, vector.proof, vector.public_values, parameters=STANDARD, log_rows=vector.log_rows)
    verify(vector.air, vector.proof, vector.public_values, parameters=STANDARD)


@pytest.mark.parametrize(("name", "changes"), [("fib_h6", 400), ("operation_case2", 100)])
def test_random_byte_changes_are_refused(vectors_dir: Path, name: str, changes: int) -> None:
    vector = load_vector_proof(vectors_dir, name)
    rng = random.Random(20)
    for _ in range(changes):
        place, mask = rng.randrange(len(vector.proof)), rng.randrange(1, 256)
        changed = bytearray(vector.proof)
        changed[place] ^= mask
        assert is_refused(vector, bytes(changed)), f"accepted with byte {place} ^ {mask}"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_change_of_any_byte_is_refused(fib: VectorProof) -> None:
    rng = random.Random(21)
    for place in range(len(fib.proof)):
        changed = bytearray(fib.proof)
        changed[place] ^= rng.randrange(1, 256)
        assert is_refused(fib, bytes(changed)), f"accepted with byte {place} changed"


def bumped(array: U32, *index: int) -> U32:
    changed = array.copy()
    changed[index] = (int(changed[index]) + 1) % P
    return changed


def with_opened(proof: Proof, **changes: U32) -> Proof:
    return dataclasses.replace(proof, opened=dataclasses.replace(proof.opened, **changes))


def with_fri(proof: Proof, **changes: object) -> Proof:
    return dataclasses.replace(proof, fri=dataclasses.replace(proof.fri, **changes))  # type: ignore[arg-type]


def bumped_round(proof: Proof, number: int, part: str) -> Proof:
    rounds = list(proof.fri.rounds)
    array = bumped(getattr(rounds[number], part), 7, 0, 0)
    rounds[number] = dataclasses.replace(rounds[number], **{part: array})
    return with_fri(proof, rounds=tuple(rounds))


def bumped_tree(proof: Proof, tree: str, part: str) -> Proof:
    opening: TreeOpening = getattr(proof.fri, tree)
    array = getattr(opening, part)
    index = (50,) + (0,) * (array.ndim - 1)
    return with_fri(proof, **{tree: dataclasses.replace(opening, **{part: bumped(array, *index)})})


def bumped_cap(proof: Proof, number: int) -> Proof:
    caps = list(proof.fri.caps)
    caps[number] = bumped(caps[number], 0, 0)
    return with_fri(proof, caps=tuple(caps))


CHANGES: dict[str, tuple[Callable[[Proof], Proof], set[Refusal]]] = {
    "trace cap": (
        lambda p: dataclasses.replace(p, trace_cap=bumped(p.trace_cap, 0, 0)),
        {Refusal.CONSTRAINTS},
    ),
    "quotient cap": (
        lambda p: dataclasses.replace(p, quotient_cap=bumped(p.quotient_cap, 7, 7)),
        {Refusal.CONSTRAINTS},
    ),
    "trace at zeta": (
        lambda p: with_opened(p, local=bumped(p.opened.local, 3, 1)),
        {Refusal.CONSTRAINTS},
    ),
    "trace at the next point": (
        lambda p: with_opened(p, next=bumped(p.opened.next, 0, 0)),  # type: ignore[arg-type]
        {Refusal.CONSTRAINTS},
    ),
    "quotient chunk": (
        lambda p: with_opened(p, chunks=bumped(p.opened.chunks, 1, 2, 3)),
        {Refusal.CONSTRAINTS},
    ),
    "next cell that no constraint reads": (
        lambda p: with_opened(p, next=bumped(p.opened.next, 2, 0)),  # type: ignore[arg-type]
        {Refusal.POW_WITNESS},
    ),
    "first FRI cap": (lambda p: bumped_cap(p, 0), {Refusal.POW_WITNESS}),
    "last FRI cap": (lambda p: bumped_cap(p, len(p.fri.caps) - 1), {Refusal.POW_WITNESS}),
    "unused commit witness": (
        lambda p: with_fri(p, commit_pow_witnesses=(0,) * (len(p.fri.caps) - 1) + (1,)),
        {Refusal.POW_WITNESS},
    ),
    "trace row": (lambda p: bumped_tree(p, "trace", "rows"), {Refusal.TRACE_OPENING}),
    "trace path": (lambda p: bumped_tree(p, "trace", "path"), {Refusal.TRACE_OPENING}),
    "quotient row": (lambda p: bumped_tree(p, "quotient", "rows"), {Refusal.QUOTIENT_OPENING}),
    "quotient path": (lambda p: bumped_tree(p, "quotient", "path"), {Refusal.QUOTIENT_OPENING}),
    "sibling of the first round": (lambda p: bumped_round(p, 0, "siblings"), {Refusal.FRI_OPENING}),
    "sibling of the last round": (lambda p: bumped_round(p, -1, "siblings"), {Refusal.FRI_OPENING}),
    "path of a round": (lambda p: bumped_round(p, 0, "path"), {Refusal.FRI_OPENING}),
    "final polynomial": (
        lambda p: with_fri(p, final_polynomial=bumped(p.fri.final_polynomial, 0, 2)),
        {Refusal.POW_WITNESS},
    ),
    "query witness": (
        lambda p: with_fri(p, query_pow_witness=p.fri.query_pow_witness + 1),
        {Refusal.POW_WITNESS},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_every_part_is_refused_for_its_reason(fib: VectorProof, change: str) -> None:
    program = symbolic_program(fib.air)
    proof = decode(fib.proof, program=program, log_rows=fib.log_rows, parameters=STANDARD)
    apply, reasons = CHANGES[change]
    data = encode(apply(proof), program=program, parameters=STANDARD)
    assert len(data) < len(fib.proof) + 5
    assert refusal(fib.air, data, fib.public_values) in reasons


def test_queries_may_not_change_places(fib: VectorProof) -> None:
    program = symbolic_program(fib.air)
    proof = decode(fib.proof, program=program, log_rows=fib.log_rows, parameters=STANDARD)
    opening = proof.fri.trace
    swapped = TreeOpening(rows=np.roll(opening.rows, 1, axis=0), path=np.roll(opening.path, 1, axis=0))
    data = encode(with_fri(proof, trace=swapped), program=program, parameters=STANDARD)
    assert refusal(fib.air, data, fib.public_values) is Refusal.TRACE_OPENING


def test_other_public_values_are_refused(operation: VectorProof) -> None:
    for place in range(len(operation.public_values)):
        changed = list(operation.public_values)
        changed[place] = (changed[place] + 1) % P
        assert refusal(operation.air, operation.proof, tuple(changed)) is Refusal.CONSTRAINTS


@pytest.mark.parametrize(
    "values",
    [(), (3, 2000000000), (3, 2000000000, 823142276, 0), (3 + P, 2000000000, 823142276), (-1, 0, 0)],
)
def test_public_values_must_be_the_right_number_of_canonical_elements(
    fib: VectorProof, values: tuple[int, ...]
) -> None:
    assert refusal(fib.air, fib.proof, values) is Refusal.PUBLIC_VALUES


def test_a_proof_counts_for_its_own_air_only(fib: VectorProof, vectors_dir: Path) -> None:
    class SameShape(FibAir):
        """The same columns and number of constraints, but one of them demands something else."""

        def constraints(self, builder) -> None:  # type: ignore[no-untyped-def]
            super().constraints(builder)
            builder.assert_zero(builder.local[0])

    assert refusal(SameShape(), fib.proof, fib.public_values) is Refusal.CONSTRAINTS
    assert refusal(OperationAir(), fib.proof, (0,) * 9) is Refusal.WRONG_SHAPE
    permutations = load_vector_proof(vectors_dir, "seed1_v1_h6")
    assert refusal(Poseidon2Air(per_row=8), permutations.proof, ()) is Refusal.WRONG_SHAPE


@pytest.mark.parametrize("parameters", [TESTING, PROVEN_100])
def test_a_proof_counts_for_its_own_parameters_only(fib: VectorProof, parameters: Parameters) -> None:
    assert refusal(fib.air, fib.proof, fib.public_values, parameters=parameters) in {
        Refusal.WRONG_SHAPE,
        Refusal.TRUNCATED,
        Refusal.TRAILING_BYTES,
    }


def test_the_height_is_the_demanded_one(fib: VectorProof) -> None:
    assert refusal(fib.air, fib.proof, fib.public_values, log_rows=7) is Refusal.WRONG_SHAPE


@pytest.mark.parametrize("height", [0, 24, 25, 31, 63, 127])
def test_a_height_out_of_bounds_is_refused_before_anything_is_allocated(
    fib: VectorProof, height: int
) -> None:
    claimed = fib.proof[:-1] + bytes([height])
    assert refusal(fib.air, claimed, fib.public_values) is Refusal.UNSUPPORTED_HEIGHT


def test_a_height_without_a_hundred_proven_bits_is_refused_as_proven_100(operation: VectorProof) -> None:
    claimed = operation.proof[:-1] + bytes([15])
    code = refusal(operation.air, claimed, operation.public_values, parameters=PROVEN_100)
    assert code is Refusal.UNSUPPORTED_HEIGHT


@pytest.mark.parametrize("power", [0, 1, 63])
def test_an_out_of_domain_point_in_the_trace_domain_is_refused(
    fib: VectorProof, power: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeta = pow(two_adic_generator(6), power, P)

    class ChosenChallenges(Transcript):
        def sample_ext(self) -> Ext:
            return (zeta, 0, 0, 0)

    monkeypatch.setattr("workers.stark.verifier.Transcript", ChosenChallenges)
    with pytest.raises(VerificationError, match="trace domain") as refused:
        verify(fib.air, fib.proof, fib.public_values, parameters=STANDARD)
    assert refused.value.code is Refusal.POINT_IN_DOMAIN


def test_a_query_point_that_is_an_opening_point_is_refused() -> None:
    """Index 1 of a domain of 2^k points is bit-reversed to 2^(k-1): x = 3 · g_1 = -3."""
    rows = to_monty(np.arange(8).reshape(2, 4))
    opening = TreeOpening(rows=rows, path=np.zeros((2, 0, 8), dtype=np.uint32))
    values = np.zeros((4, 4), dtype=np.uint32)
    indices = np.array([0, 1], dtype=np.int64)
    elsewhere = Claim(opening=opening, point=(5, 0, 0, 0), values=values)
    assert reduced_openings([elsewhere], indices, (1, 2, 3, 4)).shape == (2, 4)
    for point in (GENERATOR, P - GENERATOR):
        claim = Claim(opening=opening, point=(point, 0, 0, 0), values=values)
        with pytest.raises(VerificationError) as refused:
            reduced_openings([claim], indices, (1, 2, 3, 4))
        assert refused.value.code is Refusal.POINT_IN_DOMAIN
