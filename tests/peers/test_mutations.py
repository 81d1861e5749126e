"""No mutated proof is accepted, here or by Plonky3: of both AIRs, in every field of the wire, and as raw bytes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest

from bench import plonky3
from kernels.backend import Backend, select
from tests.peers.mutations import ABSENT_FOR_PLONKY3, UNUSED_BY_PLONKY3, Mutant, Mutator, Subject
from tests.peers.proofs import operation_proof, poseidon2_proof
from workers.airs.operation import OperationAir
from workers.airs.poseidon2 import Poseidon2Air
from workers.stark.errors import VerificationError
from workers.stark.parameters import STANDARD, TESTING, Parameters
from workers.stark.verifier import verify

pytestmark = [pytest.mark.usefixtures("peer"), pytest.mark.timeout(1_500)]

_BATCH = 500
"""Mutants that one call of the peer judges: of the longest proofs, 100 MB."""


def _poseidon2(*, per_row: int, log_rows: int, parameters: Parameters, backend: Backend) -> Subject:
    return Subject(
        name=f"poseidon2-{per_row}, 2^{log_rows} rows, {parameters.name}",
        air=Poseidon2Air(per_row=per_row),
        peer_air=f"poseidon2-{per_row}",
        parameters=parameters,
        proof=poseidon2_proof(backend, seed=3, log_rows=log_rows, per_row=per_row, parameters=parameters),
        public=(),
    )


def _operation(*, sizes: list[int], parameters: Parameters, backend: Backend) -> Subject:
    proof, public = operation_proof(backend, seed=7, sizes=sizes, parameters=parameters)
    return Subject(
        name=f"{len(sizes)} operations, 2^{proof[-1]} rows, {parameters.name}",
        air=OperationAir(),
        peer_air="operation",
        parameters=parameters,
        proof=proof,
        public=public,
    )


@pytest.fixture(scope="module")
def backend() -> Backend:
    return select("cpu", threads=1)


@pytest.fixture(scope="module")
def small(backend: Backend) -> list[Subject]:
    """Two queries only: quick to judge. Each has the same fields as a proof in use."""
    return [
        _poseidon2(per_row=1, log_rows=9, parameters=TESTING, backend=backend),
        _operation(sizes=[3, 64], parameters=TESTING, backend=backend),
    ]


@pytest.fixture(scope="module")
def ground(backend: Backend) -> Subject:
    """With work to be done between foldings, so that Plonky3 too looks at those witnesses."""
    parameters = replace(TESTING, name="testing-commit-grinding", commit_pow_bits=5)
    return _poseidon2(per_row=1, log_rows=9, parameters=parameters, backend=backend)


@pytest.fixture(scope="module")
def in_use(backend: Backend) -> list[Subject]:
    """Under the parameters of production: 100 queries, 16 bits of grinding."""
    return [
        _poseidon2(per_row=1, log_rows=5, parameters=STANDARD, backend=backend),
        _poseidon2(per_row=8, log_rows=4, parameters=STANDARD, backend=backend),
        _operation(sizes=[0], parameters=STANDARD, backend=backend),
    ]


def _accepted_here(subject: Subject, mutant: Mutant) -> bool:
    try:
        verify(subject.air, mutant.proof, mutant.public, parameters=subject.parameters)
    except VerificationError:
        return False
    return True


def _judge(subject: Subject, count: int, *, seed: int) -> Counter[str]:
    """Both verifiers on `count` mutants; how many there were of each part."""
    (verdict,) = _peer(subject, [(subject.proof, subject.public)])
    assert verdict.accepted, verdict.detail
    mutator = Mutator(subject, seed=seed)
    parts: Counter[str] = Counter()
    for batch in _batches(mutator.mutants(count)):
        parts.update(mutant.part for mutant in batch)
        here = [f"{m.part}: {m.how}" for m in batch if _accepted_here(subject, m)]
        assert here == [], f"accepted by us, {subject.name}, seed {seed}"
        verdicts = _peer(subject, [(mutant.proof, mutant.public) for mutant in batch])
        there = [
            f"{mutant.part}: {mutant.how}"
            for mutant, verdict in zip(batch, verdicts, strict=True)
            if verdict.accepted != mutator.is_ignored_by_plonky3(mutant)
        ]
        assert there == [], f"not as expected of Plonky3, {subject.name}, seed {seed}"
    untouched = set(mutator.parts) - set(parts)
    assert not untouched, f"no mutant of {sorted(untouched)}"
    return parts


def _peer(subject: Subject, cases: list[tuple[bytes, tuple[int, ...]]]) -> list[plonky3.Verdict]:
    return plonky3.verify_stream(cases, air=subject.peer_air, parameters=subject.parameters.name)


def _batches(mutants: Iterator[Mutant]) -> Iterator[list[Mutant]]:
    while batch := list(islice(mutants, _BATCH)):
        yield batch


def test_a_sample_of_mutated_proofs_is_refused_by_both(small: list[Subject], ground: Subject) -> None:
    for subject in (*small, ground):
        _judge(subject, 120, seed=11)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_over_ten_thousand_mutated_proofs_are_refused_by_both(
    small: list[Subject], ground: Subject, in_use: list[Subject], capsys: pytest.CaptureFixture[str]
) -> None:
    total: Counter[str] = Counter()
    for subject, count in [*((s, 4_000) for s in small), (ground, 1_000), *((s, 1_000) for s in in_use)]:
        total += _judge(subject, count, seed=12)
    assert total.total() >= 10_000
    exceptions = (UNUSED_BY_PLONKY3, *ABSENT_FOR_PLONKY3)
    assert all(total[part] >= 50 for part in exceptions), "the exceptions are seen too"
    with capsys.disabled():
        print(f"\n{total.total()} mutants of {len(total)} parts refused: {dict(total.most_common())}")
